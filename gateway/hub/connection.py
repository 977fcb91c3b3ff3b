"""One Socket.IO session of one user in one namespace, as the rest of the house sees it."""

from __future__ import annotations

from asyncio import Lock
from enum import Enum
from typing import Protocol

from gateway.domain import positions
from gateway.domain.disconnects import DisconnectReason
from gateway.domain.identity import Identity
from gateway.domain.positions import Position
from gateway.domain.sessions import RecoverySession
from gateway.interfaces import Frames, Socket, Timer


class ConnectionState(Enum):
    """How far along a connection is. Only a LIVE one is sent to; one that is BEHIND was welcomed, and reads the history
    first."""

    CONNECTING = "connecting"
    REPLAYING = "replaying"
    LIVE = "live"
    CLOSED = "closed"


class ClientTransport(Protocol):
    """The way to one client."""

    @property
    def name(self) -> str: ...

    @property
    def socket(self) -> Socket | None:
        """Where frames may be written to past this link; None: nowhere now."""
        ...

    def send(self, frames: Frames, *, volatile: bool) -> bool:
        """Whether it was taken: a volatile message may be skipped, and one that is gone or too slow gets nothing."""
        ...

    def batch(self, *frames: Frames) -> None: ...

    @property
    def is_drained(self) -> bool:
        """Whether little of what was sent waits to be read."""
        ...

    @property
    def replay_lock(self) -> Lock:
        """Held by the one who reads the history for somebody on this way: one page at a time fits in there."""
        ...

    async def wait_drained(self) -> None:
        """Wait until little of what was sent waits to be read, or it is gone."""
        ...

    def emit(self, event: str, payload: dict[str, object]) -> None:
        """Send one of the gateway's own events."""
        ...

    def disconnect(self, reason: DisconnectReason) -> None: ...


class Connection:
    """One Socket.IO session of one user in one namespace."""

    __slots__ = (
        "connected_at",
        "disconnected_at",
        "expiry",
        "first_position",
        "identity",
        "last_skipped",
        "namespace",
        "recovery",
        "replay_watermark",
        "rooms",
        "session",
        "sid",
        "socket",
        "state",
        "taken_over",
        "transport",
        "wants_offsets",
    )

    def __init__(
        self,
        sid: str,
        namespace: str,
        identity: Identity,
        transport: ClientTransport,
        connected_at: float,
        *,
        session: RecoverySession | None = None,
    ) -> None:
        self.sid = sid
        self.namespace = namespace
        self.identity = identity
        self.transport = transport
        self.connected_at = connected_at
        self.state = ConnectionState.CONNECTING
        self.rooms: frozenset[str] = frozenset()
        self.expiry: Timer | None = None
        self.session = session
        """What it can be resumed with, unless that was declined."""
        self.recovery = "none"
        """What became of its wish to go on where it was: ``recovered``, or why not; ``none``: it had none."""
        self.wants_offsets = session is not None
        """Whether its messages carry where they stand in the stream, so that it can come back to there."""
        self.first_position: Position | None = None
        """Where it came in, or went on; nothing older is for it."""
        self.disconnected_at: Position | None = None
        """Where it was let go before it was welcomed."""
        self.taken_over = False
        """It was resumed elsewhere before it was welcomed."""
        self.replay_watermark: Position | None = None
        """It has everything up to there, by another way than the listener's: what that brings again is not for it."""
        self.last_skipped: Position | None = None
        """The newest that was not sent to it, because it was not live."""
        self.socket: Socket | None = None
        """Set only while it is LIVE: a fan-out looks here and at nothing else of a connection (see ``_write``)."""

    @property
    def user(self) -> str:
        return self.identity.user

    @property
    def was_disconnected(self) -> bool:
        """Whether it was let go after it had come in, before it was welcomed."""
        return self.disconnected_at is not None and self.is_newer(self.disconnected_at)

    def is_newer(self, position: Position) -> bool:
        """Whether that came after this connection."""
        return self.first_position is None or positions.is_after(position, self.first_position)

    def attach_session(self, session: RecoverySession) -> None:
        """From now on it can be resumed with this."""
        self.session = session
        self.wants_offsets = True

    def has_received(self, position: Position) -> bool:
        """Whether it may go live there: nothing newer was skipped."""
        return self.last_skipped is None or not positions.is_after(self.last_skipped, position)

    def go_live(self, replay_watermark: Position | None = None) -> None:
        """From now on it is sent to: what is newer than ``floor``, up to which it has everything."""
        self.state = ConnectionState.LIVE
        self.replay_watermark = replay_watermark
        self.on_transport_changed()

    def on_transport_changed(self) -> None:
        """Its link sends another way."""
        if self.state is ConnectionState.LIVE and self.replay_watermark is None:
            self.socket = self.transport.socket

    def reset_positions(self) -> None:
        """Another stream counts anew: what came before says nothing of what comes."""
        self.last_skipped = None
        self.clear_replay_watermark()

    def clear_replay_watermark(self) -> None:
        """The listener has come to what is new for it."""
        self.replay_watermark = None
        self.on_transport_changed()

    def close(self) -> None:
        """It is not sent to any more."""
        self.state = ConnectionState.CLOSED
        self.socket = None
