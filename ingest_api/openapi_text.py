"""The texts of the OpenAPI document: parameters, headers, and a remedy for each error code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from gateway.domain.names import MAIN_NAMESPACE, MAX_ROOM_CHARACTERS, MAX_USER_CHARACTERS
from ingest_api import signing
from ingest_api.errors import STATUSES, problem_body
from ingest_api.query import MAX_PAGE
from ingest_api.schemas import NAME_PATTERN

ABOUT: Final = """\
Backends push events to Socket.IO clients with one signed HTTP request.

Every call except `GET /openapi.yaml` is signed with four headers. docs/reference/signing.md describes the
signature, and has test vectors and senders in eight languages. Every error is `application/problem+json` with a
stable `code`."""

TAGS: Final = {
    "push": "Push events to clients.",
    "users": "Query the presence of users, and disconnect them.",
    "rooms": "Change who is in a room, and disconnect those in it.",
    "connections": "List users, rooms and connections, and change the data of connections.",
    "webhooks": "What waits for the webhooks of this gateway, and what they did not accept.",
    "history": "Read and erase the messages that are held for clients that reconnect.",
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

_POSITION: Final = {
    "type": "string",
    "pattern": "^(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})$",
    "examples": ["1795262400123-417"],
}


def _name(max_characters: int, example: str) -> dict[str, Any]:
    return {
        "type": "string",
        "minLength": 1,
        "maxLength": max_characters,
        "pattern": NAME_PATTERN,
        "examples": [example],
    }


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
    "WebhookId": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The id of a webhook, as the settings of the gateway have it.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_USER_CHARACTERS,
            "pattern": NAME_PATTERN,
            "examples": ["app"],
        },
    },
    "RoomName": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The name of the room. Percent-encoded UTF-8 in form NFC; a `/` is `%2F`.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_ROOM_CHARACTERS,
            "pattern": NAME_PATTERN,
            "examples": ["org:7"],
        },
    },
    "Namespace": {
        "name": "namespace",
        "in": "query",
        "description": "One of the namespaces that the gateway serves.",
        "schema": {"type": "string", "default": MAIN_NAMESPACE, "pattern": "^/[^,?]*$", "examples": ["/"]},
    },
    "After": {
        "name": "after",
        "in": "query",
        "description": "A position that the gateway handed out: only newer messages are returned. The `next` of the"
        " page before, the position of a message, or one that a client kept.",
        "schema": _POSITION,
    },
    "Newest": {
        "name": "newest",
        "in": "query",
        "description": "Return the newest messages (with `after`: of those after it) and not the oldest ones."
        " They are ordered oldest first, and `next` is null.",
        "schema": {"type": "boolean", "default": False, "examples": [True]},
    },
    "Upto": {
        "name": "upto",
        "in": "query",
        "required": True,
        "description": "The position of the newest message to erase.",
        "schema": _POSITION,
    },
    "Limit": {
        "name": "limit",
        "in": "query",
        "description": "How many are returned at most. Less are returned if they are large.",
        "schema": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_PAGE,
            "default": MAX_PAGE,
            "examples": [10],
        },
    },
    "Cursor": {
        "name": "cursor",
        "in": "query",
        "description": "The `next` of the page before; absent for the first page.",
        "schema": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]+$",
            "examples": ["WzE3OTUyNjI0MDEuMCwicC00Mi0xNzk1MjYyNDAwMDAwIl0"],
        },
    },
    "Sid": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The Socket.IO session id of the connection.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_ROOM_CHARACTERS,
            "pattern": NAME_PATTERN,
            "examples": ["~Ni9nOpTmRZ8wVwLqAAAB"],
        },
    },
    "NamespaceOrAll": {
        "name": "namespace",
        "in": "query",
        "description": "One of the namespaces that the gateway serves; all of them if absent, for a room `/`.",
        "schema": {"type": "string", "pattern": "^/[^,?]*$", "examples": ["/"]},
    },
    "Prefix": {
        "name": "prefix",
        "in": "query",
        "description": "Only names that begin so.",
        "schema": {"type": "string", "examples": ["org:"]},
    },
    "User": {
        "name": "user",
        "in": "query",
        "description": "The id of the user.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_USER_CHARACTERS,
            "pattern": NAME_PATTERN,
            "examples": ["42"],
        },
    },
    "RoomOfConnections": {
        "name": "room",
        "in": "query",
        "description": "The name of the room.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_ROOM_CHARACTERS,
            "pattern": NAME_PATTERN,
            "examples": ["chat:1"],
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
        " otherwise ignored on GET and by `POST /presence`.",
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
    "invalid_query": "`detail` names what is wrong with the query, also of a call that takes none. A `cursor` is the"
    " `next` of an earlier page.",
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
    "unknown_webhook": "Compare the id with `GET /webhooks`, which lists the configured webhooks.",
    "unknown_connection": "The connection has ended, or was lost and is not resumed yet. `GET /connections?user=…`"
    " lists those that are open.",
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
    "members_not_listed": "Set `list_members: true` in the rule of the room in the event catalogue.",
    "rate_limited": "Wait for `Retry-After` seconds, or ask the operator for a higher rate.",
    "headers_too_large": "Send fewer or shorter headers: `detail` names the longest one; the operator sets the limit.",
    "internal_error": "An error of the gateway: give the operator the `request_id`.",
    "overloaded": "This replica has too many open connections, too many requests that wait for acknowledgements, or"
    " more bodies arrive at once than it can hold and this one began first. The request was not accepted and has no"
    " effect. Repeat it after `Retry-After` seconds, and send the body faster.",
    "offline_queue_full": "As much is kept for users who are offline as may be, so nothing was accepted. Push without"
    " `ttl`, or repeat it, signed anew, after `Retry-After` seconds.",
    "webhook_queue_full": "The queue of the webhook holds as much as it may, so nothing was changed. Repeat it, signed"
    " anew, once the webhook has accepted some of it.",
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
