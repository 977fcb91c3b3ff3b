"""marshmallow schemas of response bodies. They only describe: ``openapi`` generates its schemas from them."""

from __future__ import annotations

from typing import Any, Final

from marshmallow import Schema, fields

from gateway.domain.notifications import DeadReason
from ingest_api.errors import STATUSES

_EXACT: Final = {
    "description": "Present, and false, only if `connections` or `disconnected` is an upper bound.",
    "const": False,
}


def text(description: str, *examples: Any, **more: Any) -> fields.String:
    """Return a field that is always a string."""
    return fields.String(
        required=True, metadata={"description": description, "examples": list(examples)} | more
    )


class BroadcastAnswer(Schema):
    """The broker has the message."""

    id = text("The id of the message.", "kf3l2Yq0T8m3c9kQdR0uWA")
    online = fields.Boolean(
        required=True,
        metadata={"description": "Whether `connections` is greater than 0.", "examples": [True]},
    )
    connections = fields.Integer(
        required=True,
        metadata={
            "description": "Connections registered in the namespace when the message was accepted.",
            "minimum": 0,
            "examples": [2],
        },
    )
    recoverable = fields.Integer(
        required=True,
        metadata={
            "description": "Further connections that were lost, whose clients may reconnect within the recovery window"
            " and get the message then. Send an e-mail instead only if this and `connections` are 0.",
            "minimum": 0,
            "examples": [0],
        },
    )
    exact = fields.Boolean(metadata=_EXACT)


class ClientAckAnswer(Schema):
    """The acknowledgement of one connection. What the client sent is passed on as it wrote it."""

    sid = text("The Socket.IO session id of the connection.", "~Ni9nOpTmRZ8wVwLqAAAB")
    user = text("The id of the user.", "42")
    data = fields.Raw(
        allow_none=True,
        metadata={
            "description": "The argument of the acknowledgement; null if there is none.",
            "examples": [{"ok": True}],
        },
    )
    args = fields.List(
        fields.Raw(allow_none=True),
        metadata={"description": "Instead of `data`: the arguments, if there is more than one."},
    )
    binary = fields.List(
        fields.String(),
        metadata={
            "description": "Present only if the client sent buffers: JSON pointers to the base64 strings in `data` or"
            " `args` that stand for them.",
            "examples": [["/data/image"]],
        },
    )
    seconds = fields.Float(
        required=True,
        metadata={
            "description": "The time from sending the event to the connection until the acknowledgement arrived.",
            "minimum": 0,
            "examples": [0.031],
        },
    )


def _number(description: str) -> fields.Integer:
    return fields.Integer(metadata={"description": description, "minimum": 0, "examples": [1]})


class _AcknowledgedAnswer(BroadcastAnswer):
    """What was collected, if the request had `ack`. `asked` is the sum of `acked`, `gone` and `silent`."""

    complete = fields.Boolean(
        metadata={
            "description": "With `ack`: whether as many connections as wanted have acknowledged the event; for `all`"
            " each one that was asked, and at least one."
        }
    )
    asked = _number("With `ack`: connections that the event was sent to.")
    acked = _number("With `ack`: of these, those that have acknowledged it.")
    gone = _number("With `ack`: of these, those that were closed before they did.")
    silent = _number("With `ack`: of these, the others.")
    unheard = fields.List(
        fields.String(),
        metadata={
            "description": "With `ack`: replicas with recipients that reported nothing in time, such as a killed one.",
            "examples": [[]],
        },
    )
    acks = fields.List(
        fields.Nested(ClientAckAnswer),
        metadata={"description": "With `ack`: the acknowledgements, in the order in which they arrived."},
    )
    truncated = fields.Boolean(
        metadata={
            "description": "Present, and true, only if `acks` lacks some that `acked` counts: together they are more"
            " than the largest body, or the connection to Redis was lost.",
            "const": True,
        }
    )


STORED: Final = {
    "description": "Present, and true, only if the request had `ttl`: the event is kept until it is received.",
    "const": True,
}


