"""The bytes of the Socket.IO 5 packets that the gateway sends, and of the events that it receives (https://socket.io/docs/v4/socket-io-protocol/).

A packet is its type, the namespace and a comma unless it is ``/``, an acknowledgement id if there is one, and JSON.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from gateway import interfaces
from gateway.domain.attachments import fill_placeholders, with_base64
from gateway.domain.messages import Message
from gateway.domain.positions import Position
from gateway.domain.strict_json import decode_strictly
from gateway.services.client_events.rules import MAX_DEPTH
from gateway.transport.packets import MESSAGE, Frames, FrameSequence, message

_CONNECT: Final = "0"
_DISCONNECT: Final = "1"
_EVENT: Final = "2"
_MESSAGE_EVENT: Final = MESSAGE + _EVENT
_ACK: Final = "3"
_CONNECT_ERROR: Final = "4"
_BINARY_EVENT: Final = "5"
BINARY_ACK: Final = "6"
_KINDS: Final = {
    _CONNECT: "connect",
    _DISCONNECT: "disconnect",
    _EVENT: "event",
    _ACK: "ack",
    _CONNECT_ERROR: "connect_error",
    _BINARY_EVENT: "binary_event",
    BINARY_ACK: "binary_ack",
}
_ATTACHMENT: Final = "attachment"
_MALFORMED: Final = "malformed"
KINDS: Final = (*_KINDS.values(), _ATTACHMENT, _MALFORMED)
"""The kinds of messages that a client may send."""
_MAX_ACK_DIGITS: Final = 18
_ACKS: Final = (_ACK, BINARY_ACK)
_ACK_HEAD: Final = re.compile(
    rf"(?:{_ACK}|{BINARY_ACK}(?:([0-9]{{1,9}})-)?)(?:(/[^,]*),)?([0-9]{{1,{_MAX_ACK_DIGITS}}})(?=\[)"
)
"""With the number of attachments, the namespace and the id."""
_MAX_FLOAT: Final = 2.0**63
"""orjson makes floats of integers beyond 64 bits. They begin here; those up to 2**64 are left out too."""


class EventPacket(NamedTuple):
    """A received event: its namespace, the id of the requested acknowledgement, its name and its arguments."""

    namespace: str
    ack_id: int | None
    values: list[object]


def kind_of(data: str | bytes) -> str:
    """Return the kind of a client's message, one of KINDS, by its first character."""
    return _KINDS.get(data[:1], _MALFORMED) if isinstance(data, str) else _ATTACHMENT


def decode_event(text: str) -> EventPacket | None:
    """Decode an event whose name is a string and whose arguments pass ``rules.check_values``.

    Return None for every other message: python-socketio decodes it. That takes about five times as long, and where both
    decode a message, they return the same.
    """
    start = text.find("[")
    if start < 1 or text[0] != _EVENT:
        return None
    namespace, ack_id, head = "/", None, text[1:start]
    if head.startswith("/"):
        namespace, comma, head = head.partition(",")
        if not comma or "?" in namespace:
            return None
    if head:
        if not head.isdecimal() or len(head) > _MAX_ACK_DIGITS:
            return None
        ack_id = int(head)
    try:
        values = orjson.loads(text[start:])
    except orjson.JSONDecodeError:
        return None  # Also for NaN and for half of a surrogate pair, which python-socketio accepts.
    if not values or type(values[0]) is not str or not _are_plain(values, MAX_DEPTH):
        return None
    return EventPacket(namespace, ack_id, values)


def _are_plain(values: Iterable[Any], depth: int) -> bool:
    """Whether values of orjson are at most ``depth`` levels deep and hold no float that may have been an integer."""
    for value in values:
        kind = type(value)
        if kind is str or kind is int:
            continue
        if kind is dict or kind is list:
            items = value.values() if kind is dict else value
            if not depth or not _are_plain(items, depth - 1):
                return False
        elif kind is float and not -_MAX_FLOAT < value < _MAX_FLOAT:
            return False
    return True


class AckAddress(NamedTuple):
    """The head of a received acknowledgement. ``start`` is where its arguments begin."""

    namespace: str
    ack_id: int
    attachments: int
    start: int


class AckPacket(NamedTuple):
    """A received acknowledgement: its namespace, its id, the text of the array of its arguments and their number.

    ``binary`` has JSON pointers to the base64 strings in it that stand for buffers.
    """

    namespace: str
    ack_id: int
    arguments: str
    number: int
    binary: tuple[str, ...] = ()


