"""The texts of the OpenAPI document: calls, headers, examples, and a remedy for each error code."""

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

Every call except `GET /openapi.yaml` is signed with four headers. docs/reference/signing.md describes the
signature, and has test vectors and senders in eight languages. Every error is `application/problem+json` with a
stable `code`."""

TAGS: Final = {
    "push": "Push events to clients.",
    "users": "Query the presence of users, and disconnect them.",
    "description": "This document.",
}

SIGNING_HEADERS: Final = (
    ("key", signing.KEY_HEADER, "The id of the ingest key: 1 to 64 of `A-Z a-z 0-9 . _ -`."),
    ("timestamp", signing.TIMESTAMP_HEADER, "Seconds since 1970, at most 300 away from the gateway's clock."),
    (
        "nonce",
        signing.NONCE_HEADER,
        "8 to 64 of `A-Z a-z 0-9 . _ ~ + / = -`, different for every request of an ingest key.",
    ),
    ("signature", signing.SIGNATURE_HEADER, "`v1=` and the HMAC-SHA256 of the request in lower-case hex."),
)

PARAMETERS: Final[Mapping[str, dict[str, Any]]] = {
    "UserId": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The id of the user: the `sub` of the token. Percent-encoded UTF-8 in form NFC; a `/` is `%2F`.",
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
        "description": "An id chosen by the caller. The gateway uses it if it is 1 to 64 of `A-Z a-z 0-9 . _ -`.",
        "schema": {"type": "string", "examples": ["order-4711"]},
    },
    "Traceparent": {
        "name": "traceparent",
        "in": "header",
        "description": "W3C Trace Context: the trace that the push belongs to. It travels with the message to every"
        " replica and appears in their logs. The header is not signed; a malformed value is ignored.",
        "schema": {
            "type": "string",
            "examples": ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        },
    },
    "IdempotencyKey": {
        "name": signing.IDEMPOTENCY_HEADER,
        "in": "header",
        "description": "1 to 255 printable ASCII characters, stored for an hour for the ingest key, method and path:"
        " a repeat has no second effect and gets the first response. The header is part of the signed text, and"
        " otherwise ignored on GET.",
        "schema": {
            "type": "string",
            "pattern": "^[!-~]([ -~]{0,253}[!-~])?$",
            "examples": ["order-4711-shipped"],
        },
    },
}

PROBLEM_HEADERS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    409: ("Retry-After",),
    429: ("Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
    503: ("Retry-After",),
}

REMEDIES: Final[Mapping[str, str]] = {
    "bad_request": "The request is not valid HTTP, or its body ended early. Check the proxies in front of the gateway.",
    "invalid_path": "The id in the path is empty, too long, holds control characters or is not percent-encoded UTF-8.",
    "invalid_idempotency_key": "Send one Idempotency-Key of 1 to 255 printable ASCII characters, or none.",
    "invalid_json": "The body is not JSON, or is ambiguous; `detail` names the place.",
    "missing_signature": "A signing header is missing, repeated or malformed; `detail` names it.",
    "unknown_key": "Ask the operator for the id of your ingest key.",
    "timestamp_out_of_range": "Set your clock; `server_time` is the gateway's.",
    "bad_signature": "`help` names the page with the usual mistakes; with `serve --dev`, `mistake` names yours.",
    "replayed_request": "The nonce was used before. Create a new one for every request, also for repeats. If your"
    " program does: its HTTP library repeated the request; send an Idempotency-Key.",
    "missing_scope": "Ask the operator for the scope that `detail` names.",
    "not_found": "Compare the path with openapi.yaml; a `/` in an id is `%2F`.",
    "method_not_allowed": "Use the method in `Allow`.",
    "request_timeout": "Send the whole head of the request at once.",
    "body_timeout": "Send the whole body at once.",
    "idempotency_conflict": "With `Retry-After`: the first request is in progress, repeat after that many seconds."
    " Without: the Idempotency-Key was used with another body, use another key.",
    "body_too_large": "Send less data, or a link to the data; the operator sets the limit.",
    "unsupported_media_type": "Send `Content-Type: application/json`, in UTF-8.",
    "unsupported_encoding": "Send the body without `Content-Encoding`.",
    "unsupported_expectation": "Send no `Expect`, or `100-continue`.",
    "invalid_body": "`errors` has sentences about each invalid field.",
    "unknown_event": "The event catalogue of this gateway does not describe the event: compare its name with the"
    " `server_events` of the namespace.",
    "rate_limited": "Wait for `Retry-After` seconds, or ask the operator for a higher rate.",
    "headers_too_large": "Send fewer or shorter headers: `detail` names the longest one; the operator sets the limit.",
    "internal_error": "An error of the gateway: give the operator the `request_id`.",
    "overloaded": "This replica has too many open connections, or more bodies arrive at once than it can hold and this"
    " one began first. The request was not accepted and has no effect. Repeat it after `Retry-After` seconds, and send"
    " the body faster.",
    "broker_unavailable": "The request was not accepted and has no effect. Repeat it, signed anew, after `Retry-After`"
    " seconds.",
    "broker_timeout": "It is unknown whether the request was accepted. Repeat it, signed anew, with the same"
    " Idempotency-Key; without one it may take effect twice.",
    "freshness_unknown": "The timestamp does not show that the request is new: the gateway was just started, Redis"
    " lost data or a clock was set. The request has no effect. Repeat it, signed anew, after `Retry-After` seconds.",
    "unsupported_transfer_encoding": "Send the body with a `Content-Length`, or with `Transfer-Encoding: chunked`"
    " alone.",
    "unsupported_version": "Use HTTP/1.1 (or 1.0). A proxy in front of the gateway may accept other versions.",
}
"""What a caller should do about each error code."""

_RATE: Final = "Only for ingest keys that have a rate (draft-ietf-httpapi-ratelimit-headers-06)."
_EVENT: Final = {"event": "notification:new", "data": {"title": "hi"}}
_ID: Final = "kf3l2Yq0T8m3c9kQdR0uWA"


def _header(description: str, type_: str, *examples: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": type_, "examples": list(examples)}}


HEADERS: Final[Mapping[str, dict[str, Any]]] = {
    "X-Request-Id": _header("The id of the request, also in the gateway's log.", "string", "order-4711"),
    "RateLimit-Limit": _header(f"Requests that the key may send at once. {_RATE}", "integer", 100),
    "RateLimit-Remaining": _header(f"How many of these requests are left. {_RATE}", "integer", 99),
    "RateLimit-Reset": _header(
        f"Seconds until all of these requests are available again. {_RATE}", "integer", 1
    ),
    "Retry-After": _header("Seconds to wait before a repeat.", "integer", 1),
    "Idempotency-Replayed": _header(
        "`true`: this is the response to an earlier request with the same Idempotency-Key.", "string", "true"
    ),
    "WWW-Authenticate": _header("Always `Gateway-HMAC`.", "string", "Gateway-HMAC"),
    "Allow": _header("The method that this path accepts.", "string", "POST"),
}


def problem_example(code: str) -> Any:
    """Return an example of a problem document with this code."""
    members: dict[str, Any] = {"server_time": 1795255080} if code == "timestamp_out_of_range" else {}
    if code == "invalid_body":
        members = {"errors": {"event": ["Missing data for required field."]}}
    return json.loads(
        problem_body(STATUSES[code], code, "A sentence about the error.", request_id="order-4711", **members)
    )


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One signed call, as described in the document."""

    id: str
    method: str
    path: str
    tag: str
    summary: str
    description: str
    response: type[Schema]
    response_description: str = "The broker has the message. The response does not wait for any client."
    response_examples: dict[str, Any]
    body: str | None = None
    body_required: bool = True
    body_examples: dict[str, Any] = field(default_factory=dict)
    statuses: tuple[int, ...] = (
        400,
        401,
        403,
        404,
        405,
        408,
        409,
        413,
        415,
        417,
        422,
        429,
        431,
        500,
        503,
        501,
        505,
    )


