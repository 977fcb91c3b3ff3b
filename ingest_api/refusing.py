"""Requests that never reached the door: HTTP forbids them, or nothing is there to answer them.

They get an answer, a line of log and a count like every other, so that a caller can ask about it and an operator sees
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import structlog

from ingest_api.calls import REQUEST_ID_HEADER, request_id_among
from ingest_api.errors import PROBLEM_TYPE, problem_body
from ingest_api.interfaces import Meter
from ingest_api.reporting import outcome_of

log = structlog.get_logger(__name__)

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
