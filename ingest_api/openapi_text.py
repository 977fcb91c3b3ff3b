"""What openapi says in words: calls, headers, codes and what to do about each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from marshmallow import Schema

from gateway.domain.names import MAX_USER_CHARACTERS
from ingest_api import schemas, signing
from ingest_api.errors import STATUSES, problem_body
from ingest_api.schemas import NAME_PATTERN

ABOUT: Final = """\
Backends push events to Socket.IO clients with one signed HTTP request.

Every call but this description is signed with four headers; docs/reference/signing.md has the recipe, with test vectors and
senders in eight languages. Every refusal is `application/problem+json` with a stable `code`."""

TAGS: Final = {
    "push": "Events on their way to clients.",
    "users": "Who is connected, and ending it.",
    "description": "This document.",
}

SIGNING_HEADERS: Final = (
    ("key", signing.KEY_HEADER, "The id of the ingest key: 1 to 64 of `A-Z a-z 0-9 . _ -`."),
    ("timestamp", signing.TIMESTAMP_HEADER, "Seconds since 1970, at most 300 away from the gateway's clock."),
    (
        "nonce",
        signing.NONCE_HEADER,
        "8 to 64 of `A-Z a-z 0-9 . _ ~ + / = -`, new for every request of a key.",
    ),
    ("signature", signing.SIGNATURE_HEADER, "`v1=` and the HMAC-SHA256 of the request in lower-case hex."),
)


def _header(about: str, kind: str, *examples: Any) -> dict[str, Any]:
    return {"description": about, "schema": {"type": kind, "examples": list(examples)}}


_RATE: Final = "Only for keys that have a rate (draft-ietf-httpapi-ratelimit-headers-06)."

HEADERS: Final[Mapping[str, dict[str, Any]]] = {
    "X-Request-Id": _header("The request's id, in the gateway's log too.", "string", "order-4711"),
    "RateLimit-Limit": _header(f"Requests at once. {_RATE}", "integer", 100),
    "RateLimit-Remaining": _header(f"How many of them are left. {_RATE}", "integer", 99),
    "RateLimit-Reset": _header(f"Seconds until all of them are back. {_RATE}", "integer", 1),
    "Retry-After": _header("Seconds to wait before a repeat.", "integer", 1),
    "Idempotency-Replayed": _header("`true`: this is the answer to an earlier request.", "string", "true"),
    "WWW-Authenticate": _header("Always `Gateway-HMAC`.", "string", "Gateway-HMAC"),
    "Allow": _header("The method of this path.", "string", "POST"),
}

PROBLEM_HEADERS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    409: ("Retry-After",),
    429: ("Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
    503: ("Retry-After",),
}

PARAMETERS: Final[Mapping[str, dict[str, Any]]] = {
    "UserId": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The id of the user: the `sub` of the token. Percent-encoded UTF-8; a `/` is `%2F`.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_USER_CHARACTERS,
            "pattern": NAME_PATTERN,
            "examples": ["42"],
        },
    },
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "An id of the caller's, kept if it is 1 to 64 of `A-Z a-z 0-9 . _ -`.",
        "schema": {"type": "string", "examples": ["order-4711"]},
    },
    "Traceparent": {
        "name": "traceparent",
        "in": "header",
        "description": "W3C Trace Context: the trace that the push belongs to. It goes with the message to every"
        " replica and is in their logs. Not signed; a malformed one is ignored.",
        "schema": {
            "type": "string",
            "examples": ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        },
    },
    "IdempotencyKey": {
        "name": signing.IDEMPOTENCY_HEADER,
        "in": "header",
        "description": "1 to 255 printable ASCII characters, remembered for an hour for the key, method and path:"
        " a repeat takes effect once and gets the first answer. Signed; of no further effect on GET.",
        "schema": {
            "type": "string",
            "pattern": "^[!-~]([ -~]{0,253}[!-~])?$",
            "examples": ["order-4711-shipped"],
        },
    },
}

REMEDIES: Final[Mapping[str, str]] = {
    "bad_request": "The request is not HTTP, or its body ended early. Look at what is between you and the gateway.",
    "invalid_path": "The id in the path is empty, too long, holds control characters or is not percent-encoded UTF-8.",
    "invalid_idempotency_key": "Send one Idempotency-Key of 1 to 255 printable ASCII characters, or none.",
    "invalid_json": "The body is not JSON, or not unambiguous; `detail` says where.",
    "missing_signature": "A signing header is missing, repeated or malformed; `detail` says which.",
    "unknown_key": "Ask the operator for the id of your ingest key.",
    "timestamp_out_of_range": "Set your clock; `server_time` is the gateway's. Just after its start: sign anew.",
    "bad_signature": "Compare the text you sign, byte for byte, with docs/reference/signing.md; then the secret.",
    "replayed_request": "The nonce was used before. Make a new one for every request, for repeats too.",
    "missing_scope": "Ask the operator for the scope that `detail` names.",
    "not_found": "Look the path up here; a `/` in an id is `%2F`.",
    "method_not_allowed": "Use the method in `Allow`.",
    "request_timeout": "Send the whole head of the request at once.",
    "body_timeout": "Send the whole body at once.",
    "idempotency_conflict": "With `Retry-After`: the first request is still being worked on, repeat then."
    " Without: the Idempotency-Key was used with another body, take another key.",
    "body_too_large": "Send less, or a link to it; the operator sets the limit.",
    "unsupported_media_type": "Send `Content-Type: application/json`, in UTF-8.",
    "unsupported_encoding": "Send the body without `Content-Encoding`.",
    "unsupported_expectation": "Send no `Expect`, or `100-continue`.",
    "invalid_body": "`errors` has sentences for each field that is wrong.",
    "rate_limited": "Wait for `Retry-After` seconds, or ask the operator for a higher rate.",
    "internal_error": "Not your fault: give the operator the `request_id`.",
    "broker_unavailable": "It was not accepted and has no effect. Repeat it, signed anew, after `Retry-After` seconds.",
    "broker_timeout": "Nobody knows whether it was accepted. Repeat it, signed anew, with the same Idempotency-Key;"
    " without one it may take effect twice.",
    "unsupported_version": "Speak HTTP/1.1 (or 1.0); a proxy in front may speak more.",
}


def problem_example(code: str) -> Any:
    """What a problem with this code may look like."""
    more: dict[str, Any] = {"server_time": 1795255080} if code == "timestamp_out_of_range" else {}
    if code == "invalid_body":
        more = {"errors": {"event": ["Missing data for required field."]}}
    return json.loads(
        problem_body(STATUSES[code], code, "What is wrong here.", request_id="order-4711", **more)
    )


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One signed call."""

    id: str
    method: str
    path: str
    tag: str
    summary: str
    description: str
    answer: type[Schema]
    answer_description: str = "The broker has it; no client was waited for."
    answer_examples: dict[str, Any]
    body: str | None = None
    body_required: bool = True
    body_examples: dict[str, Any] = field(default_factory=dict)
    statuses: tuple[int, ...] = (400, 401, 403, 404, 405, 408, 409, 413, 415, 417, 422, 429, 500, 503, 505)


