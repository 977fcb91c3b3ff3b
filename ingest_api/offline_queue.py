"""Pushes that are kept for users until they are received: the member ``ttl`` of a body, and what it is not for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from marshmallow import ValidationError, fields

from gateway.domain.messages import Message, json_bytes
from gateway.domain.names import USER_PREFIX
from gateway.domain.offline_queue import MAX_TTL_MESSAGE_BYTES, MAX_TTL_REQUEST_BYTES, MAX_TTL_SECONDS
from ingest_api.errors import Problem

_TOO_LARGE: Final = f"More than {MAX_TTL_MESSAGE_BYTES} bytes of JSON are not kept; push it without a ttl."
_TOO_MUCH: Final = f"{MAX_TTL_REQUEST_BYTES} bytes of JSON at most in one request, counted for each user."


class Ttl(fields.Field[int]):
    """Whole seconds, from 1 to MAX_TTL_SECONDS."""

    def __init__(self) -> None:
        metadata = {
            "type": "integer",
            "description": "For how many seconds the event is kept for each user until a client of the user has"
            " received it. A new connection of the user gets it first. Not with `volatile` or `ack`.",
            "minimum": 1,
            "maximum": MAX_TTL_SECONDS,
            "examples": [3600],
        }
        super().__init__(metadata=metadata)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        # JSON has one kind of numbers: 60.0 is whole.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 1 <= value <= MAX_TTL_SECONDS or value != int(value):
            raise ValidationError(f"A whole number of seconds from 1 to {MAX_TTL_SECONDS}.")
        return int(value)


def check_ttl(data: dict[str, Any]) -> None:
    """Check that a push that is to be kept can be: it has one meaning, and only users are its recipients.

    Raises:
        ValidationError: It cannot.
    """
    if not data.get("ttl"):
        return
    if data["volatile"] or "ack" in data:
        raise ValidationError("An event is kept, or it is volatile or acknowledged.", "ttl")
    if "to" in data and not (data["to"] and all(room.startswith(USER_PREFIX) for room in data["to"])):
        raise ValidationError("Events are kept for users alone: send to user or users.", "ttl")


def check_kept_sizes(messages: Iterable[Message], path: str) -> None:
    """Check that the messages of one request that are to be kept are small enough.

    ``path`` is that of the ttl in the body, with braces for the number of the message.

    Raises:
        Problem: One is not (``invalid_body``).
    """
    kept = 0
    for number, message in enumerate(messages):
        if not message.ttl_seconds:
            continue
        size = json_bytes(message)
        kept += size * len(message.rooms)
        if size > MAX_TTL_MESSAGE_BYTES or kept > MAX_TTL_REQUEST_BYTES:
            where, error = path.format(number), _TOO_LARGE if size > MAX_TTL_MESSAGE_BYTES else _TOO_MUCH
            raise Problem("invalid_body", f"the body breaks the rules: {where}", errors={where: [error]})
