"""Emits with acknowledgement: the member ``ack`` of a body, the wait, and the members of the response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from marshmallow import RAISE, Schema, ValidationError, fields, post_load

from gateway.domain.acks import (
    ALL,
    DEFAULT_ACK_SECONDS,
    FIRST,
    MAX_ACK_SECONDS,
    MAX_WANTED,
    MIN_ACK_SECONDS,
    AckResult,
    AckTerms,
    ClientAck,
)
from gateway.domain.messages import Message, PublishResult
from ingest_api.interfaces import AckWaits
from ingest_api.request import Request

_WANTED: Final = {"first": FIRST, "all": ALL}


class _Wanted(fields.Field[int]):
    """``first``, ``all`` or a number of acknowledgements."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if isinstance(value, str) and value in _WANTED:
            return _WANTED[value]
        # As in JSON Schema, 2.0 is an integer.
        is_integer = type(value) is int or (type(value) is float and value.is_integer())
        if not is_integer or not 1 <= value <= MAX_WANTED:
            raise ValidationError(f"first, all, or a number from 1 to {MAX_WANTED}.")
        return int(value)


class _Seconds(fields.Field[float]):
    """A number of seconds."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not MIN_ACK_SECONDS <= value <= MAX_ACK_SECONDS:
            raise ValidationError(f"A number from {MIN_ACK_SECONDS:g} to {MAX_ACK_SECONDS:g}.")
        return float(value)


class AckSchema(Schema):
    """Which acknowledgements of clients the response waits for."""

    class Meta:
        unknown = RAISE

    want = _Wanted(
        required=True,
        metadata={
            "description": "The response comes with the first acknowledgement (`first`), with this many, or once each"
            " connection that got the event has acknowledged it (`all`).",
            "oneOf": [
                {"type": "string", "enum": sorted(_WANTED)},
                {"type": "integer", "minimum": 1, "maximum": MAX_WANTED},
            ],
            "examples": ["first"],
        },
    )
    timeout_seconds = _Seconds(
        load_default=DEFAULT_ACK_SECONDS,
        metadata={
            "type": "number",
            "description": "The longest wait. Afterwards the response has what was received.",
            "minimum": MIN_ACK_SECONDS,
            "maximum": MAX_ACK_SECONDS,
            "examples": [5],
        },
    )

    @post_load
    def _terms(self, data: dict[str, Any], **_: Any) -> AckTerms:
        return AckTerms(data["want"], data["timeout_seconds"])


async def publish_and_wait(
    waits: AckWaits,
    message: Message,
    terms: AckTerms,
    publish: Callable[[Message], Awaitable[PublishResult]],
    request: Request,
) -> tuple[PublishResult, AckResult]:
    """Publish a message and return once the wait is over. It also ends when the caller closes the connection.

    Raises:
        TooManyAckWaits: Too many requests wait; nothing was published.
        GatewayError: What ``publish`` raises.
    """
    caller = request.caller
    with waits.open(message.id, terms) as wait:
        result = await publish(message._replace(reply_to=waits.replica, ack=terms))
        if caller is None:
            return result, await wait.wait(result)
        caller.on_close = wait.end
        try:
            if caller.is_closing:
                wait.end()
            return result, await wait.wait(result)
        finally:
            caller.on_close = None


def ack_members(result: AckResult) -> dict[str, Any]:
    """Return the members of a response. What clients sent is passed on as they wrote it."""
    members: dict[str, Any] = {
        "complete": result.is_complete,
        "asked": result.asked,
        "acked": result.acked,
        "gone": result.gone,
        "silent": result.silent,
        "unheard": result.unheard,
        "acks": [_ack(ack) for ack in result.acks],
    }
    if result.is_truncated:
        members["truncated"] = True
    return members


def _ack(ack: ClientAck) -> dict[str, Any]:
    members: dict[str, Any] = {"sid": ack.sid, "user": ack.user}
    if ack.number > 1:
        members["args"] = orjson.Fragment(ack.arguments)
    else:
        # Between the brackets of an array of one element is that element.
        members["data"] = orjson.Fragment(ack.arguments.strip()[1:-1]) if ack.number else None
    if ack.binary:
        members["binary"] = ack.binary
    members["seconds"] = round(ack.seconds, 6)
    return members
