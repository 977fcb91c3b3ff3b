"""Writing frames to the sockets of many connections, a slice of time in each turn of the event loop.

A system call for each socket is most of what a small message costs. So while messages follow each other, their frames
are gathered by socket, and each socket is written to once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.hub.connection import Connection
from gateway.interfaces import Socket

MAX_SLICE_SECONDS: Final = 0.005
"""How long deliveries hold the event loop before they yield to I/O and timers."""
STEP: Final = 16
"""Recipients between two readings of the clock."""
LARGE_BYTES: Final = 8 * 1024
"""From this size on the clock is read after each recipient: one write takes a tenth of a millisecond."""
GATHER_BYTES: Final = 256 * 1024
"""Frames of this many bytes are gathered at most: for one socket, or for all of them if each frame counts once."""
GATHER_SECONDS: Final = 0.05
"""How long gathered frames may wait while deliveries share the event loop with everything else."""
SLOW_SEND_SECONDS: Final = 0.0001
"""What one send through a transport costs the event loop later in the same turn, such as answering a poll."""

GatheredFrames = dict[Socket, list[bytes]]
"""Frames that wait for later ones, by socket; no bytes wait in these sockets. Nothing may overtake the frames: what
writes to such a socket by itself sends them first, and what closes it removes them."""


class FanOut:
    """Writes frames to free sockets, at once or gathered."""

    def __init__(self, *, gather_bytes: int = GATHER_BYTES) -> None:
        """``gather_bytes`` is at most what may wait in this process for one client."""
        self.gathered: GatheredFrames = {}
        self._gather_bytes = gather_bytes
        self._bytes = 0
        """All gathered frames, each counted once: no socket has more."""
        self._newest = b""
        """The frame that was gathered last."""
        self._began_at = 0.0
        """When the first of the gathered frames was gathered."""
        self._slice_ends: float | None = None
        self.is_used_up = False
        """Whether the last delivery of this turn found that the slice is over."""

    def write(
        self, frame: bytes, recipients: Sequence[Connection], *, more: bool
    ) -> tuple[int, list[Connection]]:
        """Write a frame to free sockets; return how many there were, and the connections without one.

        With ``more`` it may be gathered: then ``flush`` has to be called.
        """
        if not self.gathered and (not more or len(frame) > LARGE_BYTES):
            return _write(frame, recipients)
        self._count(frame)
        return _gather(frame, recipients, self.gathered)

    def write_to_one(self, frame: bytes, connection: Connection, *, more: bool) -> bool:
        """Write a frame to a free socket as ``write`` does, with no list; return whether there was one."""
        socket, gathered = connection.socket, self.gathered
        if socket is None:
            return False
        frames = gathered.get(socket)
        if frames is None and socket.get_write_buffer_size():
            return False
        if not gathered and (not more or len(frame) > LARGE_BYTES):
            socket.write(frame)
            return True
        self._count(frame)
        if frames is None:
            gathered[socket] = [frame]
        else:
            frames.append(frame)
        return True

    def _count(self, frame: bytes) -> None:
        """Count a frame that is gathered."""
        if not self.gathered:
            self._began_at = time.monotonic()
        if frame is not self._newest:
            self._newest = frame
            self._bytes += len(frame)

    @property
    def is_full(self) -> bool:
        """Whether the gathered frames have to be written before the next message."""
        return self._bytes >= self._gather_bytes

    async def flush(self) -> None:
        """Write the gathered frames, each socket's in one write."""
        gathered, self._bytes, self._newest = self.gathered, 0, b""
        sockets = list(gathered)
        for start in range(0, len(sockets), STEP):
            for socket in sockets[start : start + STEP]:
                # Another write to the socket, or its end, may have taken them during a turn of the event loop.
                frames = gathered.pop(socket, None)
                if frames is not None:
                    socket.write(frames[0] if len(frames) == 1 else b"".join(frames))
            if self.is_slice_over():
                await asyncio.sleep(0)

    async def pause(self) -> None:
        """Wait for the next turn of the event loop. Frames that were gathered GATHER_SECONDS ago are written first."""
        if self.gathered and time.monotonic() - self._began_at > GATHER_SECONDS:
            await self.flush()
        await asyncio.sleep(0)

    async def pause_if_due(self) -> None:
        """Pause once the slice is over."""
        if self.is_slice_over():
            await self.pause()

    def is_slice_over(self, *, spent_seconds: float = 0.0) -> bool:
        """Whether deliveries have used up MAX_SLICE_SECONDS of this turn of the event loop.

        All deliveries of one turn share the slice. ``spent_seconds``: work that this turn still has to do for them.
        """
        if self._slice_ends is None:
            self._slice_ends = time.monotonic() + MAX_SLICE_SECONDS
            asyncio.get_running_loop().call_soon(self._end_slice)
        self._slice_ends -= spent_seconds
        self.is_used_up = time.monotonic() > self._slice_ends
        return self.is_used_up

    def _end_slice(self) -> None:
        self._slice_ends, self.is_used_up = None, False


def _write(frame: bytes, recipients: Iterable[Connection]) -> tuple[int, list[Connection]]:
    """Write a frame to free sockets; return how many there were, and the connections without one.

    Between two writes the kernel evicts everything else from the caches of the processor, so the cost is the number of
    objects read for each recipient: here its connection and its socket.
    """
    written = 0
    others = []
    for connection in recipients:
        socket = connection.socket
        if socket is not None and not socket.get_write_buffer_size():
            socket.write(frame)
            written += 1
        else:
            others.append(connection)
    return written, others


def _gather(
    frame: bytes, recipients: Iterable[Connection], gathered: GatheredFrames
) -> tuple[int, list[Connection]]:
    """Gather a frame for free sockets; return as ``_write`` does."""
    taken = 0
    others = []
    for connection in recipients:
        socket = connection.socket
        if socket is None:
            others.append(connection)
            continue
        frames = gathered.get(socket)
        if frames is not None:
            frames.append(frame)
        elif not socket.get_write_buffer_size():
            gathered[socket] = [frame]
        else:
            others.append(connection)
            continue
        taken += 1
    return taken, others
