"""The REST door: made here, put in an aiohttp application here."""

from __future__ import annotations

from collections.abc import Callable, Collection

from aiohttp import web

from gateway.domain.ingest_keys import ADMIN, BROADCAST, EMIT_ROOM, EMIT_USER, PRESENCE, IngestKey
from gateway.domain.sampling import Sampling
from ingest_api import openapi
from ingest_api.access_log import AccessLog
from ingest_api.auth import Authenticator
from ingest_api.handlers import Handlers
from ingest_api.interfaces import Clock, DedupStore, Meter, PresenceReader, Publisher, RateLimits, Tracer
from ingest_api.pipeline import RestApi
from ingest_api.request import Handler, Request, Response, Route
from ingest_api.routing import CatchAll, Routes


def create_rest_api(
    *,
    publisher: Publisher,
    presence: PresenceReader,
    dedup: DedupStore,
    rates: RateLimits,
    keys: Callable[[str], IngestKey | None],
    clock: Clock,
    meter: Meter,
    namespaces: Collection[str],
    max_body_bytes: int,
    body_timeout_seconds: float,
    path_prefix: str = "",
    is_serving: Callable[[], bool] = lambda: True,
    sampling: Sampling | None = None,
    tracer: Tracer | None = None,
) -> RestApi:
    """The door with all its calls.

    ``keys`` looks up an ingest key by its id, for every request anew. ``path_prefix`` is what a proxy strips from
    the path that was signed. Until ``is_serving`` no request is judged, and each may be repeated. Of requests that
    went well ``sampling`` says which are logged: None, all are. ``tracer`` None: nobody collects spans. Every path is
    answered here, and nothing of it depends on aiohttp's middlewares.
    """
    admission = Authenticator(
        keys=keys,
        dedup=dedup,
        rates=rates,
        clock=clock,
        max_body_bytes=max_body_bytes,
        body_timeout_seconds=body_timeout_seconds,
        path_prefix=path_prefix,
        is_serving=is_serving,
    )
    handlers = Handlers(
        publisher=publisher, presence=presence, dedup=dedup, clock=clock, namespaces=namespaces
    )
    return RestApi(
        routes=Routes(_routes(admission, handlers)),
        clock=clock,
        access_log=AccessLog(meter=meter, sampling=sampling or Sampling()),
        tracer=tracer,
    )


def create_not_found_api(*, clock: Clock, meter: Meter) -> RestApi:
    """A door that knows no path: for a port that backends have no business at."""
    return RestApi(routes=Routes(()), clock=clock, access_log=AccessLog(meter=meter, sampling=Sampling()))


def create_app(rest_api: RestApi) -> web.Application:
    """The door as an aiohttp application of its own."""
    app = web.Application()
    mount(rest_api, app)
    return app


def mount(rest_api: RestApi, app: web.Application) -> None:
    """Let the door answer every path that no other resource of an application takes."""
    app.router.register_resource(CatchAll(rest_api.handle_aiohttp))


def _routes(authenticator: Authenticator, handlers: Handlers) -> tuple[Route, ...]:
    guard = authenticator.require
    return (
        Route("POST", "/emit/user/{id}", guard((EMIT_USER,), handlers.emit_to_user)),
        # A key that may push to users only may still name their rooms here.
        Route("POST", "/emit/room", guard((EMIT_ROOM, EMIT_USER), handlers.emit_to_room)),
        Route("POST", "/broadcast", guard((BROADCAST,), handlers.broadcast)),
        Route("GET", "/presence/{id}", guard((PRESENCE,), handlers.presence)),
        Route("POST", "/disconnect/user/{id}", guard((ADMIN,), handlers.disconnect)),
        Route("GET", openapi.PATH, _describe()),
    )


def _describe() -> Handler:
    headers = {"Cache-Control": "public, max-age=3600"}
    answer = Response(openapi.text().encode(), content_type=openapi.CONTENT_TYPE, headers=headers)

    async def describe(_: Request) -> Response:
        return answer

    return describe
