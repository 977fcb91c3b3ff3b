"""The bytes of the Socket.IO 5 packets that the gateway sends (https://socket.io/docs/v4/socket-io-protocol/).

A packet is its type, the namespace and a comma unless it is ``/``, an acknowledgement id if there is one, and JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from gateway.domain.messages import Message
from gateway.domain.positions import Position
from gateway.transport.packets import Frames, message

_CONNECT: Final = "0"
_DISCONNECT: Final = "1"
_EVENT: Final = "2"
_ACK: Final = "3"
_CONNECT_ERROR: Final = "4"
_KINDS: Final = {
    _CONNECT: "connect",
    _DISCONNECT: "disconnect",
    _EVENT: "event",
    _ACK: "ack",
    _CONNECT_ERROR: "connect_error",
    "5": "binary_event",
    "6": "binary_ack",
}
_ATTACHMENT: Final = "attachment"
_MALFORMED: Final = "malformed"
KINDS: Final = (*_KINDS.values(), _ATTACHMENT, _MALFORMED)
"""The kinds of messages that a client may send."""


def kind_of(data: str | bytes) -> str:
    """Return the kind of a client's message, one of KINDS, by its first character."""
    return _KINDS.get(data[:1], _MALFORMED) if isinstance(data, str) else _ATTACHMENT


def encode_message(pushed: Message, position: Position | None) -> Frames:
    """Encode a message, with its position as the last argument unless that is None.

    The other arguments are JSON already and are sent as they were received (docs/explanation/architecture.md,
    invariant 2).
    """
    values = [_json(pushed.event), *pushed.arguments]
    if position is not None:
        values.append(_json(position))
    return message(f"{_EVENT}{_prefix(pushed.namespace)}[{','.join(values)}]")


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


def _json(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # A claim of a token may have half of a surrogate pair, which orjson rejects.
        return json.dumps(value, separators=(",", ":"))
