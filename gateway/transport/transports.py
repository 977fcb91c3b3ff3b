"""What a session needs of those that carry its packets.

What waits for a client that polls: bounded, in order, handed over whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.interfaces import Frames, Socket


class FrameWriter(Protocol):
    """A WebSocket that is open. Once its connection is gone it takes everything and does nothing."""

    @property
    def deflates_from_bytes(self) -> int | None:
        """Frames of that size go out compressed, as was negotiated; None: none do."""
        ...

    @property
    def socket(self) -> Socket:
        """Where frames go; to be written to past this wire while its connection is there."""
        ...

    def write(self, frame: bytes, /) -> object: ...

    def bytes_waiting(self) -> int:
        """What was written and is still in this process."""
        ...

    @property
    def is_congested(self) -> bool:
        """Whether much waits; once that is over, ``Session.look_whether_drained`` is called."""
        ...

    def close(self, code: int) -> None:
        """Send a close frame behind all that was written; only the first call counts."""
        ...

    def abort(self) -> None:
        """Cut the connection; what waits is not sent."""
        ...


class ParkedPollProtocol(Protocol):
    """A GET that waits for something to answer with."""

    def wake(self) -> None:
        """Call ``Session.collect`` soon; called once."""
        ...


class SendBuffer:
    """Packets that no carrier has taken yet. ``limit_bytes`` counts them as a polling payload has them."""

    __slots__ = ("_frames", "_limit_bytes", "bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.bytes = 0
        self._limit_bytes = limit_bytes
        self._frames: list[Frames] = []

    def __bool__(self) -> bool:
        return bool(self._frames)

    def put(self, frames: Frames) -> bool:
        """False: there is no room. What is larger than the limit by itself still finds room when nothing waits."""
        size = frames.record_bytes
        if self._frames and self.bytes + size > self._limit_bytes:
            return False
        self._frames.append(frames)
        self.bytes += size
        return True

    def take(self) -> Sequence[Frames]:
        """All of it, the oldest first; then nothing waits any more."""
        taken, self._frames, self.bytes = self._frames, [], 0
        return taken
