"""The REST door: made here, put in an aiohttp application here."""

from __future__ import annotations

from collections.abc import Callable, Collection

from aiohttp import web

from gateway.domain.keys import ADMIN, BROADCAST, EMIT_ROOM, EMIT_USER, PRESENCE, IngestKey
from gateway.domain.sampling import Sampling
from ingest_api import openapi
from ingest_api.admission import Admission
from ingest_api.calls import Answer, Call, Handler, Route
from ingest_api.handlers import Handlers
from ingest_api.interfaces import Claims, Clock, Meter, PresenceReader, Publisher, Rates, Tracer
from ingest_api.middlewares import Answering
from ingest_api.reporting import Reporting
from ingest_api.routing import EveryPath, Routes


def create_door(
    *,
    publisher: Publisher,
    presence: PresenceReader,
    claims: Claims,
    rates: Rates,
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
) -> Answering:
    """The door with all its calls.

    ``keys`` looks up an ingest key by its id, for every request anew. ``path_prefix`` is what a proxy strips from
    the path that was signed. Until ``is_serving`` no request is judged, and each may be repeated. Of requests that
    went well ``sampling`` says which are logged: None, all are. ``tracer`` None: nobody collects spans. Every path is
    answered here, and nothing of it depends on aiohttp's middlewares.
    """
    admission = Admission(
        keys=keys,
        claims=claims,
        rates=rates,
        clock=clock,
        max_body_bytes=max_body_bytes,
        body_timeout_seconds=body_timeout_seconds,
        path_prefix=path_prefix,
        is_serving=is_serving,
    )
    handlers = Handlers(
        publisher=publisher, presence=presence, claims=claims, clock=clock, namespaces=namespaces
    )
    return Answering(
        routes=Routes(_routes(admission, handlers)),
        clock=clock,
        reporting=Reporting(meter=meter, sampling=sampling or Sampling()),
        tracer=tracer,
    )


def create_empty_door(*, clock: Clock, meter: Meter) -> Answering:
    """A door that knows no path: for a port that backends have no business at."""
    return Answering(routes=Routes(()), clock=clock, reporting=Reporting(meter=meter, sampling=Sampling()))


def create_app(door: Answering) -> web.Application:
    """The door as an aiohttp application of its own."""
    app = web.Application()
    mount(door, app)
    return app


def mount(door: Answering, app: web.Application) -> None:
    """Let the door answer every path that no other resource of an application takes."""
    app.router.register_resource(EveryPath(door.answer))


def _routes(admission: Admission, handlers: Handlers) -> tuple[Route, ...]:
    guard = admission.guard
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
    answer = Answer(openapi.text().encode(), content_type=openapi.CONTENT_TYPE, headers=headers)

    async def describe(_: Call) -> Answer:
        return answer

    return describe
