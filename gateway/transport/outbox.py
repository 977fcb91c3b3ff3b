"""What waits for a client that polls: bounded, in order, handed over whole."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.ports import Frames


class Outbox:
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
