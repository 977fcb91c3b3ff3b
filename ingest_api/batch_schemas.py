"""marshmallow schemas of the body of ``POST /batch``."""

from __future__ import annotations

from typing import Any, Final

from marshmallow import RAISE, Schema, ValidationError, fields

from gateway.domain.messages import MAX_BATCH
from gateway.domain.names import MAIN_NAMESPACE, check_room, check_user, user_room
from ingest_api.schemas import (
    MAX_ROOMS,
    MAX_USERS,
    ROOM_RULES,
    USER_RULES,
    BroadcastSchema,
    NameList,
    ShortList,
    room_name,
    user_name,
)

MAX_ADDRESSES: Final = 256
"""Users, rooms and everyone in the messages of a batch."""
EVERYONE: Final = "everyone"


class _TargetSchema(Schema):
    """Who gets a message of a batch, unless it is everyone: exactly one of these."""

    class Meta:
        unknown = RAISE

    user = user_name(description="The id of a user.", examples=["42"])
    users = NameList(
        user_name(),
        check_user,
        is_set=True,
        min_items=1,
        max_items=MAX_USERS,
        metadata={"examples": [["42", "43"]]},
    )
    room = room_name(examples=["org:7"])
    rooms = NameList(
        room_name(),
        check_room,
        is_set=True,
        min_items=1,
        max_items=MAX_ROOMS,
        metadata={"examples": [["org:7"]]},
    )


class Target(fields.Raw):
    """Whom a message of a batch is for, or which connections. It is loaded as a tuple of rooms; an empty one: all."""

    def __init__(self, description: str) -> None:
        names = {
            "user": USER_RULES,
            "users": {"items": {"type": "string"} | USER_RULES, "maxItems": MAX_USERS},
            "room": ROOM_RULES,
            "rooms": {"items": {"type": "string"} | ROOM_RULES, "maxItems": MAX_ROOMS},
        }
        kinds = [{"const": EVERYONE}, *(_only(name, rules) for name, rules in names.items())]
        metadata = {"description": description, "oneOf": kinds, "examples": [{"user": "42"}]}
        super().__init__(required=True, metadata=metadata)
        self._schema = _TargetSchema()

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[str, ...]:
        if value == EVERYONE:
            return ()
        if not isinstance(value, dict) or len(value) != 1:
            raise ValidationError(f"Send {EVERYONE}, or an object with one of user, users, room and rooms.")
        [(kind, names)] = self._schema.load(value).items()
        names = [names] if isinstance(names, str) else names
        return tuple(map(user_room, names) if kind.startswith("user") else names)


def _only(name: str, rules: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of an object whose one member is a name, or a list of distinct names."""
    is_list = "items" in rules
    kind = {"type": "array", "minItems": 1, "uniqueItems": True} if is_list else {"type": "string"}
    return {
        "type": "object",
        "properties": {name: kind | rules},
        "required": [name],
        "additionalProperties": False,
    }


class BatchMessageSchema(BroadcastSchema):
    """One message of a batch."""

    class Meta:
        unknown = RAISE
        exclude = ("ack",)

    to = Target(
        "Who gets the event: one of `user`, `users`, `room` and `rooms`, or `everyone` in the namespace. A"
        " connection gets it once."
    )


class _Undecoded(fields.Nested):
    """Any value: each message of a batch is validated by itself. The nested schema is for the OpenAPI document."""

    def __init__(self) -> None:
        super().__init__(BatchMessageSchema(namespaces=(MAIN_NAMESPACE,)))

    def deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        return value


class BatchSchema(Schema):
    """Messages that are accepted in this order, all or none."""

    class Meta:
        unknown = RAISE

    messages = ShortList(
        _Undecoded(),
        required=True,
        min_items=1,
        max_items=MAX_BATCH,
        metadata={
            "description": f"The messages. They have {MAX_ADDRESSES} users, rooms and `everyone` in all at most."
        },
    )
