"""What a session needs of those that carry its packets, and of the layer above."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.transport.session import Session

Deliver = Callable[["Session", str | bytes], Awaitable[None]]
"""Hands one message of a client to the layer above."""


class Wire(Protocol):
    """A WebSocket that is open. Once its connection is gone it takes everything and does nothing."""

    def write(self, frame: bytes, /) -> object: ...

    def bytes_waiting(self) -> int:
        """What was written and is still in this process."""
        ...

    def close(self, code: int) -> None:
        """Send a close frame behind all that was written; only the first call counts."""
        ...

    def abort(self) -> None:
        """Cut the connection; what waits is not sent."""
        ...


class Poll(Protocol):
    """A GET that waits for something to answer with."""

    def wake(self) -> None:
        """Call ``Session.collect`` soon; called once."""
        ...


class Above(Protocol):
    """Who uses the session."""

    def session_closed(self, session: Session, reason: str) -> None:
        """Called once, whichever way it ended."""
        ...

    def session_upgraded(self, session: Session) -> None: ...

    def volatile_skipped(self, reason: str) -> None: ...
