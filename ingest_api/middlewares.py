"""What every request passes, whatever becomes of it: an id, an answer, a line of log, a count."""

from __future__ import annotations

import structlog
from aiohttp import web

from ingest_api.calls import REQUEST_ID_HEADER, Answer, Call, request_id_of
from ingest_api.errors import Problem, problem_of
from ingest_api.interfaces import Clock, Meter
from ingest_api.routing import Routes

log = structlog.get_logger(__name__)


class Answering:
    """The outermost handler: it always answers, and says what it answered."""

    def __init__(self, *, routes: Routes, clock: Clock, meter: Meter) -> None:
        self._routes = routes
        self._clock = clock
        self._meter = meter

    async def answer(self, request: web.Request) -> web.Response:
        """Never raises, except when it is cancelled."""
        started = self._clock.monotonic()
        call = Call(request, request_id_of(request))
        answer = await self._handle(call)
        self._report(call, answer, self._clock.monotonic() - started)
        return _response(call, answer)

    async def _handle(self, call: Call) -> Answer:
        try:
            return await self._routes.find(call).handle(call)
        except Exception as error:  # noqa: BLE001 - the door: what nobody expected is logged, and answered without a word of it
            problem = problem_of(error) or _unexpected(call, error)
            return problem.answer(call.request_id)

    def _report(self, call: Call, answer: Answer, seconds: float) -> None:
        log.info(
            "request.answered",
            request_id=call.request_id,
            key_id=call.key_id,
            route=call.template,
            user=call.user,
            status=int(answer.status),
            code=answer.code,
            seconds=round(seconds, 6),
            bytes=call.body_bytes,
        )
        self._meter.request_answered(
            route=call.template, status=int(answer.status), code=answer.code, seconds=seconds
        )


def _unexpected(call: Call, error: Exception) -> Problem:
    log.error("request.failed", request_id=call.request_id, route=call.template, exc_info=error)
    return Problem("internal_error", "the gateway failed; its log has the request_id")


def _response(call: Call, answer: Answer) -> web.Response:
    headers = {
        "Content-Type": answer.content_type,
        "Cache-Control": "no-store",
        REQUEST_ID_HEADER: call.request_id,
        **call.headers,
        **answer.headers,
    }
    response = web.Response(body=answer.body, status=answer.status, headers=headers)
    if not call.request.content.is_eof():
        # RFC 9110 §10.1.1: whoever is answered before the body was read must know what becomes of the connection.
        response.force_close()
    return response
