"""marshmallow schemas of request bodies. ``openapi`` generates its schemas from them.

They validate, convert nothing, and reject unknown fields. ``answers`` has those of responses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar, Final

from marshmallow import (
    RAISE,
    Schema,
    ValidationError,
    fields,
    validate,
    validates,
    validates_schema,
)

from gateway.domain.attachments import MAX_ATTACHMENTS, MAX_POINTER_CHARACTERS, POINTER, is_pointer
from gateway.domain.errors import InvalidName
from gateway.domain.names import (
    MAX_EVENT_CHARACTERS,
    MAX_ROOM_CHARACTERS,
    MAX_USER_CHARACTERS,
    RESERVED_EVENTS,
    check_event,
    check_room,
    check_user,
)
from ingest_api.acks import AckSchema
from ingest_api.offline_queue import Ttl, check_ttl

MAX_ARGUMENTS: Final = 16
MAX_ROOMS: Final = 100
MAX_USERS: Final = 100
MAX_EXCEPT: Final = 100
MAX_ALL: Final = 8
MAX_BINARY: Final = MAX_ATTACHMENTS
MAX_DEAD_LETTER_IDS: Final = 100

# The rules of gateway.domain.names as JSON Schema.
NAME_PATTERN: Final = r"^(?!\.{1,2}$)[^\u0000-\u001f\u007f-\u009f]+$"
ROOM_RULES: Final = {"minLength": 1, "maxLength": MAX_ROOM_CHARACTERS, "pattern": NAME_PATTERN}
USER_RULES: Final = {"minLength": 1, "maxLength": MAX_USER_CHARACTERS, "pattern": NAME_PATTERN}


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


class NameList(ShortList):
    """An array of names, all distinct if ``is_set``. ``check`` raises InvalidName for a text that is none."""

    def __init__(
        self,
        inner: fields.String,
        check: Callable[[str], str],
        *,
        is_set: bool = False,
        metadata: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(inner, metadata=metadata | ({"uniqueItems": True} if is_set else {}), **kwargs)
        self._check = check
        self._is_set = is_set

    def _deserialize(self, value: Any, *more: Any, **options: Any) -> list[Any]:
        names: list[Any] = value if self._are_names(value) else super()._deserialize(value, *more, **options)
        if self._is_set and len(set(names)) < len(names):
            raise ValidationError("The elements are not distinct.")
        return names

    def _are_names(self, value: Any) -> bool:
        """Whether a value is certainly valid: a check of each element by marshmallow takes ten times as long."""
        if not isinstance(value, list) or len(value) not in self._sizes:
            return False
        try:
            return all(type(each) is str and bool(self._check(each)) for each in value)
        except InvalidName:
            return False


def _rule(check: Callable[[str], str]) -> Callable[[str], None]:
    def validate(value: str) -> None:
        try:
            check(value)
        except InvalidName as error:
            raise ValidationError(f"{error.message[:1].upper()}{error.message[1:]}.") from None

    return validate


def room_name(*, required: bool = False, **metadata: Any) -> fields.String:
    """Return the field of a room."""
    return fields.String(required=required, validate=_rule(check_room), metadata=ROOM_RULES | metadata)


def user_name(**metadata: Any) -> fields.String:
    """Return the field of the id of a user."""
    return fields.String(validate=_rule(check_user), metadata=USER_RULES | metadata)


def _check_pointer(value: str) -> None:
    if not is_pointer(value):
        raise ValidationError("Not a JSON pointer that begins with /data or with /args/ and an index.")


class Addressed(Schema):
    """The base of requests with the fields ``namespace`` and ``except``."""

    class Meta:
        unknown = RAISE

    def __init__(self, *, namespaces: Collection[str]) -> None:
        super().__init__()
        self.namespaces = frozenset(namespaces)

    except_ = NameList(
        room_name(),
        check_room,
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


class EmitSchema(Addressed):
    """One event for all connections that the path addresses."""

    to_room: ClassVar[bool] = False
    """Whether the body, and not the path, names the rooms."""
    has_fast_form: ClassVar[bool] = True
    """Whether ``push.fast_parse`` knows the usual body of the call."""

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

    all_ = NameList(
        room_name(),
        check_room,
        data_key="all",
        max_items=MAX_ALL,
        load_default=(),
        metadata={
            "description": "Rooms that a recipient also has to be in, each of them.",
            "default": [],
            "examples": [["role:admin"]],
        },
    )

    ack = fields.Nested(
        AckSchema,
        metadata={
            "description": "Wait for acknowledgements of the clients. The event is live only: it is not stored for"
            " clients that reconnect. Not with `volatile`."
        },
    )

    @validates_schema
    def _can_be_acknowledged(self, data: dict[str, Any], **_: Any) -> None:
        if "ack" in data and data["volatile"]:
            raise ValidationError("A volatile event is not acknowledged; send ack or volatile.", "ack")

    binary = ShortList(
        fields.String(
            validate=_check_pointer, metadata={"pattern": POINTER, "maxLength": MAX_POINTER_CHARACTERS}
        ),
        max_items=MAX_BINARY,
        load_default=(),
        metadata={
            "description": "JSON pointers to base64 strings in `data` or `args` that clients get as buffers.",
            "default": [],
            "examples": [["/data/image"]],
        },
    )

    ttl = Ttl()

    @validates_schema
    def _can_be_kept(self, data: dict[str, Any], **_: Any) -> None:
        check_ttl(data)

    @validates_schema
    def _has_one_payload(self, data: dict[str, Any], **_: Any) -> None:
        if "data" in data and "args" in data:
            raise ValidationError("Send data or args, not both.", "args")
        if data["timestamp"] and not isinstance(data.get("data"), dict):
            raise ValidationError("The timestamp is set in data, so data must be an object.", "timestamp")


class BroadcastSchema(EmitSchema):
    """One event for all connections in a namespace."""

    class Meta:
        unknown = RAISE
        exclude = ("ack", "ttl")


class EmitToRoomSchema(EmitSchema):
    """One event for all connections in one room or in several."""

    class Meta:
        unknown = RAISE
        exclude = ("ttl",)

    to_room = True

    room = room_name(description="The room that gets the event.", examples=["org:7"])
    rooms = NameList(
        room_name(),
        check_room,
        is_set=True,
        min_items=1,
        max_items=MAX_ROOMS,
        metadata={
            "description": "The rooms that get the event, instead of `room`. A connection in several of them gets"
            " it once.",
            "examples": [["org:7", "org:8"]],
        },
    )

    @validates_schema
    def _has_one_address(self, data: dict[str, Any], **_: Any) -> None:
        if ("room" in data) == ("rooms" in data):
            raise ValidationError("Send either room or rooms.", "room")


class EmitToUsersSchema(EmitSchema):
    """One event for all connections of several users."""

    has_fast_form = False

    users = NameList(
        user_name(),
        check_user,
        is_set=True,
        required=True,
        min_items=1,
        max_items=MAX_USERS,
        metadata={"description": "The ids of the users.", "examples": [["42", "43"]]},
    )


class DeadLetterIdsSchema(Schema):
    """Dead letters of the webhook."""

    class Meta:
        unknown = RAISE

    ids = ShortList(
        fields.String(
            validate=validate.Length(min=1, max=MAX_USER_CHARACTERS),
            metadata={"examples": ["p-42-1795262400000"]},
        ),
        required=True,
        min_items=1,
        max_items=MAX_DEAD_LETTER_IDS,
        metadata={
            "description": "The ids of the dead letters, as `GET /webhooks/{id}/dead` returns them. Others change"
            " nothing.",
            "examples": [["p-42-1795262400000"]],
        },
    )


class DisconnectSchema(Addressed):
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
