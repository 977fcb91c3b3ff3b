"""The interfaces of delivery: entries, encoded messages, the sockets that take them, and who observes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.domain.messages import Address, LogEntry, Message
from gateway.domain.positions import Position


class Deliver(Protocol):
    """Delivers one entry, with its position, to the connections of this replica.

    ``more``: another entry is likely to follow at once, and frames of both may be sent together. The frames of the last
    one are sent with those of the next entry, or by the ``Flush`` that belongs to it.
    """

    def __call__(self, entry: LogEntry, position: Position, /, *, more: bool) -> Awaitable[None]: ...


Flush = Callable[[], Awaitable[None]]
"""Sends the frames that wait for the next entry."""


async def no_flush() -> None:
    """Do nothing: for a ``Deliver`` that keeps no frames."""


class DeliverNow(Protocol):
    """Delivers a plain message (``Broker.append_now``) for one address in this step, if that is little work.

    Return False if nothing was done: ``Deliver`` has to deliver the message. Called only while no entry before it waits
    for ``Deliver``. ``more`` is that of ``Deliver``: the message may wait for the next entry or a ``Flush``.
    """

    def __call__(
        self, message: Message, position: Position, address: Address, /, *, more: bool = False
    ) -> bool: ...


def never_now(_message: Message, _position: Position, _address: Address, /, *, more: bool = False) -> bool:  # noqa: ARG001
    """Return False: for a ``Deliver`` that delivers everything itself."""
    return False


class Frames(Protocol):
    """One message, encoded once for all recipients (invariant 1)."""

    @property
    def frame(self) -> bytes:
        """The complete WebSocket frame."""

    @property
    def compressed(self) -> bytes:
        """The complete WebSocket frame for connections that negotiated compression."""

    @property
    def record(self) -> bytes:
        """The packet in a polling payload."""

    @property
    def record_bytes(self) -> int:
        """The length of ``record``."""

    @property
    def as_text(self) -> Frames:
        """The same for a WebSocket whose client takes no binary frames: buffers are base64 in text frames."""


class Socket(Protocol):
    """Takes encoded frames; the asyncio transport of a WebSocket is one."""

    def write(self, frame: bytes, /) -> object:
        """Send a frame. It never waits."""

    def get_write_buffer_size(self) -> int:
        """Return the bytes that were written and are still in this process."""


class DeliveryObserver(Protocol):
    """Is notified of messages that belong to a trace. Never waits, never raises."""

    def delivered(self, message: Message, connections: int, seconds: float) -> None:
        """This replica sent the message to so many connections, in so many seconds."""
        ...

    def replayed(self, message: Message, sid: str) -> None:
        """A connection got the message from the history, because it was resumed or is replaying."""
        ...
