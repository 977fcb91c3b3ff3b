"""Presence: the connections of a user on all replicas, and the changes of users between online and offline."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from gateway.domain.messages import Address
from gateway.domain.sessions import RecoverySession

MAX_PRESENCE_ADDRESSES: Final = 100
"""The most addresses of a user that are kept for changes of presence."""


@dataclass(frozen=True, slots=True)
class PresentConnection:
    """One connection in the shared state. ``connected_at``: seconds since 1970. ``transport``: polling or websocket."""

    sid: str
    user: str
    namespace: str
    replica: str
    transport: str
    connected_at: float


@dataclass(frozen=True, slots=True)
class ClosedConnection:
    """A connection of this replica that is gone.

    ``pid`` and ``owner`` are those of its recovery session, empty without one. The session is parked, so that the
    connection counts as recoverable, or deleted. ``keeps_sid``: the sid was resumed here and stays registered. ``user``
    is whose connection it was.
    """

    sid: str
    user: str = ""
    pid: str = ""
    owner: str = ""
    is_parked: bool = False
    keeps_sid: bool = False


@dataclass(frozen=True, slots=True)
class ChangedRooms:
    """A connection of this replica with other rooms than before. ``session``: its recovery session with these rooms."""

    sid: str
    rooms: frozenset[str]
    session: RecoverySession | None = None


@dataclass(frozen=True, slots=True)
class UserPresence:
    """The connections of a user, oldest first. ``last_seen``: when the last one ended (seconds since 1970), or None.

    ``recoverable``: how many further connections were lost and may still be resumed. ``version``: that of the newest
    change of the user (PresenceChange); None if none is recorded.
    """

    user: str
    connections: tuple[PresentConnection, ...] = field(default=())
    last_seen: float | None = None
    recoverable: int = 0
    version: int | None = None

    @property
    def is_online(self) -> bool:
        return bool(self.connections)


class PresenceConsumer(Enum):
    """Which side is notified of changes: the webhook of a backend, or the clients (``announce``)."""

    WEBHOOK = "webhook"
    CLIENTS = "clients"


@dataclass(frozen=True, slots=True)
class PresenceRules:
    """When users are offline, and which sides are notified."""

    offline_after_seconds: float
    consumers: frozenset[PresenceConsumer]


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """The newest state of a user. A receiver ignores a change whose version is not above that of the last one.

    ``version`` is in milliseconds since 1970, or later. ``since`` is when the user connected, or when the last
    connection ended, in seconds since 1970. ``connections``: how many there are now, 0 while offline. ``addresses`` are
    those of the connections since the user is online: the namespaces without a room and all rooms but those of the
    sids, MAX_PRESENCE_ADDRESSES at most. ``partition`` is that of the user.
    """

    user: str
    is_online: bool
    version: int
    since: float
    connections: int
    partition: int
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class UserList:
    """The connections of a namespace as JSON texts, those that came first in front; ``total`` counts all.

    ``version`` changes whenever the list does.
    """

    version: int
    total: int
    entries: tuple[str, ...] = ()
