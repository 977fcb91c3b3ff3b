"""What every request passes, whatever becomes of it: an id, its place in a trace, an answer, and word of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog
from aiohttp import web
from multidict import CIMultiDictProxy

from gateway.domain.traces import find_trace
from ingest_api.access_log import AccessLog
from ingest_api.body import StreamedBody
from ingest_api.errors import Problem, problem_of
from ingest_api.interfaces import Clock, Span, Tracer
from ingest_api.request import REQUEST_ID_HEADER, TRACE_HEADER, BodyStream, Request, Response, find_request_id
from ingest_api.routing import Routes

log = structlog.get_logger(__name__)


_METHODS: Final = ("POST", "GET")
Reply = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body."""


class RestApi:
    """The outermost handler: it always answers, and says what it answered."""

    def __init__(
        self, *, routes: Routes, clock: Clock, access_log: AccessLog, tracer: Tracer | None = None
    ) -> None:
        """``tracer`` None: nobody collects traces, and requests keep the one that they name."""
        self._routes = routes
        self._clock = clock
        self._access_log = access_log
        self._tracer = tracer

    @property
    def templates(self) -> tuple[str, ...]:
        """The patterns of the paths that there are."""
        return self._routes.templates

    async def handle_aiohttp(self, request: web.Request) -> web.Response:
        """The answer to a request that came through aiohttp. Never raises, except when it is cancelled."""
        body = StreamedBody(request)
        status, headers, content = await self.handle(request.method, request.raw_path, request.headers, body)
        response = web.Response(body=content, status=status, headers=headers)
        if not request.content.is_eof():
            # RFC 9110 §10.1.1: whoever is answered before the body was read must know what becomes of the connection.
            response.force_close()
        return response

    def matches(self, method: str, target: str) -> bool:
        """Whether a whole request may come by the short way (``gateway.transport.fast_path.ShortWay``)."""
        return method in _METHODS and self._routes.knows(target)

    async def handle(
        self, method: str, target: str, headers: CIMultiDictProxy[str], body: bytes | BodyStream
    ) -> Reply:
        """The answer to a request, whole or not. Never raises, except when it is cancelled."""
        started = self._clock.monotonic()
        request_id = find_request_id(headers.getall(REQUEST_ID_HEADER, ()))
        # As the standard says, one that is malformed is no reason to refuse anything: the request has none then.
        trace = find_trace(headers.getall(TRACE_HEADER, ()))
        call = Request(method, target, headers, body, request_id, trace)
        span = None if self._tracer is None else self._begin_span(self._tracer, call)
        try:
            answer = await self._routes.find(call).handle(call)
        except asyncio.CancelledError:
            self._access_log.request_cancelled(call, self._clock.monotonic() - started, span)
            raise
        except Exception as error:  # noqa: BLE001 - the door: what nobody expected is logged, and answered without a word of it
            problem = problem_of(error) or _unexpected(call, error)
            answer = problem.response(request_id)
        self._access_log.request_finished(call, answer, self._clock.monotonic() - started, span)
        return answer.status, _headers(call, answer), answer.body

    def _begin_span(self, tracer: Tracer, request: Request) -> Span:
        span = tracer.begin(request.method, request.trace)
        request.trace = span.trace
        return span


def _unexpected(request: Request, error: Exception) -> Problem:
    log.error("request.failed", request_id=request.request_id, route=request.template, exc_info=error)
    return Problem("internal_error", "the gateway failed; its log has the request_id")


def _headers(request: Request, response: Response) -> Mapping[str, str]:
    headers = {
        "Content-Type": response.content_type,
        "Cache-Control": "no-store",
        REQUEST_ID_HEADER: request.request_id,
    }
    if request.response_headers:
        headers.update(request.response_headers)
    if response.headers:
        headers.update(response.headers)
    return headers