def ack_address(text: str) -> AckAddress | None:
    """Decode the head of an acknowledgement with or without attachments; return None for every other message."""
    if not text.startswith(_ACKS):
        return None
    head = _ACK_HEAD.match(text)
    if head is None:
        return None
    attachments, namespace, ack_id = head.groups()
    return AckAddress(namespace or "/", int(ack_id), int(attachments or 0), head.end())


def decode_ack(text: str, attachments: Sequence[bytes] = ()) -> AckPacket | None:
    """Decode an acknowledgement whose arguments are strict JSON; return None for every other message.

    Without attachments the arguments stay text, so that numbers are passed on as the client wrote them. Attachments
    become base64 strings; the pointers to these begin with ``/data`` for one argument, else with ``/args/0``.
    """
    address = ack_address(text)
    if address is None:
        return None
    namespace, ack_id, _, start = address
    arguments = text[start:]
    try:
        values = decode_strictly(arguments.encode())
        if not isinstance(values, list):
            return None
        if not attachments:
            return AckPacket(namespace, ack_id, arguments, len(values))
        filled = fill_placeholders(values, attachments)
    except (ValueError, RecursionError):
        return None
    pointers: list[str] = []
    is_one = len(filled) == 1
    replaced = (
        [with_base64(filled[0], "/data", pointers)] if is_one else with_base64(filled, "/args", pointers)
    )
    return AckPacket(namespace, ack_id, _compact(replaced), len(values), tuple(pointers))


def encode_message(
    pushed: Message, position: Position | None, *, ack_id: int | None = None
) -> interfaces.Frames:
    """Encode a message, with its position as the last argument unless that is None.

    ``ack_id`` asks the client for an acknowledgement with this id.

    The other arguments are JSON already and are sent as they were received (docs/explanation/architecture.md,
    invariant 2). Attachments follow their packet, each as a binary message.
    """
    namespace, arguments = pushed.namespace, pushed.arguments
    if len(arguments) == 1 and namespace == "/" and ack_id is None and not pushed.attachments:
        # Nearly every message.
        last = "" if position is None else f',"{position}"'
        return Frames(f"{_MESSAGE_EVENT}[{_event_name(pushed.event)},{arguments[0]}{last}]")
    prefix = "" if namespace == "/" else f"{namespace},"
    last = "" if position is None else f',"{position}"'
    data = f",{','.join(arguments)}" if arguments else ""
    text = f"{prefix}{'' if ack_id is None else ack_id}[{_event_name(pushed.event)}{data}{last}]"
    if not pushed.attachments:
        return message(_EVENT + text)
    attached = [Frames(b64decode(each)) for each in pushed.attachments]
    return FrameSequence([message(f"{_BINARY_EVENT}{len(attached)}-{text}"), *attached])


def event(
    namespace: str, name: str, payload: Mapping[str, object], position: Position | None = None
) -> Frames:
    """Encode one of the gateway's own events: an object, then a position or nothing.

    The stock client takes any string at the end for a position.
    """
    values = [name, payload] if position is None else [name, payload, position]
    return message(f"{_EVENT}{_prefix(namespace)}{_json(values)}")


def ack(namespace: str, ack_id: int, arguments: Sequence[object]) -> Frames:
    """Encode an acknowledgement. It always has an array: the stock client fails without one."""
    return message(f"{_ACK}{_prefix(namespace)}{ack_id}{_json(arguments)}")


def connect(namespace: str, sid: str, pid: str | None) -> Frames:
    """Encode the acceptance of a connection. A client that gets a pid can resume it."""
    answer = {"sid": sid} if pid is None else {"sid": sid, "pid": pid}
    return message(f"{_CONNECT}{_prefix(namespace)}{_json(answer)}")


def connect_error(namespace: str, payload: Mapping[str, object]) -> Frames:
    """Encode the rejection of a connection. The stock client does not reconnect by itself."""
    return message(f"{_CONNECT_ERROR}{_prefix(namespace)}{_json(payload)}")


def disconnect(namespace: str) -> Frames:
    """Encode the disconnection of a client. The stock client does not reconnect by itself."""
    return message(f"{_DISCONNECT}{_prefix(namespace)}")


def _prefix(namespace: str) -> str:
    return "" if namespace == "/" else namespace + ","


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=1024)
def _event_name(event: str) -> str:
    """Return the name of an event as JSON. Applications have few events, each of at most 128 characters."""
    return _json(event)


def _json(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # A claim of a token may have half of a surrogate pair, which orjson rejects.
        return json.dumps(value, separators=(",", ":"))
