"""The bytes of the Socket.IO 5 packets that the gateway sends (https://socket.io/docs/v4/socket-io-protocol/).

A packet is its type, the namespace and a comma unless it is ``/``, an acknowledgement id if there is one, and JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import orjson

from gateway.domain.messages import Message
from gateway.domain.positions import Position
from gateway.transport.packets import Frames, message

_CONNECT: Final = "0"
_DISCONNECT: Final = "1"
_EVENT: Final = "2"
_CONNECT_ERROR: Final = "4"
_KINDS: Final = {
    _CONNECT: "connect",
    _DISCONNECT: "disconnect",
    _EVENT: "event",
    "3": "ack",
    _CONNECT_ERROR: "connect_error",
    "5": "binary_event",
    "6": "binary_ack",
}
_ATTACHMENT: Final = "attachment"
_MALFORMED: Final = "malformed"
KINDS: Final = (*_KINDS.values(), _ATTACHMENT, _MALFORMED)
"""What a message of a client may be."""


def kind_of(data: str | bytes) -> str:
    """What a message of a client claims to be: one of KINDS."""
    return _KINDS.get(data[:1], _MALFORMED) if isinstance(data, str) else _ATTACHMENT


def encode_message(pushed: Message, position: Position | None) -> Frames:
    """A pushed message, with its position as a last argument or without; its other arguments are JSON already and go
    out as they came in (law 2)."""
    values = [_json(pushed.event), *pushed.arguments]
    if position is not None:
        values.append(_json(position))
    return message(f"{_EVENT}{_prefix(pushed.namespace)}[{','.join(values)}]")


def event(
    namespace: str, name: str, payload: Mapping[str, object], position: Position | None = None
) -> Frames:
    """One of the gateway's own events: an object, and behind it nothing or a position. The stock client takes any other
    text there for one."""
    values = [name, payload] if position is None else [name, payload, position]
    return message(f"{_EVENT}{_prefix(namespace)}{_json(values)}")


def connect(namespace: str, sid: str, pid: str | None) -> Frames:
    """The client is in; with a pid it can come back."""
    answer = {"sid": sid} if pid is None else {"sid": sid, "pid": pid}
    return message(f"{_CONNECT}{_prefix(namespace)}{_json(answer)}")


def connect_error(namespace: str, payload: Mapping[str, object]) -> Frames:
    """The client is not let in; the stock client does not come back by itself."""
    return message(f"{_CONNECT_ERROR}{_prefix(namespace)}{_json(payload)}")


def disconnect(namespace: str) -> Frames:
    """The client is put out; the stock client does not come back by itself."""
    return message(f"{_DISCONNECT}{_prefix(namespace)}")


def _prefix(namespace: str) -> str:
    return "" if namespace == "/" else namespace + ","


def _json(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # A claim of a token may hold half of a surrogate pair, which orjson refuses.
        return json.dumps(value, separators=(",", ":"))
