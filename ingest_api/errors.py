"""The error codes of the REST API with their statuses, and errors as application/problem+json (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from gateway.domain.errors import (
    BrokerTimeout,
    BrokerUnavailable,
    FreshnessUnknown,
    IdempotencyConflict,
    NonceReplayed,
    OfflineQueueFull,
    QueueFull,
    TooManyAckWaits,
)
from ingest_api.request import Response
from ingest_api.signing import SCHEME, SignatureRejected

PROBLEM_TYPE: Final = "application/problem+json"

# The phrases of RFC 9110 §15.5, which Python has since 3.13.
_TITLES: Final = {413: "Content Too Large", 422: "Unprocessable Content"}

# The errors' own messages may name hosts of the operator, so a backend gets these instead.
_BROKER_DETAILS: Final = {
    BrokerUnavailable.code: "the request was not accepted and has no effect; sign it anew and repeat it later",
    FreshnessUnknown.code: "nonces may be lost or a clock was set, so the timestamp does not show that the request is"
    " new; it has no effect: sign it anew after Retry-After seconds and repeat it",
    BrokerTimeout.code: "it is unknown whether the request was accepted; only a repeat with the same"
    " Idempotency-Key is sure to take effect once",
}

_FULL_QUEUES: Final = {
    QueueFull: ("webhook_queue_full", "the queue of the webhook is full; nothing was changed"),
    OfflineQueueFull: (
        "offline_queue_full",
        "as much is kept for users as may be; nothing was accepted: push without a ttl, or repeat it later",
    ),
}

STATUSES: Final[Mapping[str, HTTPStatus]] = {
    "bad_request": HTTPStatus.BAD_REQUEST,
    "invalid_path": HTTPStatus.BAD_REQUEST,
    "invalid_query": HTTPStatus.BAD_REQUEST,
    "invalid_idempotency_key": HTTPStatus.BAD_REQUEST,
    "invalid_json": HTTPStatus.BAD_REQUEST,
    "missing_signature": HTTPStatus.UNAUTHORIZED,
    "unknown_key": HTTPStatus.UNAUTHORIZED,
    "timestamp_out_of_range": HTTPStatus.UNAUTHORIZED,
    "bad_signature": HTTPStatus.UNAUTHORIZED,
    "replayed_request": HTTPStatus.UNAUTHORIZED,
    "missing_scope": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "unknown_webhook": HTTPStatus.NOT_FOUND,
    "unknown_connection": HTTPStatus.NOT_FOUND,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "request_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "body_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "idempotency_conflict": HTTPStatus.CONFLICT,
    "body_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "unsupported_encoding": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "unsupported_expectation": HTTPStatus.EXPECTATION_FAILED,
    "invalid_body": HTTPStatus.UNPROCESSABLE_ENTITY,
    "unknown_event": HTTPStatus.UNPROCESSABLE_ENTITY,
    "members_not_listed": HTTPStatus.UNPROCESSABLE_ENTITY,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "headers_too_large": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "overloaded": HTTPStatus.SERVICE_UNAVAILABLE,
    "offline_queue_full": HTTPStatus.SERVICE_UNAVAILABLE,
    "webhook_queue_full": HTTPStatus.SERVICE_UNAVAILABLE,
    "broker_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "broker_timeout": HTTPStatus.SERVICE_UNAVAILABLE,
    "freshness_unknown": HTTPStatus.SERVICE_UNAVAILABLE,
    "unsupported_transfer_encoding": HTTPStatus.NOT_IMPLEMENTED,
    "unsupported_version": HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
}
"""Every error code in a response, and its status. Codes are stable, the sentences in ``detail`` are not.

``request_timeout``, ``headers_too_large``, ``unsupported_transfer_encoding``, ``unsupported_version`` and most
``bad_request`` are responses of the HTTP server to requests that never reach the REST API.
"""

FieldErrors = Mapping[str, Sequence[str]]
"""Path of a field (``rooms.3``) to sentences about its errors."""


class Problem(Exception):
    """An error response. ``code`` is one of ``STATUSES``; ``members`` are added to the problem document."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: FieldErrors | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.errors = errors
        self.members = members or {}

    def response(self, request_id: str) -> Response:
        """Return the response with this problem as its body."""
        status = STATUSES[self.code]
        body = problem_body(
            status, self.code, self.detail, errors=self.errors, request_id=request_id, **self.members
        )
        return Response(body, status=status, code=self.code, content_type=PROBLEM_TYPE, headers=self.headers)


def problem_body(
    status: int, code: str, detail: str, *, errors: FieldErrors | None = None, **members: object
) -> bytes:
    """Encode a problem document, also for requests that are rejected before they reach a handler."""
    document: dict[str, object] = {
        # RFC 9457 §4.2.1: with the type about:blank the title is the phrase of the status. `code` is more specific.
        "type": "about:blank",
        "title": _TITLES.get(status, HTTPStatus(status).phrase),
        "status": int(status),
        "code": code,
        "detail": detail,
        **members,
    }
    if errors is not None:
        document["errors"] = errors
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def problem_of(error: Exception) -> Problem | None:
    """Return the problem that an error is reported as, or None for an unexpected error."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, SignatureRejected):
        return _unauthorized(error.code, error.detail, error.members)
    if isinstance(error, NonceReplayed):
        return _unauthorized(error.code, "the nonce was used before; sign every request with a new one")
    if isinstance(error, IdempotencyConflict):
        return Problem(error.code, "this Idempotency-Key was used with another body lately")
    if isinstance(error, QueueFull | OfflineQueueFull):
        code, detail = _FULL_QUEUES[type(error)]
        return Problem(code, detail, headers={"Retry-After": str(error.retry_after_seconds)})
    if isinstance(error, TooManyAckWaits):
        detail = "too many requests wait for acknowledgements on this replica; nothing was published"
        return Problem(error.code, detail, headers={"Retry-After": "1"})
    if isinstance(error, BrokerUnavailable | BrokerTimeout):
        headers = {"Retry-After": str(error.retry_after_seconds)}
        return Problem(error.code, _BROKER_DETAILS[error.code], headers=headers)
    return None


def _unauthorized(code: str, detail: str, members: Mapping[str, object] | None = None) -> Problem:
    return Problem(code, detail, headers={"WWW-Authenticate": SCHEME}, members=members)
