"""What is answered, described with marshmallow for openapi. Answers themselves are put together by the handlers."""

from __future__ import annotations

from typing import Any, Final

from marshmallow import Schema, fields

from ingest_api.errors import STATUSES

_EXACT: Final = {
    "description": "Only there, and false, where the number of connections is an upper bound.",
    "const": False,
}


def _text(description: str, *examples: Any, **more: Any) -> fields.String:
    return fields.String(
        required=True, metadata={"description": description, "examples": list(examples)} | more
    )


class BroadcastAnswer(Schema):
    """The broker has the message."""

    id = _text("The id of the message.", "kf3l2Yq0T8m3c9kQdR0uWA")
    online = fields.Boolean(
        required=True, metadata={"description": "Whether anybody was connected.", "examples": [True]}
    )
    connections = fields.Integer(
        required=True,
        metadata={
            "description": "Connections registered in the namespace when the message was accepted.",
            "minimum": 0,
            "examples": [2],
        },
    )
    exact = fields.Boolean(metadata=_EXACT)


class EmitToUserAnswer(BroadcastAnswer):
    """The broker has the message."""

    room = _text("The room of the user.", "user:42")


class EmitToRoomAnswer(BroadcastAnswer):
    """The broker has the message. Of `room` and `rooms` the one that was in the body."""

    room = fields.String(metadata={"description": "The room.", "examples": ["org:7"]})
    rooms = fields.List(
        fields.String(), metadata={"description": "The rooms.", "examples": [["org:7", "org:8"]]}
    )


class ConnectionAnswer(Schema):
    """One connection of a user."""

    sid = _text("Its Socket.IO session id, also the name of a room with it alone.", "Ni9nOpTmRZ8wVwLqAAAB")
    namespace = _text("Its namespace.", "/")
    replica = _text("The replica that serves it.", "gateway-0")
    transport = _text("How it is connected.", "websocket", enum=["polling", "websocket"])
    connected_at = _text("Since when, in UTC.", "2026-11-21T09:58:00.123Z", format="date-time")


class PresenceAnswer(Schema):
    """Where a user is connected, over all namespaces and replicas."""

    user = _text("The id of the user.", "42")
    online = fields.Boolean(required=True, metadata={"description": "Whether there is a connection."})
    connections = fields.List(
        fields.Nested(ConnectionAnswer), required=True, metadata={"description": "The oldest first."}
    )
    last_seen = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "When the last connection left, in UTC; null while there is one, and if nobody knows.",
            "format": "date-time",
        },
    )


class DisconnectAnswer(Schema):
    """The broker has the order."""

    disconnected = fields.Integer(
        required=True,
        metadata={"description": "Connections that are ended by it.", "minimum": 0, "examples": [2]},
    )
    exact = fields.Boolean(metadata=_EXACT)


class ProblemAnswer(Schema):
    """Why a request was refused (RFC 9457)."""

    type = _text("Always about:blank; `code` tells problems apart.", "about:blank")
    title = _text("The phrase of the status.", "Unprocessable Content")
    status = fields.Integer(
        required=True,
        metadata={"description": "The status.", "minimum": 400, "maximum": 599, "examples": [422]},
    )
    code = _text("Stable; what programs look at.", "invalid_body", enum=sorted(STATUSES))
    detail = _text("What is wrong here, for people.", "the body breaks the rules: event")
    request_id = _text("As in `X-Request-Id`, and in the gateway's log.", "5f0c1e9a7b3d4c2e8f6a1b0d9c8e7f6a")
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        metadata={
            "description": "Sentences for each field that is wrong, by its path (code invalid_body).",
            "examples": [{"event": ["Missing data for required field."]}],
        },
    )
    server_time = fields.Integer(
        metadata={
            "description": "The gateway's clock, in seconds since 1970 (code timestamp_out_of_range).",
            "examples": [1795255080],
        }
    )