class EmitToUserAnswer(_AcknowledgedAnswer):
    """The broker has the message."""

    stored = fields.Boolean(metadata=STORED)

    room = text("The room of the user.", "user:42")


class EmitToRoomAnswer(_AcknowledgedAnswer):
    """The broker has the message. `room` or `rooms` is present, as in the body of the request."""

    room = fields.String(metadata={"description": "The room.", "examples": ["org:7"]})
    rooms = fields.List(
        fields.String(), metadata={"description": "The rooms.", "examples": [["org:7", "org:8"]]}
    )


class EmitToUsersAnswer(_AcknowledgedAnswer):
    """The broker has the message."""

    stored = fields.Boolean(metadata=STORED)

    users = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(metadata={"minimum": 0}),
        required=True,
        metadata={
            "description": "The connections of each user, counted as in `connections`.",
            "examples": [{"42": 2, "43": 0}],
        },
    )


class BatchResultAnswer(BroadcastAnswer):
    """The broker has one message of a batch."""

    stored = fields.Boolean(metadata=STORED)


class BatchAnswer(Schema):
    """The broker has all messages."""

    results = fields.List(
        fields.Nested(BatchResultAnswer),
        required=True,
        metadata={"description": "One result for each message, in their order."},
    )


class ConnectionAnswer(Schema):
    """One connection of a user."""

    sid = text(
        "The Socket.IO session id, also the name of a room with this connection alone.",
        "~Ni9nOpTmRZ8wVwLqAAAB",
    )
    namespace = text("The namespace of the connection.", "/")
    replica = text("The replica that serves the connection.", "gateway-0")
    transport = text("The Engine.IO transport.", "websocket", enum=["polling", "websocket"])
    connected_at = text("The time of the connect, in UTC.", "2026-11-21T09:58:00.123Z", format="date-time")


class PresenceAnswer(Schema):
    """The connections of a user, in all namespaces and on all replicas."""

    user = text("The id of the user.", "42")
    online = fields.Boolean(required=True, metadata={"description": "Whether the user has a connection."})
    recoverable = fields.Integer(
        required=True,
        metadata={
            "description": "Further connections that were lost, whose clients may reconnect within the recovery"
            " window.",
            "minimum": 0,
            "examples": [0],
        },
    )
    connections = fields.List(
        fields.Nested(ConnectionAnswer),
        required=True,
        metadata={"description": "The user's connections, the oldest first."},
    )
    last_seen = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "When the last connection was closed, in UTC; null while the user has a connection, and"
            " if the time is not known.",
            "format": "date-time",
        },
    )


class DisconnectAnswer(Schema):
    """The broker has the disconnect command."""

    disconnected = fields.Integer(
        required=True,
        metadata={"description": "Connections that the command closes.", "minimum": 0, "examples": [2]},
    )
    exact = fields.Boolean(metadata=_EXACT)


def count(description: str, example: int) -> fields.Integer:
    """Return the field of a number that is at least 0."""
    return fields.Integer(
        required=True, metadata={"description": description, "minimum": 0, "examples": [example]}
    )


class WebhookAnswer(Schema):
    """What the queue of one webhook holds."""

    id = text("The id of the webhook.", "app")
    entries = count("Notifications in the queue: not yet accepted by the webhook.", 12)
    bytes = count("What they count of the 64 MiB of the queue.", 4096)
    lag_seconds = fields.Float(
        required=True,
        metadata={
            "description": "The age of the oldest notification in the queue; 0 for an empty queue.",
            "minimum": 0,
            "examples": [1.5],
        },
    )
    dead_letters = count("Notifications that are not tried any more.", 0)
    partitions = count("The configured partitions of the queue.", 16)
    owners = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.Integer()),
        required=True,
        metadata={
            "description": "The replicas that send, with their partitions. A partition of none has no owner now. After"
            " `partitions` was lowered, further ones appear until they are empty.",
            "examples": [{"gateway-0": [0, 1, 2], "gateway-1": [3, 4, 5]}],
        },
    )
    circuit_open = fields.Boolean(
        required=True,
        metadata={
            "description": "Whether the circuit breaker for calls is open on the replica that responds.",
            "examples": [False],
        },
    )


