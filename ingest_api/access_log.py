"""What a request leaves behind when it is over: one line of log, one count, one span if anybody collects them.

Requests that never reached the door: HTTP forbids them, or nothing is there to answer them.

They get an answer, a line of log and a count like every other, so that a caller can ask about it and an operator sees
it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog

from gateway.domain.sampling import Sampling
from ingest_api.errors import PROBLEM_TYPE, problem_body
from ingest_api.interfaces import Meter, Span
from ingest_api.request import REQUEST_ID_HEADER, Request, Response, find_request_id

_REJECTED: Final = 400
_FAILED: Final = 500

log = structlog.get_logger(__name__)


class AccessLog:
    """Tells of requests. Of those that went well ``sampling`` says which get a line; all others get one."""

    def __init__(self, *, meter: Meter, sampling: Sampling) -> None:
        self._meter = meter
        self._sampling = sampling
        # Bound once: the logger of a module is looked up anew each time, also for a line that is not written.
        self._log = structlog.get_logger(__name__).bind()

    def request_finished(
        self, request: Request, response: Response, seconds: float, span: Span | None
    ) -> None:
        """It was answered."""
        status, code = int(response.status), response.code
        self._write(request, status, code, seconds)
        self._meter.request_finished(
            route=request.template,
            status=status,
            code=code,
            seconds=seconds,
            key=request.key_id,
            signed=request.is_signed,
        )
        if span is not None:
            span.end(route=request.template, status=status, code=code)

    def request_cancelled(self, request: Request, seconds: float, span: Span | None) -> None:
        """Nobody waited for the answer any more: the process stops."""
        self._log.warning("request.cancelled", **_log_fields(request, seconds))
        if span is not None:
            span.end(route=request.template, status=None, code="cancelled")

    def _write(self, request: Request, status: int, code: str, seconds: float) -> None:
        write = self._log.warning
        sampled: dict[str, float] = {}
        if status < _FAILED:
            if not self._log.is_enabled_for(logging.INFO):
                return
            write = self._log.info
        if status < _REJECTED:
            if not self._sampling.should_log(
                request.request_id if request.trace is None else request.trace.trace_id
            ):
                return
            sampled = self._sampling.fields
        facts = _log_fields(request, seconds)
        write(
            "request.answered",
            status=status,
            code=code,
            outcome=_outcome(request, status),
            **facts,
            **sampled,
        )


def outcome_of(status: int) -> str:
    """One word for a status: ok, refused (the caller's to mend) or failed (ours)."""
    if status < _REJECTED:
        return "ok"
    return "refused" if status < _FAILED else "failed"


def _outcome(request: Request, status: int) -> str:
    if request.publish_result is not None and request.publish_result.replayed:
        return "replayed"
    return outcome_of(status)


def _log_fields(request: Request, seconds: float) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "request_id": request.request_id,
        "key_id": request.key_id,
        "route": request.template,
        "user": request.user,
        "seconds": round(seconds, 6),
        "bytes": request.body_bytes,
    }
    if request.publish_result is not None:
        facts["message_id"] = request.publish_result.id
        facts["connections"] = request.publish_result.connections
    if request.trace is not None:
        facts["trace_id"] = request.trace.trace_id
        facts["span_id"] = request.trace.span_id
    return facts


ROUTE: Final = "unmatched"


class RejectedRequestLog:
    """Satisfies ``gateway.transport.http.Refuse``."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __call__(
        self, status: int, code: str, detail: str, request_ids: Sequence[str] = ()
    ) -> tuple[dict[str, str], bytes]:
        """The headers and the body of the answer; ``request_ids`` are the X-Request-Id headers of the request."""
        request_id = find_request_id(request_ids)
        outcome = outcome_of(status)
        write = log.warning if outcome == "failed" else log.info
        write(
            "request.answered",
            request_id=request_id,
            route=ROUTE,
            status=int(status),
            code=code,
            outcome=outcome,
        )
        self._meter.request_finished(route=ROUTE, status=int(status), code=code)
        headers = {"Content-Type": PROBLEM_TYPE, "Cache-Control": "no-store", REQUEST_ID_HEADER: request_id}
        return headers, problem_body(HTTPStatus(status), code, detail, request_id=request_id)
