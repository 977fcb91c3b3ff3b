"""What Redis keeps of connections and sessions, as bytes, and what this replica says of its own.

    conns:<r>     sid → {"user", "at": [address names]}         read by the scripts (registry.lua)
    user:<u>      sid → replica, a blank, {"v", "n", "t", "c"}  namespace, transport, connected at
    sessions:<r>  pid → owner, LF, user, LF, namespace, LF, {"v", "s", "p", "r", "e"}
                  sid, first position, rooms, {room: where it was entered} for those that were entered later

``v`` is the format. A release reads its own and the previous; what it cannot read counts as not there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from gateway.domain import positions
from gateway.domain.errors import MalformedPosition
from gateway.domain.messages import Address
from gateway.domain.presence import PresentConnection
from gateway.domain.sessions import Session
from gateway.state.redis.keys import address_name

_FORMAT: Final = 1
_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, eq=False, slots=True)
class Registered:
    """A connection of this replica and its rooms, to be registered anew whenever Redis has lost them. Another one each
    time that something of it changes."""

    connection: PresentConnection
    rooms: frozenset[str]

    def arguments(self, pid: str) -> tuple[str, str, str, str, str]:
        """What ``register.lua`` needs of it: sid, user, what others see, where it counts, the pid of its session."""
        connection = self.connection
        return (connection.sid, connection.user, self.seen(), self.counted(), pid)

    def counted(self) -> str:
        """Everywhere that it counts: everyone in its namespace, the room of its sid, its rooms."""
        connection = self.connection
        rooms = {None, connection.sid, *self.rooms}
        names = [address_name(Address(connection.namespace, room)) for room in rooms]
        return _ENCODE({"user": connection.user, "at": names})

    def seen(self) -> str:
        """What others see of it."""
        connection = self.connection
        fields = {
            "v": _FORMAT,
            "n": connection.namespace,
            "t": connection.transport,
            "c": connection.connected_at,
        }
        return f"{connection.replica} {_ENCODE(fields)}"


def decode_seen(user: str, sid: bytes, value: bytes) -> PresentConnection | None:
    """A connection as others see it; None for what no release of ours wrote."""
    try:
        replica, _, text = value.decode().partition(" ")
        fields = json.loads(text)
        if fields["v"] != _FORMAT:
            return None
        connected_at = float(fields["c"])
        if not math.isfinite(connected_at):
            return None
        return PresentConnection(
            sid.decode(), user, str(fields["n"]), replica, str(fields["t"]), connected_at
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def encode_session(session: Session) -> str:
    """A session as it is kept."""
    rest = {
        "v": _FORMAT,
        "s": session.sid,
        "p": session.first_position,
        "r": sorted(session.rooms),
        "e": dict(session.entered),
    }
    return f"{session.owner}\n{session.user}\n{session.namespace}\n{_ENCODE(rest)}"


def decode_session(pid: str, value: bytes) -> Session | None:
    """A session that was kept; None for what no release of ours wrote."""
    try:
        owner, user, namespace, text = value.decode().split("\n", 3)
        rest: Any = json.loads(text)
        if rest["v"] != _FORMAT:
            return None
        return Session(
            pid=pid,
            sid=_text(rest["s"]),
            user=user,
            namespace=namespace,
            owner=owner,
            rooms=frozenset(map(_text, _list(rest["r"]))),
            first_position=positions.parse(rest["p"]),
            entered={room: positions.parse(position) for room, position in rest["e"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MalformedPosition):
        return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _list(value: object) -> Collection[object]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value
