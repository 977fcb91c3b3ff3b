"""One WebSocket that ready frames are written to, without aiohttp's writer."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from gateway.hub import GatheredFrames
from gateway.interfaces import Frames, Schedule, Timer
from gateway.transport import packets
from gateway.transport.connection_totals import reset

CLOSE_SECONDS: Final = 5.0
"""How long a client may take to answer a close frame (RFC 6455 §7.1.1 leaves it to the server)."""
ENDED_SECONDS: Final = 1.0
"""How long a client may take to close its side after a stream that ended without a close frame; some never do."""
_NEVER_SENT: Final = frozenset({1005, 1006, 1015})
"""Codes that are never in a close frame: they stand for events of the own side (RFC 6455 §7.4.1)."""


class WriterOwner(Protocol):
    """The session that sends through a writer."""

    def writer_closed(self, writer: WebSocketWriter, /) -> None:
        """The writer sends nothing more."""
        ...


class WebSocketWriter:
    """Satisfies ``transports.FrameWriter``: after its connection is closed, every call is accepted and does nothing."""

    __slots__ = (
        "_close_deadline",
        "_deflates_from_bytes",
        "_gathered",
        "_has_ended",
        "_is_closed",
        "_schedule",
        "_takes_binary",
        "is_congested",
        "owner",
        "socket",
        "takes_plain_frames",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        schedule: Schedule,
        *,
        gathered: GatheredFrames,
        deflates_from_bytes: int | None = None,
        takes_binary: bool = True,
    ) -> None:
        """``gathered`` are the frames that the hub has gathered for this socket and others.

        ``deflates_from_bytes``: frames of this size and above are sent compressed; None if no compression was
        negotiated. ``takes_binary`` is False for a client that asked for base64 in text frames.
        """
        self._deflates_from_bytes = deflates_from_bytes
        self._takes_binary = takes_binary
        self.takes_plain_frames = deflates_from_bytes is None and takes_binary
        self.socket = transport
        self.owner: WriterOwner | None = None
        self._schedule = schedule
        self._gathered = gathered
        self._close_deadline: Timer | None = None
        self._has_ended = False
        """Nothing can be written any more; the client has not closed its side yet."""
        self._is_closed = False
        self.is_congested = False
        """Set by the event loop (asyncio, "Streaming Protocols": pause_writing)."""

    def frame_of(self, frames: Frames, /, *, may_compress: bool = True) -> bytes:
        """Return the bytes to ``write`` for a message, as the client negotiated them."""
        if not self._takes_binary:
            frames = frames.as_text
        least = self._deflates_from_bytes
        if may_compress and least is not None and len(frames.frame) >= least:
            return frames.compressed
        return frames.frame

    def write(self, frame: bytes, /) -> None:
        """Send a whole frame, behind those that are gathered for the socket."""
        if self._is_closed or self._has_ended:
            return
        if self._gathered and (gathered := self._gathered.pop(self.socket, None)) is not None:
            frame = b"".join((*gathered, frame))
        self.socket.write(frame)

    def bytes_waiting(self) -> int:
        """Bytes that were written and have not left this process."""
        return 0 if self._is_closed else self.socket.get_write_buffer_size()

    def bytes_gathered(self) -> int:
        """Bytes that the hub has gathered for the socket, which has none waiting."""
        return sum(map(len, self._gathered.get(self.socket, ())))

    def pause_reading(self) -> None:
        """Let received bytes wait in the socket."""
        if not self._is_closed and not self.socket.is_closing():
            self.socket.pause_reading()

    def resume_reading(self) -> None:
        """Read from the socket again."""
        if not self._is_closed and not self.socket.is_closing():
            self.socket.resume_reading()

    def close(self, code: int | None) -> None:
        """Send a close frame after the bytes that wait; abort if the client does not answer. Only one frame is sent.

        With None the stream ends without a close frame: the client sees code 1006 (RFC 6455 §7.1.5).
        """
        if self._close_deadline is not None or self._is_closed:
            return
        if code is None:
            self._end_stream()
            self._close_deadline = self._schedule.after(ENDED_SECONDS, self._abort_if_sent)
        else:
            self.write(packets.close_frame(1011 if code in _NEVER_SENT else code))
            self._close_deadline = self._schedule.after(CLOSE_SECONDS, self.abort)

    def _end_stream(self) -> None:
        """Half-close: a full close would reset the connection, and lose our last bytes, if bytes of the client wait."""
        if self._gathered.get(self.socket):
            self.write(b"")
        self._has_ended = True
        if not self.socket.is_closing():
            self.socket.write_eof()

    def _abort_if_sent(self) -> None:
        """Abort, or let a client that is still reading have the rest of the time."""
        if self.bytes_waiting():
            self._close_deadline = self._schedule.after(CLOSE_SECONDS - ENDED_SECONDS, self.abort)
        else:
            self.abort()

    def abort(self) -> None:
        """Abort the connection; bytes that wait are not sent."""
        self._gathered.pop(self.socket, None)
        if self.bytes_waiting():
            reset(self.socket)
        else:
            self.socket.abort()

    def finish(self) -> None:
        """Send a close frame unless one was sent, and close the connection once everything is sent."""
        if self._is_closed:
            return
        self.close(1000)
        self.socket.close()
        self._mark_closed()

    def connection_lost(self) -> None:
        """Cancel the deadline and notify the owner that the writer is closed."""
        if self._close_deadline is not None:
            self._close_deadline.cancel()
        self._mark_closed()

    def _mark_closed(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._gathered.pop(self.socket, None)
            if self.owner is not None:
                self.owner.writer_closed(self)
                self.owner = None