class WebhooksAnswer(Schema):
    """The configured webhooks. URLs and secrets are not part of it."""

    webhooks = fields.List(
        fields.Nested(WebhookAnswer),
        required=True,
        metadata={"description": "The webhooks, in the order of their ids."},
    )


class DeadLetterAnswer(Schema):
    """A notification that is not tried any more."""

    id = text("The `webhook-id` of each try.", "p-42-1795262400000")
    user = text("The id of the user.", "42")
    type = text("The type of the event.", "client.event")
    timestamp = text("When the event happened, in UTC.", "2026-11-21T12:00:00.000Z", format="date-time")
    reason = text(
        "`rejected`: the webhook answered that this event is bad. `failed`: it failed again and again while others"
        " were accepted. `expired`: it was older than `keep_seconds`.",
        "rejected",
        enum=[reason.value for reason in DeadReason],
    )
    status = fields.Integer(
        required=True,
        allow_none=True,
        metadata={
            "description": "The status of the last answer; null if there was none.",
            "minimum": 100,
            "maximum": 599,
            "examples": [422],
        },
    )
    dead_at = text("Since when it is a dead letter, in UTC.", "2026-11-21T12:00:01.000Z", format="date-time")
    data = fields.Dict(
        required=True,
        metadata={
            "description": "The `data` of the event.",
            "examples": [{"user": "42", "version": 1795262400000}],
        },
    )


class DeadLettersAnswer(Schema):
    """A page of dead letters, the oldest first."""

    dead = fields.List(
        fields.Nested(DeadLetterAnswer), required=True, metadata={"description": "The dead letters."}
    )
    next = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "The `cursor` of the next page; null at the end.",
            "examples": ["WzE3OTUyNjI0MDEuMCwicC00Mi0xNzk1MjYyNDAwMDAwIl0"],
        },
    )


class ReplayAnswer(Schema):
    """The dead letters are in the queue again."""

    replayed = count("Dead letters that were put into the queue.", 1)


class DropAnswer(Schema):
    """The dead letters are deleted."""

    dropped = count("Dead letters that were deleted.", 1)


class ProblemAnswer(Schema):
    """Why a request failed (RFC 9457)."""

    type = text("Always about:blank; `code` distinguishes problems.", "about:blank")
    title = text("The phrase of the HTTP status.", "Unprocessable Content")
    status = fields.Integer(
        required=True,
        metadata={"description": "The HTTP status.", "minimum": 400, "maximum": 599, "examples": [422]},
    )
    code = text("The error code, for programs. It is stable.", "invalid_body", enum=sorted(STATUSES))
    detail = text("A sentence about the error, for people.", "the body breaks the rules: event")
    request_id = text("As in `X-Request-Id`, and in the gateway's log.", "5f0c1e9a7b3d4c2e8f6a1b0d9c8e7f6a")
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        metadata={
            "description": "Sentences about each invalid field, by its path (code invalid_body).",
            "examples": [{"event": ["Missing data for required field."]}],
        },
    )
    server_time = fields.Integer(
        metadata={
            "description": "The gateway's clock, in seconds since 1970 (code timestamp_out_of_range).",
            "examples": [1795255080],
        }
    )
    help = fields.String(
        metadata={
            "description": "The page of the documentation that lists the usual mistakes (code bad_signature).",
            "examples": ["docs/how-to/fix-bad-signature.md"],
        }
    )
    verified_text = fields.String(
        metadata={"description": "The text that was verified (code bad_signature, with `serve --dev` alone)."}
    )
    mistake = fields.String(
        allow_none=True,
        metadata={
            "description": "The mistake that explains the signature, or null if none is known (code bad_signature, with"
            " `serve --dev` alone)."
        },
    )
