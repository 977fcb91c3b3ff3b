"""marshmallow schemas of request and response bodies. ``openapi`` generates its schemas from them.

Request schemas validate. They convert nothing, and reject unknown fields. Response schemas only describe; ``handlers``
builds the responses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar, Final

from marshmallow import RAISE, Schema, ValidationError, fields, validates, validates_schema

from gateway.domain.errors import InvalidName
from gateway.domain.names import (
    MAX_EVENT_CHARACTERS,
    MAX_ROOM_CHARACTERS,
    RESERVED_EVENTS,
    check_event,
    check_room,
)
from ingest_api.errors import STATUSES

MAX_ARGUMENTS: Final = 16
MAX_ROOMS: Final = 100
MAX_EXCEPT: Final = 100

# The rules of gateway.domain.names as JSON Schema.
NAME_PATTERN: Final = r"^(?!\.{1,2}$)[^\u0000-\u001f\u007f-\u009f]+$"
_ROOM: Final = {"minLength": 1, "maxLength": MAX_ROOM_CHARACTERS, "pattern": NAME_PATTERN}
_EXACT: Final = {
    "description": "Present, and false, only if `connections` or `disconnected` is an upper bound.",
    "const": False,
}


class StrictBoolean(fields.Boolean):
    """true or false. marshmallow's own Boolean also accepts 1, "yes" and others."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class ShortList(fields.List[Any]):
    """An array whose length is checked before its elements."""

    def __init__(
        self, inner: fields.Field[Any], *, min_items: int = 0, max_items: int, **kwargs: Any
    ) -> None:
        sizes = {"maxItems": max_items} | ({"minItems": min_items} if min_items else {})
        super().__init__(inner, metadata=sizes | kwargs.pop("metadata"), **kwargs)
        self._sizes = range(min_items, max_items + 1)

    def _deserialize(self, value: Any, *more: Any, **options: Any) -> list[Any]:
        if isinstance(value, list) and len(value) not in self._sizes:
            raise ValidationError(f"Between {self._sizes[0]} and {self._sizes[-1]} elements.")
        return super()._deserialize(value, *more, **options)


def _rule(check: Callable[[str], str]) -> Callable[[str], None]:
    def validate(value: str) -> None:
        try:
            check(value)
        except InvalidName as error:
            raise ValidationError(f"{error.message[:1].upper()}{error.message[1:]}.") from None

    return validate


def _room(**metadata: Any) -> fields.String:
    return fields.String(validate=_rule(check_room), metadata=_ROOM | metadata)


class _Addressed(Schema):
    """The base of requests with the fields ``namespace`` and ``except``."""

    class Meta:
        unknown = RAISE

    def __init__(self, *, namespaces: Collection[str]) -> None:
        super().__init__()
        self.namespaces = frozenset(namespaces)

    except_ = ShortList(
        _room(),
        data_key="except",
        max_items=MAX_EXCEPT,
        load_default=(),
        metadata={
            "description": "Rooms or sids that are excluded.",
            "default": [],
            "examples": [["role:viewer"]],
        },
    )

    @validates("namespace")
    def _is_served(self, value: str, **_: Any) -> None:
        if value not in self.namespaces:
            raise ValidationError(
                f"Not a namespace of this gateway; use one of {', '.join(sorted(self.namespaces))}."
            )


class EmitSchema(_Addressed):
    """One event for all connections that the path addresses."""

    to_room: ClassVar[bool] = False
    """Whether the body, and not the path, names the rooms."""

    event = fields.String(
        required=True,
        validate=_rule(check_event),
        metadata={
            "description": "The name that clients listen for. Some names are reserved by Socket.IO and by the gateway.",
            "minLength": 1,
            "maxLength": MAX_EVENT_CHARACTERS,
            "not": {"enum": sorted(RESERVED_EVENTS)},
            "examples": ["notification:new"],
        },
    )
    data = fields.Raw(
        allow_none=True,
        metadata={
            "description": "The one argument of the event: any JSON, passed on as it was written."
            " Without `data` and `args` the event has no argument.",
            "examples": [{"title": "hi"}],
        },
    )
    args = ShortList(
        fields.Raw(allow_none=True),
        max_items=MAX_ARGUMENTS,
        metadata={"description": "The arguments of the event, instead of `data`.", "examples": [["hi", 3]]},
    )
    namespace = fields.String(
        load_default="/",
        metadata={
            "description": "A namespace that this gateway serves.",
            "pattern": "^/[^,?]*$",
            "examples": ["/"],
        },
    )
    volatile = StrictBoolean(
        load_default=False,
        metadata={
            "description": "Skip connections that cannot take the event at once, and do not store it for clients"
            " that reconnect."
        },
    )
    timestamp = StrictBoolean(
        load_default=False,
        metadata={
            "description": "Set `timestamp` in `data`, which must be an object, to the time of acceptance (UTC)."
        },
    )

    @validates_schema
    def _has_one_payload(self, data: dict[str, Any], **_: Any) -> None:
        if "data" in data and "args" in data:
            raise ValidationError("Send data or args, not both.", "args")
        if data["timestamp"] and not isinstance(data.get("data"), dict):
            raise ValidationError("The timestamp is set in data, so data must be an object.", "timestamp")


