"""What a session sends through: a WebSocket, a poll, the send buffer between polls; the count of what it receives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.interfaces import Frames, Socket


class FrameWriter(Protocol):
    """An open WebSocket. After its connection is closed, every call is accepted and does nothing."""

    @property
    def takes_plain_frames(self) -> bool:
        """Whether every message is sent as its ``Frames.frame``: no compression was negotiated, and no base64."""
        ...

    @property
    def socket(self) -> Socket:
        """The socket that frames are written to. The hub writes to it directly if it takes plain frames."""
        ...

    def frame_of(self, frames: Frames, /, *, may_compress: bool = True) -> bytes:
        """Return the bytes to ``write`` for a message, as the client negotiated them."""
        ...

    def write(self, frame: bytes, /) -> object: ...

    def bytes_waiting(self) -> int:
        """Bytes that were written and have not left this process."""
        ...

    def bytes_gathered(self) -> int:
        """Bytes that the hub has gathered for the socket; ``write`` sends them first."""
        ...

    @property
    def is_congested(self) -> bool:
        """Whether many bytes wait. When no longer so, ``EngineSession.notify_if_drained`` is called."""
        ...

    def close(self, code: int | None) -> None:
        """Send a close frame after everything that was written, or with None end the stream. The first call counts."""
        ...

    def abort(self) -> None:
        """Abort the connection; bytes that wait are not sent."""
        ...


class Poll(Protocol):
    """A GET that waits for packets, and then its answer until the client has read it."""

    def wake(self) -> None:
        """Call ``EngineSession.collect`` soon. Called once."""
        ...

    def bytes_unread(self) -> int:
        """Bytes of the answer that wait in this process."""
        ...

    def abort(self) -> None:
        """Abort the connection; what waits of the answer is not sent."""
        ...


class SendBuffer:
    """Packets that wait for the next poll, in order, and those that a poll has taken until its client has read them.

    ``limit_bytes`` bounds both, counted as records of a payload.
    """

    __slots__ = ("_answered", "_frames", "_limit_bytes", "bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.bytes = 0
        """The size of the packets that no poll has taken."""
        self._limit_bytes = limit_bytes
        self._frames: list[Frames] = []
        self._answered: Poll | None = None

    def __bool__(self) -> bool:
        return bool(self._frames)

    @property
    def bytes_unread(self) -> int:
        """The size of what the last poll has taken and its client has not read."""
        return 0 if self._answered is None else self._answered.bytes_unread()

    @property
    def is_drained(self) -> bool:
        """Whether the client has read everything."""
        return not self._frames and self._answered is None

    def put(self, frames: Frames) -> bool:
        """Append a packet; return False if the buffer is full. An empty buffer takes a packet of any size."""
        size, unread = frames.record_bytes, self.bytes_unread
        if (self._frames or unread) and self.bytes + unread + size > self._limit_bytes:
            return False
        self._frames.append(frames)
        self.bytes += size
        return True

    def take(self, poll: Poll | None = None) -> Sequence[Frames]:
        """Remove and return all packets, the oldest first; ``poll`` is the one that they answer."""
        taken, self._frames, self.bytes = self._frames, [], 0
        self._answered = poll or self._answered
        return taken

    def forget(self, poll: Poll) -> bool:
        """Count the answer to a poll no longer; return whether it was counted."""
        if self._answered is not poll:
            return False
        self._answered = None
        return True

    def abort(self) -> None:
        """Abort the connection of an answer that is not read."""
        if self._answered is not None:
            self._answered.abort()


@dataclass(frozen=True, slots=True)
class FrameRate:
    """How much a client may send: ``per_second`` frames for long, and ``burst`` at once.

    A frame counts as one, and all bytes together as one more for each ``frame_bytes``.
    """

    per_second: float
    burst: float
    frame_bytes: float


class FrameCount:
    """What one client has sent: a leaky bucket, so the rate may change while it is in use."""

    __slots__ = ("_at", "_level")

    def __init__(self) -> None:
        self._level = 0.0
        self._at = 0.0

    def exceeds(self, rate: FrameRate, now: float, frames: float, size: int) -> bool:
        """Count frames with ``size`` bytes that arrived ``now``, in monotonic seconds; return True beyond the rate."""
        level = self._level - (now - self._at) * rate.per_second
        self._at = now
        if level < 0.0:  # noqa: PLR1730  # takes a third of the time of max() and runs for each event
            level = 0.0
        self._level = level = level + frames + size / rate.frame_bytes
        return level > rate.burst


class PongCallbacks:
    """What waits until the client has read everything that was sent before a ping."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Callable[[], None]]] = []

    def add(self, pings_sent: int, callback: Callable[[], None]) -> None:
        """Add a callback after so many pings were sent: it waits for the pong to the next one."""
        self._waiting.append((pings_sent, callback))

    def call(self, pings_sent: int) -> None:
        """Call, each once, those that the pong to the newest of so many pings is for."""
        answered = [callback for at, callback in self._waiting if at < pings_sent]
        self._waiting = [each for each in self._waiting if each[0] >= pings_sent]
        for callback in answered:
            callback()
