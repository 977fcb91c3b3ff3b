"""Who is connected, over all replicas."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PresentConnection:
    """One connection as others see it. ``connected_at`` in seconds since 1970; ``transport`` polling or websocket."""

    sid: str
    user: str
    namespace: str
    replica: str
    transport: str
    connected_at: float


@dataclass(frozen=True, slots=True)
class UserPresence:
    """All connections of a user, the oldest first; ``last_seen`` (seconds since 1970) once the last one has left."""

    user: str
    connections: tuple[PresentConnection, ...] = field(default=())
    last_seen: float | None = None

    @property
    def online(self) -> bool:
        return bool(self.connections)