class EmitToRoomSchema(EmitSchema):
    """One event for all connections in one room or in several."""

    to_room = True

    room = _room(description="The room that gets the event.", examples=["org:7"])
    rooms = ShortList(
        _room(),
        min_items=1,
        max_items=MAX_ROOMS,
        metadata={
            "description": "The rooms that get the event, instead of `room`. A connection in several of them gets"
            " it once.",
            "uniqueItems": True,
            "examples": [["org:7", "org:8"]],
        },
    )

    @validates("rooms")
    def _are_distinct(self, value: list[str], **_: Any) -> None:
        if len(set(value)) < len(value):
            raise ValidationError("The rooms are not distinct.")

    @validates_schema
    def _has_one_address(self, data: dict[str, Any], **_: Any) -> None:
        if ("room" in data) == ("rooms" in data):
            raise ValidationError("Send either room or rooms.", "room")


class DisconnectSchema(_Addressed):
    """Which connections of the user are closed."""

    namespace = fields.String(
        metadata={
            "description": "Only connections in this namespace; in all namespaces if absent.",
            "pattern": "^/[^,?]*$",
            "examples": ["/"],
        },
    )
    revoke = StrictBoolean(
        load_default=False,
        metadata={
            "description": "Also reject, on every replica, every token of the user whose `iat` is before now."
        },
    )


def _text(description: str, *examples: Any, **more: Any) -> fields.String:
    return fields.String(
        required=True, metadata={"description": description, "examples": list(examples)} | more
    )


class BroadcastAnswer(Schema):
    """The broker has the message."""

    id = _text("The id of the message.", "kf3l2Yq0T8m3c9kQdR0uWA")
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


class EmitToUserAnswer(BroadcastAnswer):
    """The broker has the message."""

    room = _text("The room of the user.", "user:42")


class EmitToRoomAnswer(BroadcastAnswer):
    """The broker has the message. `room` or `rooms` is present, as in the body of the request."""

    room = fields.String(metadata={"description": "The room.", "examples": ["org:7"]})
    rooms = fields.List(
        fields.String(), metadata={"description": "The rooms.", "examples": [["org:7", "org:8"]]}
    )


class ConnectionAnswer(Schema):
    """One connection of a user."""

    sid = _text(
        "The Socket.IO session id, also the name of a room with this connection alone.",
        "~Ni9nOpTmRZ8wVwLqAAAB",
    )
    namespace = _text("The namespace of the connection.", "/")
    replica = _text("The replica that serves the connection.", "gateway-0")
    transport = _text("The Engine.IO transport.", "websocket", enum=["polling", "websocket"])
    connected_at = _text("The time of the connect, in UTC.", "2026-11-21T09:58:00.123Z", format="date-time")


class PresenceAnswer(Schema):
    """The connections of a user, in all namespaces and on all replicas."""

    user = _text("The id of the user.", "42")
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


class ProblemAnswer(Schema):
    """Why a request failed (RFC 9457)."""

    type = _text("Always about:blank; `code` distinguishes problems.", "about:blank")
    title = _text("The phrase of the HTTP status.", "Unprocessable Content")
    status = fields.Integer(
        required=True,
        metadata={"description": "The HTTP status.", "minimum": 400, "maximum": 599, "examples": [422]},
    )
    code = _text("The error code, for programs. It is stable.", "invalid_body", enum=sorted(STATUSES))
    detail = _text("A sentence about the error, for people.", "the body breaks the rules: event")
    request_id = _text("As in `X-Request-Id`, and in the gateway's log.", "5f0c1e9a7b3d4c2e8f6a1b0d9c8e7f6a")
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
