"""The offline queue: messages that are kept for a user and a namespace until they are received, or their time ends.

A connection gets them as messages of its own, to the room of its sid. Their ids are made from those of the kept
messages, so that appending them again changes nothing.
"""

from __future__ import annotations

from typing import Final, TypeGuard

from gateway.domain.messages import Address, LogEntry, Message
from gateway.domain.names import is_user_room
from gateway.domain.positions import Position

MAX_TTL_SECONDS: Final = 604_800
"""Seven days."""
MAX_KEPT: Final = 100
MAX_KEPT_BYTES: Final = 256 * 1024
"""What is kept for one user and namespace at most. Beyond either, the oldest message is removed."""
MAX_OFFLINE_BYTES: Final = 64 * 1024 * 1024
"""What is kept for all users at most. Beyond it a message with a ttl is rejected."""
KEPT_ENTRY_BYTES: Final = 512
"""What a kept message counts beside its content: its id, and its place in the queue."""
MAX_TTL_MESSAGE_BYTES: Final = 128 * 1024
"""The JSON of the arguments of one message with a ttl."""
MAX_TTL_REQUEST_BYTES: Final = 1024 * 1024
"""The same of all messages with a ttl of one request, counted for each of their users: the shared state keeps them in
one step."""

_SEPARATOR: Final = "!"
"""Neither a sid nor the id of a message holds it."""
_COPIES: Final = "\x1d"
"""A character that no room holds."""


def is_kept(entry: LogEntry) -> TypeGuard[Message]:
    """Whether appending an entry keeps it for users: it has a ttl and is addressed to users alone.

    A copy for one connection has a ttl, too, and is addressed to the room of a sid.
    """
    return (
        isinstance(entry, Message)
        and entry.ttl_seconds > 0
        and bool(entry.rooms)
        and all(map(is_user_room, entry.rooms))
    )


def copy_prefix(sid: str) -> str:
    """Return what the ids of all copies for one connection begin with."""
    return sid + _SEPARATOR


def copy_id(message_id: str, position: Position, sid: str) -> str:
    """Return the id of the copy of a kept message, which has a position of its own, for one connection.

    It has no dot: what follows one would mark the copies for other connections as repeats (``repeat_digest``).
    """
    return f"{copy_prefix(sid)}{position}{_SEPARATOR}{message_id.replace('.', _SEPARATOR)}"


def kept_id(id_: str) -> str:
    """Return the id of the kept message that a message is, or is a copy of."""
    _, separator, original = id_.partition(_SEPARATOR)
    return original.partition(_SEPARATOR)[2].replace(_SEPARATOR, ".") if separator else id_


def kept_position(copy: str) -> Position:
    """Return the position of the kept message of which the message with the id ``copy`` is a copy."""
    _, position, _ = copy.split(_SEPARATOR, 2)
    return Position(position)


def copies_address(user: Address) -> Address:
    """Return the address under which the history has the copies for all connections of a user.

    No room has this name, so nothing is sent to it.
    """
    return Address(user.namespace, f"{user.room}{_COPIES}")
