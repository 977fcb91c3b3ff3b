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
from ingest_api.calls import REQUEST_ID_HEADER, Answer, Call, request_id_among
from ingest_api.errors import PROBLEM_TYPE, problem_body
from ingest_api.interfaces import Meter, Span

_REFUSED: Final = 400
_FAILED: Final = 500

log = structlog.get_logger(__name__)


class Reporting:
    """Tells of requests. Of those that went well ``sampling`` says which get a line; all others get one."""

    def __init__(self, *, meter: Meter, sampling: Sampling) -> None:
        self._meter = meter
        self._sampling = sampling
        # Bound once: the logger of a module is looked up anew each time, also for a line that is not written.
        self._log = structlog.get_logger(__name__).bind()

    def answered(self, call: Call, answer: Answer, seconds: float, span: Span | None) -> None:
        """It was answered."""
        status, code = int(answer.status), answer.code
        self._write(call, status, code, seconds)
        self._meter.request_answered(
            route=call.template,
            status=status,
            code=code,
            seconds=seconds,
            key=call.key_id,
            signed=call.is_signed,
        )
        if span is not None:
            span.end(route=call.template, status=status, code=code)

    def cancelled(self, call: Call, seconds: float, span: Span | None) -> None:
        """Nobody waited for the answer any more: the process stops."""
        self._log.warning("request.cancelled", **_facts(call, seconds))
        if span is not None:
            span.end(route=call.template, status=None, code="cancelled")

    def _write(self, call: Call, status: int, code: str, seconds: float) -> None:
        write = self._log.warning
        sampled: dict[str, float] = {}
        if status < _FAILED:
            if not self._log.is_enabled_for(logging.INFO):
                return
            write = self._log.info
        if status < _REFUSED:
            if not self._sampling.keeps(call.request_id if call.trace is None else call.trace.trace_id):
                return
            sampled = self._sampling.facts
        facts = _facts(call, seconds)
        write(
            "request.answered", status=status, code=code, outcome=_outcome(call, status), **facts, **sampled
        )


def outcome_of(status: int) -> str:
    """One word for a status: ok, refused (the caller's to mend) or failed (ours)."""
    if status < _REFUSED:
        return "ok"
    return "refused" if status < _FAILED else "failed"


def _outcome(call: Call, status: int) -> str:
    if call.receipt is not None and call.receipt.replayed:
        return "replayed"
    return outcome_of(status)


def _facts(call: Call, seconds: float) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "request_id": call.request_id,
        "key_id": call.key_id,
        "route": call.template,
        "user": call.user,
        "seconds": round(seconds, 6),
        "bytes": call.body_bytes,
    }
    if call.receipt is not None:
        facts["message_id"] = call.receipt.id
        facts["connections"] = call.receipt.connections
    if call.trace is not None:
        facts["trace_id"] = call.trace.trace_id
        facts["span_id"] = call.trace.span_id
    return facts


ROUTE: Final = "unmatched"


class Refusing:
    """Satisfies ``gateway.transport.http.Refuse``."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __call__(
        self, status: int, code: str, detail: str, request_ids: Sequence[str] = ()
    ) -> tuple[dict[str, str], bytes]:
        """The headers and the body of the answer; ``request_ids`` are the X-Request-Id headers of the request."""
        request_id = request_id_among(request_ids)
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
        self._meter.request_answered(route=ROUTE, status=int(status), code=code)
        headers = {"Content-Type": PROBLEM_TYPE, "Cache-Control": "no-store", REQUEST_ID_HEADER: request_id}
        return headers, problem_body(HTTPStatus(status), code, detail, request_id=request_id)
