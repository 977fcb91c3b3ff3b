"""What every request passes, whatever becomes of it: an id, its place in a trace, an answer, and word of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog
from aiohttp import web
from multidict import CIMultiDictProxy

from gateway.domain.traces import trace_among
from ingest_api.bodies import StreamedBody
from ingest_api.calls import REQUEST_ID_HEADER, TRACE_HEADER, Answer, Call, Incoming, request_id_among
from ingest_api.errors import Problem, problem_of
from ingest_api.interfaces import Clock, Span, Tracer
from ingest_api.reporting import Reporting
from ingest_api.routing import Routes

log = structlog.get_logger(__name__)


_METHODS: Final = ("POST", "GET")
Reply = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body."""


class Answering:
    """The outermost handler: it always answers, and says what it answered."""

    def __init__(
        self, *, routes: Routes, clock: Clock, reporting: Reporting, tracer: Tracer | None = None
    ) -> None:
        """``tracer`` None: nobody collects traces, and requests keep the one that they name."""
        self._routes = routes
        self._clock = clock
        self._reporting = reporting
        self._tracer = tracer

    @property
    def templates(self) -> tuple[str, ...]:
        """The patterns of the paths that there are."""
        return self._routes.templates

    async def answer(self, request: web.Request) -> web.Response:
        """The answer to a request that came through aiohttp. Never raises, except when it is cancelled."""
        body = StreamedBody(request)
        status, headers, content = await self.answer_whole(
            request.method, request.raw_path, request.headers, body
        )
        response = web.Response(body=content, status=status, headers=headers)
        if not request.content.is_eof():
            # RFC 9110 §10.1.1: whoever is answered before the body was read must know what becomes of the connection.
            response.force_close()
        return response

    def takes(self, method: str, target: str) -> bool:
        """Whether a whole request may come by the short way (``gateway.transport.short_way.ShortWay``)."""
        return method in _METHODS and self._routes.knows(target)

    async def answer_whole(
        self, method: str, target: str, headers: CIMultiDictProxy[str], body: bytes | Incoming
    ) -> Reply:
        """The answer to a request, whole or not. Never raises, except when it is cancelled."""
        started = self._clock.monotonic()
        request_id = request_id_among(headers.getall(REQUEST_ID_HEADER, ()))
        # As the standard says, one that is malformed is no reason to refuse anything: the request has none then.
        trace = trace_among(headers.getall(TRACE_HEADER, ()))
        call = Call(method, target, headers, body, request_id, trace)
        span = None if self._tracer is None else self._begin_span(self._tracer, call)
        try:
            answer = await self._routes.find(call).handle(call)
        except asyncio.CancelledError:
            self._reporting.cancelled(call, self._clock.monotonic() - started, span)
            raise
        except Exception as error:  # noqa: BLE001 - the door: what nobody expected is logged, and answered without a word of it
            problem = problem_of(error) or _unexpected(call, error)
            answer = problem.answer(request_id)
        self._reporting.answered(call, answer, self._clock.monotonic() - started, span)
        return answer.status, _headers(call, answer), answer.body

    def _begin_span(self, tracer: Tracer, call: Call) -> Span:
        span = tracer.begin(call.method, call.trace)
        call.trace = span.trace
        return span


def _unexpected(call: Call, error: Exception) -> Problem:
    log.error("request.failed", request_id=call.request_id, route=call.template, exc_info=error)
    return Problem("internal_error", "the gateway failed; its log has the request_id")


def _headers(call: Call, answer: Answer) -> Mapping[str, str]:
    headers = {
        "Content-Type": answer.content_type,
        "Cache-Control": "no-store",
        REQUEST_ID_HEADER: call.request_id,
    }
    if call.answer_headers:
        headers.update(call.answer_headers)
    if answer.headers:
        headers.update(answer.headers)
    return headers
