"""One Socket.IO session of one user in one namespace, as the rest of the house sees it."""

from __future__ import annotations

from asyncio import Lock
from enum import Enum
from typing import Protocol

from gateway.domain import positions
from gateway.domain.endings import Ending
from gateway.domain.identity import Identity
from gateway.domain.positions import Position
from gateway.domain.sessions import Session
from gateway.ports import Frames, Socket, Timer


class State(Enum):
    """How far along a connection is. Only a LIVE one is sent to; one that is BEHIND was welcomed, and reads the history
    first."""

    ARRIVING = "arriving"
    BEHIND = "behind"
    LIVE = "live"
    GONE = "gone"


class Link(Protocol):
    """The way to one client."""

    @property
    def transport(self) -> str: ...

    @property
    def direct(self) -> Socket | None:
        """Where frames may be written to past this link; None: nowhere now."""
        ...

    def send(self, frames: Frames, *, volatile: bool) -> bool:
        """Whether it was taken: a volatile message may be skipped, and one that is gone or too slow gets nothing."""
        ...

    def send_together(self, *frames: Frames) -> None: ...

    @property
    def is_drained(self) -> bool:
        """Whether little of what was sent waits to be read."""
        ...

    @property
    def lane(self) -> Lock:
        """Held by the one who reads the history for somebody on this way: one page at a time fits in there."""
        ...

    async def drained(self) -> None:
        """Wait until little of what was sent waits to be read, or it is gone."""
        ...

    def tell(self, event: str, payload: dict[str, object]) -> None:
        """Send one of the gateway's own events."""
        ...

    def end(self, ending: Ending) -> None: ...


class Connection:
    """One Socket.IO session of one user in one namespace."""

    __slots__ = (
        "connected_at",
        "direct",
        "entered_at",
        "expiry",
        "floor",
        "has_moved",
        "identity",
        "kicked_at",
        "link",
        "namespace",
        "recovery",
        "rooms",
        "session",
        "sid",
        "skipped",
        "state",
        "takes_positions",
    )

    def __init__(
        self,
        sid: str,
        namespace: str,
        identity: Identity,
        link: Link,
        connected_at: float,
        *,
        session: Session | None = None,
    ) -> None:
        self.sid = sid
        self.namespace = namespace
        self.identity = identity
        self.link = link
        self.connected_at = connected_at
        self.state = State.ARRIVING
        self.rooms: frozenset[str] = frozenset()
        self.expiry: Timer | None = None
        self.session = session
        """What it can be resumed with, unless that was declined."""
        self.recovery = "none"
        """What became of its wish to go on where it was: ``recovered``, or why not; ``none``: it had none."""
        self.takes_positions = session is not None
        """Whether its messages carry where they stand in the stream, so that it can come back to there."""
        self.entered_at: Position | None = None
        """Where it came in, or went on; nothing older is for it."""
        self.kicked_at: Position | None = None
        """Where it was let go before it was welcomed."""
        self.has_moved = False
        """It was resumed elsewhere before it was welcomed."""
        self.floor: Position | None = None
        """It has everything up to there, by another way than the listener's: what that brings again is not for it."""
        self.skipped: Position | None = None
        """The newest that was not sent to it, because it was not live."""
        self.direct: Socket | None = None
        """Set only while it is LIVE: a fan-out looks here and at nothing else of a connection (see ``_write``)."""

    @property
    def user(self) -> str:
        return self.identity.user

    @property
    def was_kicked(self) -> bool:
        """Whether it was let go after it had come in, before it was welcomed."""
        return self.kicked_at is not None and self.is_newer(self.kicked_at)

    def is_newer(self, position: Position) -> bool:
        """Whether that came after this connection."""
        return self.entered_at is None or positions.is_after(position, self.entered_at)

    def be_resumable(self, session: Session) -> None:
        """From now on it can be resumed with this."""
        self.session = session
        self.takes_positions = True

    def has_all_up_to(self, position: Position) -> bool:
        """Whether it may go live there: nothing newer was skipped."""
        return self.skipped is None or not positions.is_after(self.skipped, position)

    def go_live(self, floor: Position | None = None) -> None:
        """From now on it is sent to: what is newer than ``floor``, up to which it has everything."""
        self.state = State.LIVE
        self.floor = floor
        self.changed_carrier()

    def changed_carrier(self) -> None:
        """Its link sends another way."""
        if self.state is State.LIVE and self.floor is None:
            self.direct = self.link.direct

    def forget_positions(self) -> None:
        """Another stream counts anew: what came before says nothing of what comes."""
        self.skipped = None
        self.pass_floor()

    def pass_floor(self) -> None:
        """The listener has come to what is new for it."""
        self.floor = None
        self.changed_carrier()

    def go(self) -> None:
        """It is not sent to any more."""
        self.state = State.GONE
        self.direct = None
