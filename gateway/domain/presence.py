"""Presence: the connections of a user on all replicas."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    connection counts as recoverable, or deleted. ``keeps_sid``: the sid was resumed here and stays registered.
    """

    sid: str
    pid: str = ""
    owner: str = ""
    is_parked: bool = False
    keeps_sid: bool = False


@dataclass(frozen=True, slots=True)
class UserPresence:
    """The connections of a user, oldest first. ``last_seen``: when the last one ended (seconds since 1970), or None.

    ``recoverable``: how many further connections were lost and may still be resumed.
    """

    user: str
    connections: tuple[PresentConnection, ...] = field(default=())
    last_seen: float | None = None
    recoverable: int = 0

    @property
    def is_online(self) -> bool:
        return bool(self.connections)
