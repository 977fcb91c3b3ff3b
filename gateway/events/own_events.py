"""The gateway's own events and error answers as JSON schemas, under names for generated documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.domain.errors import ClientEventRejected, RecoveryFailed

JsonSchema = Mapping[str, object] | bool
"""A JSON Schema: 2020-12, of the keywords that the catalogue allows."""

OWN_PREFIX: Final = "#/gateway/"
"""What a ``$ref`` to one of ``OWN_SCHEMAS`` begins with."""
REFRESH: Final = "auth:refresh"

_TEXT: Final[JsonSchema] = {"type": "string"}
_TIME: Final[JsonSchema] = {"type": "string", "format": "date-time"}


def _object(
    required: Mapping[str, object], optional: Mapping[str, object] | None = None
) -> dict[str, object]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def ref(name: str) -> JsonSchema:
    """Return a reference to one of ``OWN_SCHEMAS``."""
    return {"$ref": OWN_PREFIX + name}


_ERROR: Final = {
    "code": {
        "type": "string",
        "description": f"One of {', '.join(sorted(ClientEventRejected.CODES))}, or a code of the backend.",
    },
    "message": _TEXT,
}
_RETRY_AFTER: Final = {"retryAfter": {"type": "number", "description": "Seconds to wait before a repeat."}}
_ERROR_EVENT: Final = {"status": {"const": "error"}, **_ERROR}
_ERROR_DETAILS: Final = {"event": {"type": "string", "description": "The event that failed."}, **_RETRY_AFTER}

OWN_SCHEMAS: Final[Mapping[str, JsonSchema]] = {
    "Authenticated": {
        "description": "The connection is accepted.",
        **_object(
            {
                "success": {"const": True},
                "userId": _TEXT,
                "email": {"type": ["string", "null"]},
                "socketId": _TEXT,
            },
            {"recovered": {"const": True}},
        ),
    },
    "AuthExpiring": {
        "description": "The token expires soon: send a newer one with auth:refresh.",
        **_object({"expiresAt": _TIME, "expiresIn": {"type": "integer", "description": "Seconds."}}),
    },
    "AuthExpired": {"description": "The token has expired; the connection ends.", **_object({})},
    "AuthRefreshAnswer": {
        "description": "The answer to auth:refresh.",
        "oneOf": [
            _object(
                {"ok": {"const": True}, "expiresAt": {"type": ["string", "null"], "format": "date-time"}}
            ),
            _object({"ok": {"const": False}, "code": _TEXT, "message": _TEXT}, _RETRY_AFTER),
        ],
    },
    "RecoveryFailed": {
        "description": "Events are missing: load the state anew.",
        **_object({"code": {"enum": sorted(RecoveryFailed.CODES)}}),
    },
    "GatewayErrorAnswer": {
        "description": "The acknowledgement of a client event that failed.",
        **_object({"error": _object(_ERROR, _RETRY_AFTER)}),
    },
    "GatewayErrorEvent": {
        "description": "A client event that asked for no acknowledgement failed.",
        **_object(_ERROR_EVENT, _ERROR_DETAILS),
    },
    "GatewayExceptionEvent": {
        "description": "A client event that asked for no acknowledgement failed.",
        **_object(_ERROR_EVENT, {**_ERROR_DETAILS, "cause": _object({"pattern": _TEXT})}),
    },
}
"""The payloads of the gateway's own events, by name."""

OWN_SERVER_EVENTS: Final[Mapping[str, str]] = {
    "authenticated": "Authenticated",
    "auth:expiring": "AuthExpiring",
    "auth:expired": "AuthExpired",
    "recovery:failed": "RecoveryFailed",
}
"""Events of every namespace, with the name of their payload."""
EVENTS_WITH_POSITION: Final = frozenset({"authenticated"})
"""Own events that may end with a position."""


def error_payload(error_event: str) -> JsonSchema:
    """Return the payload of the event that carries errors: ``error`` or ``exception``."""
    return ref("GatewayExceptionEvent" if error_event == "exception" else "GatewayErrorEvent")
