"""Build the REST API with its table of routes, and mount it in an aiohttp application."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from aiohttp import web

from gateway.domain.bounded_body import ArrivingBodies
from gateway.domain.ingest_keys import ADMIN, BROADCAST, EMIT_ROOM, EMIT_USER, PRESENCE, IngestKey
from gateway.domain.sampling import Sampling
from ingest_api import openapi
from ingest_api.access_log import AccessLog, RejectionLimit
from ingest_api.auth import Authenticator
from ingest_api.batch import BatchHandlers
from ingest_api.interfaces import (
    AckWaits,
    AnswerStore,
    Clock,
    DedupStore,
    EventSchemas,
    PresenceReader,
    Publisher,
    RateLimits,
    RequestMetrics,
    Tracer,
    WebhookQueues,
)
from ingest_api.pipeline import RestApi
from ingest_api.plain_push import PlainPushes
from ingest_api.request import Group, Handler, Request, Response, Route
from ingest_api.routing import CatchAll, Routes
from ingest_api.webhooks import WebhookHandlers


def create_rest_api(
    *,
    publisher: Publisher,
    groups: Iterable[Group],
    presence: PresenceReader,
    dedup: DedupStore,
    rates: RateLimits,
    queues: WebhookQueues,
    answers: AnswerStore,
    ack_waits: AckWaits,
    keys: Callable[[str], IngestKey | None],
    clock: Clock,
    metrics: RequestMetrics,
    namespaces: Collection[str],
    max_body_bytes: int,
    body_timeout_seconds: float,
    path_prefix: str = "",
    event_schemas: Callable[[], EventSchemas | None] = lambda: None,
    is_serving: Callable[[], bool] = lambda: True,
    sampling: Sampling | None = None,
    tracer: Tracer | None = None,
    explains_signatures: bool = False,
    arriving: ArrivingBodies | None = None,
    rejections: RejectionLimit | None = None,
) -> RestApi:
    """Build the REST API with all its routes.

    ``groups`` are further calls. ``keys`` looks up an ingest key by its id, once for each request. ``path_prefix`` is
    the part that a proxy strips from the signed path. While ``is_serving`` returns false, every signed route responds
    503 ``broker_unavailable``. ``sampling`` chooses which successful requests are logged; None: all. ``event_schemas``
    returns those of the event catalogue in effect, if any. ``explains_signatures`` is for developers (``auth``).
    ``arriving`` bounds all bodies that arrive at once, ``rejections`` the lines about rejected requests.
    """
    authenticator = Authenticator(
        keys=keys,
        dedup=dedup,
        rates=rates,
        clock=clock,
        max_body_bytes=max_body_bytes,
        body_timeout_seconds=body_timeout_seconds,
        path_prefix=path_prefix,
        is_serving=is_serving,
        explains_signatures=explains_signatures,
    )
    access_log = AccessLog(metrics=metrics, sampling=sampling or Sampling(), rejections=rejections)
    handlers = BatchHandlers(
        publisher=publisher,
        presence=presence,
        dedup=dedup,
        clock=clock,
        namespaces=namespaces,
        ack_waits=ack_waits,
        event_schemas=event_schemas,
    )
    webhooks = WebhookHandlers(queues=queues, answers=answers, dedup=dedup, clock=clock)
    own = (*_routes(authenticator, handlers), *_webhook_routes(authenticator, webhooks))
    routes = Routes([*own, *(route for group in groups for route in group(authenticator.require))])
    plain = PlainPushes(authenticator, publisher, namespaces=namespaces, event_schemas=event_schemas)
    return RestApi(routes, clock, access_log, plain_pushes=plain, tracer=tracer, arriving=arriving)


def create_not_found_api(
    *, clock: Clock, metrics: RequestMetrics, rejections: RejectionLimit | None = None
) -> RestApi:
    """Build a REST API without routes, for a port that is not for backends: every path is a 404."""
    access_log = AccessLog(metrics=metrics, sampling=Sampling(), rejections=rejections)
    return RestApi(Routes(()), clock, access_log)


def mount(rest_api: RestApi, app: web.Application) -> None:
    """Let the REST API handle every path that matches no other resource of an application."""
    app.router.register_resource(CatchAll(rest_api.handle_aiohttp))


def _routes(authenticator: Authenticator, handlers: BatchHandlers) -> tuple[Route, ...]:
    require = authenticator.require
    return (
        Route("POST", "/emit/user/{id}", require((EMIT_USER,), handlers.emit_to_user)),
        # A key with the scope emit:user alone may name rooms of users here.
        Route("POST", "/emit/room", require((EMIT_ROOM, EMIT_USER), handlers.emit_to_room)),
        Route("POST", "/emit/users", require((EMIT_USER,), handlers.emit_to_users)),
        Route("POST", "/batch", require((EMIT_USER, EMIT_ROOM, BROADCAST), handlers.batch)),
        Route("POST", "/broadcast", require((BROADCAST,), handlers.broadcast)),
        Route("GET", "/presence/{id}", require((PRESENCE,), handlers.presence)),
        Route("POST", "/disconnect/user/{id}", require((ADMIN,), handlers.disconnect)),
        Route("GET", openapi.PATH, _describe_handler()),
    )


def _webhook_routes(authenticator: Authenticator, handlers: WebhookHandlers) -> tuple[Route, ...]:
    require = authenticator.require
    of_webhook: Final = "/webhooks/{id}"
    return (
        Route("GET", "/webhooks", require((ADMIN,), handlers.webhooks)),
        Route(
            "GET", f"{of_webhook}/dead", require((ADMIN,), handlers.dead_letters, has_query=True), "webhook"
        ),
        Route("POST", f"{of_webhook}/replay", require((ADMIN,), handlers.replay), "webhook"),
        Route("POST", f"{of_webhook}/drop", require((ADMIN,), handlers.drop), "webhook"),
    )


def _describe_handler() -> Handler:
    headers = {"Cache-Control": "public, max-age=3600"}
    response = Response(openapi.text().encode(), content_type=openapi.CONTENT_TYPE, headers=headers)

    async def describe(_: Request) -> Response:
        return response

    return describe
