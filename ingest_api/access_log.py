"""Record each finished request: one log line, one count, and one span if spans are collected.

``AccessLog`` records the requests that ``RestApi`` handled. ``RejectedRequestLog`` builds and records the responses to
requests that never reach it: those that break HTTP, and those that arrive while no handler is available. Their log
line and count have the same form, so that a caller's question about a request id can be answered from the log.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from multidict import CIMultiDictProxy, istr

from gateway.domain.sampling import LineLimiter, Sampling
from ingest_api.errors import PROBLEM_TYPE, problem_body
from ingest_api.interfaces import RequestMetrics, Span
from ingest_api.request import REQUEST_ID_HEADER, UNMATCHED, Request, Response

ClientOf = Callable[[str | None, Sequence[str]], str]
"""Returns the address of a client from that of the peer and the lines of ``X-Forwarded-For``."""
_FORWARDED_FOR: Final = istr("X-Forwarded-For")
_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500
_random_bits: Final = random.Random().getrandbits  # noqa: S311  # an id, not a secret
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

log = structlog.get_logger(__name__)


class RejectionLimit:
    """Limits the lines about rejected requests, by the code of the answer and the client address."""

    def __init__(self, lines: LineLimiter, client_of: ClientOf) -> None:
        """``client_of`` returns the address of the client of a request."""
        self._lines = lines
        self._client_of = client_of

    def allows(self, code: str, remote: str | None, headers: CIMultiDictProxy[str]) -> bool:
        """Return whether a line is to be written."""
        return self._lines.allows(
            "request.answered", code, self._client_of(remote, headers.getall(_FORWARDED_FOR, ()))
        )


class AccessLog:
    """Logs, counts and traces finished requests.

    ``sampling`` chooses which successful requests get a log line.
    """

    def __init__(
        self, *, metrics: RequestMetrics, sampling: Sampling, rejections: RejectionLimit | None = None
    ) -> None:
        """``rejections`` limits the lines about requests that were not successful; None: all are written."""
        self._metrics = metrics
        self._rejections = rejections
        self._sampling = sampling
        self._is_sampled = sampling.rate < 1.0
        # Bound once: a module's logger is looked up for each line, even for one that is not written.
        self._log = structlog.get_logger(__name__).bind()

    def request_finished(
        self, request: Request, response: Response, seconds: float, span: Span | None
    ) -> None:
        """Record a request that got a response. ``seconds`` is its duration."""
        status, code = int(response.status), response.code
        self._write(request, status, code, seconds)
        self._metrics.request_finished(
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
        """Record a request that was cancelled before its response, because the process stops."""
        self._log.warning("request.cancelled", **_log_fields(request, seconds))
        if span is not None:
            span.end(route=request.template, status=None, code="cancelled")

    def _write(self, request: Request, status: int, code: str, seconds: float) -> None:
        write = self._log.warning
        sampled: dict[str, float] = {}
        if status < _SERVER_ERROR:
            if not self._log.is_enabled_for(logging.INFO):
                return
            write = self._log.info
        if status < _CLIENT_ERROR:
            if self._is_sampled and not self._sampling.should_log(
                request.request_id if request.trace is None else request.trace.trace_id
            ):
                return
            sampled = self._sampling.fields
        elif self._rejections is not None and not self._rejections.allows(
            code, request.remote, request.headers
        ):
            return
        fields = _log_fields(request, seconds)
        write(
            "request.answered",
            status=status,
            code=code,
            outcome=_outcome(request, status),
            **fields,
            **sampled,
        )


def outcome_of(status: int) -> str:
    """The outcome of a status in one word: ok, rejected (4xx, the caller's error) or failed (5xx, the gateway's)."""
    if status < _CLIENT_ERROR:
        return "ok"
    return "rejected" if status < _SERVER_ERROR else "failed"


def _outcome(request: Request, status: int) -> str:
    if request.is_repeat or (request.publish_result is not None and request.publish_result.replayed):
        return "replayed"
    return outcome_of(status)


def _log_fields(request: Request, seconds: float) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "request_id": request.request_id,
        "key_id": request.key_id,
        "route": request.template,
        "user": request.user,
        "seconds": round(seconds, 6),
        "bytes": request.body_bytes,
    }
    if request.webhook is not None:
        fields["webhook"] = request.webhook
    if request.publish_result is not None:
        fields["message_id"] = request.publish_result.id
        fields["connections"] = request.publish_result.connections
    if request.ack_result is not None:
        fields["asked"] = request.ack_result.asked
        fields["acked"] = request.ack_result.acked
        fields["complete"] = request.ack_result.is_complete
    if request.messages is not None:
        fields["messages"] = request.messages
    if request.trace is not None:
        fields["trace_id"] = request.trace.trace_id
        fields["span_id"] = request.trace.span_id
    return fields


class RejectedRequestLog:
    """Builds the response to a request that never reaches ``RestApi``, logs it and counts it.

    Satisfies ``gateway.transport.http.Reject``.
    """

    def __init__(self, metrics: RequestMetrics, *, rejections: RejectionLimit | None = None) -> None:
        """``rejections`` limits the lines; None: all are written."""
        self._metrics = metrics
        self._rejections = rejections

    def __call__(
        self, status: int, code: str, detail: str, given: CIMultiDictProxy[str], remote: str | None
    ) -> tuple[dict[str, str], bytes]:
        """Return headers and body of the response to a request of this peer with these headers."""
        request_id = find_request_id(given.getall(REQUEST_ID_HEADER, ()))
        if self._rejections is None or self._rejections.allows(code, remote, given):
            self._write(request_id, status, code, detail)
        self._metrics.request_finished(route=UNMATCHED, status=int(status), code=code)
        headers = {"Content-Type": PROBLEM_TYPE, "Cache-Control": "no-store", REQUEST_ID_HEADER: request_id}
        return headers, problem_body(HTTPStatus(status), code, detail, request_id=request_id)

    def _write(self, request_id: str, status: int, code: str, detail: str) -> None:
        outcome = outcome_of(status)
        write = log.warning if outcome == "failed" else log.info
        write(
            "request.answered",
            request_id=request_id,
            route=UNMATCHED,
            status=int(status),
            code=code,
            outcome=outcome,
            detail=detail,
        )


def find_request_id(given: Sequence[str]) -> str:
    """Return the caller's request id if it is well-formed, else a new one. ``given`` are the X-Request-Id headers."""
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return f"{_random_bits(128):032x}"