_EVENT: Final = {"event": "notification:new", "data": {"title": "hi"}}
_ID: Final = "kf3l2Yq0T8m3c9kQdR0uWA"

OPERATIONS: Final = (
    Operation(
        id="emitToUser",
        method="post",
        path="/emit/user/{id}",
        tag="push",
        summary="Push an event to one user",
        description="To every connection of the user in the namespace, on every device. Scope `emit:user`.\n\n"
        "`online` tells whether to fall back to e-mail, without the race of asking first.",
        answer=schemas.EmitToUserAnswer,
        answer_examples={
            "online": {"id": _ID, "room": "user:42", "online": True, "connections": 2},
            "away": {"id": _ID, "room": "user:42", "online": False, "connections": 0},
        },
        body="Emit",
        body_examples={"notification": _EVENT, "arguments": {"event": "moved", "args": [3, 4]}},
    ),
    Operation(
        id="emitToRoom",
        method="post",
        path="/emit/room",
        tag="push",
        summary="Push an event to rooms",
        description="To everyone in one room or in several. Scope `emit:room`, for rooms `user:…` `emit:user`.",
        answer=schemas.EmitToRoomAnswer,
        answer_examples={
            "room": {"id": _ID, "room": "org:7", "online": True, "connections": 12},
            "rooms": {
                "id": _ID,
                "rooms": ["org:7", "org:8"],
                "online": True,
                "connections": 30,
                "exact": False,
            },
        },
        body="EmitToRoom",
        body_examples={"room": {"room": "org:7"} | _EVENT, "rooms": {"rooms": ["org:7", "org:8"]} | _EVENT},
    ),
    Operation(
        id="broadcast",
        method="post",
        path="/broadcast",
        tag="push",
        summary="Push an event to everyone",
        description="To every connection in the namespace. Scope `broadcast`.",
        answer=schemas.BroadcastAnswer,
        answer_examples={"everyone": {"id": _ID, "online": True, "connections": 5120}},
        body="Emit",
        body_examples={"notification": _EVENT},
    ),
    Operation(
        id="presence",
        method="get",
        path="/presence/{id}",
        tag="users",
        summary="Where a user is connected",
        description="Over all namespaces and replicas, in one read. Scope `presence`.",
        answer=schemas.PresenceAnswer,
        answer_description="The user's connections; a user that nobody has seen has none.",
        answer_examples={
            "away": {
                "user": "42",
                "online": False,
                "connections": [],
                "last_seen": "2026-11-21T09:58:00.123Z",
            }
        },
        statuses=(400, 401, 403, 404, 405, 408, 413, 415, 417, 429, 500, 503, 505),
    ),
    Operation(
        id="disconnectUser",
        method="post",
        path="/disconnect/user/{id}",
        tag="users",
        summary="End a user's connections",
        description="In one namespace or in all; the stock client does not come back by itself. Scope `admin`.",
        answer=schemas.DisconnectAnswer,
        answer_examples={"two": {"disconnected": 2}},
        body="Disconnect",
        body_required=False,
        body_examples={"everything": {}, "logout": {"revoke": True}},
    ),
)