OPERATIONS: Final = (
    Operation(
        id="emitToUser",
        method="post",
        path="/emit/user/{id}",
        tag="push",
        summary="Push an event to one user",
        description="Pushes an event to every connection of the user in the namespace, on every device. Scope"
        " `emit:user`.\n\nFall back to e-mail if `connections` and `recoverable` are 0. They are read in the same step"
        " as the push, so there is no race, unlike with a query of the presence before the push.",
        response=schemas.EmitToUserAnswer,
        response_examples={
            "online": {"id": _ID, "room": "user:42", "online": True, "connections": 2, "recoverable": 0},
            "offline": {"id": _ID, "room": "user:42", "online": False, "connections": 0, "recoverable": 0},
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
        description="Pushes an event to every connection in one room or in several. Scope `emit:room`; for rooms"
        " `user:…` scope `emit:user`; for the room of a sid `emit:user` without a glob.",
        response=schemas.EmitToRoomAnswer,
        response_examples={
            "room": {"id": _ID, "room": "org:7", "online": True, "connections": 12, "recoverable": 1},
            "rooms": {
                "id": _ID,
                "rooms": ["org:7", "org:8"],
                "online": True,
                "connections": 30,
                "recoverable": 2,
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
        description="Pushes an event to every connection in the namespace. Scope `broadcast`.",
        response=schemas.BroadcastAnswer,
        response_examples={"everyone": {"id": _ID, "online": True, "connections": 5120, "recoverable": 9}},
        body="Emit",
        body_examples={"notification": _EVENT},
    ),
    Operation(
        id="presence",
        method="get",
        path="/presence/{id}",
        tag="users",
        summary="Get the connections of a user",
        description="Returns the user's connections in all namespaces and on all replicas, in one read. Scope"
        " `presence`.",
        response=schemas.PresenceAnswer,
        response_description="The user's connections. An unknown user has none.",
        response_examples={
            "offline": {
                "user": "42",
                "online": False,
                "connections": [],
                "last_seen": "2026-11-21T09:58:00.123Z",
                "recoverable": 0,
            }
        },
        statuses=(400, 401, 403, 404, 405, 408, 413, 415, 417, 429, 431, 500, 501, 503, 505),
    ),
    Operation(
        id="disconnectUser",
        method="post",
        path="/disconnect/user/{id}",
        tag="users",
        summary="Disconnect a user",
        description="Closes the user's connections in one namespace or in all. The stock client does not reconnect by"
        " itself. Scope `admin`.",
        response=schemas.DisconnectAnswer,
        response_description="The broker has the disconnect command. The response does not wait for any client.",
        response_examples={"two": {"disconnected": 2}},
        body="Disconnect",
        body_required=False,
        body_examples={"everything": {}, "logout": {"revoke": True}},
    ),
)
