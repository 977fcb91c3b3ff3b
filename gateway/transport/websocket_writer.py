"""A WebSocket to write ready frames to, past aiohttp's writer."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from gateway.interfaces import Schedule, Timer
from gateway.transport import packets

CLOSE_SECONDS: Final = 5.0
"""How long a client may take to answer a close frame (RFC 6455 §7.1.1 leaves it to the server)."""
_NEVER_SENT: Final = frozenset({1005, 1006, 1015})
"""Codes that only tell the own side what happened (RFC 6455 §7.4.1)."""


class WriterOwner(Protocol):
    """Whose wire it is."""

    def writer_closed(self, writer: WebSocketWriter, /) -> None:
        """Nothing more goes out there."""
        ...


class WebSocketWriter:
    """Satisfies ``carriers.Wire``: once its connection is gone it takes everything and does nothing."""

    __slots__ = (
        "_closing",
        "_is_closed",
        "_schedule",
        "deflates_from_bytes",
        "is_congested",
        "owner",
        "socket",
    )

    def __init__(
        self, transport: asyncio.Transport, schedule: Schedule, *, deflates_from_bytes: int | None = None
    ) -> None:
        self.deflates_from_bytes = deflates_from_bytes
        self.socket = transport
        self.owner: WriterOwner | None = None
        self._schedule = schedule
        self._closing: Timer | None = None
        self._is_closed = False
        self.is_congested = False
        """The event loop says so (asyncio, "Streaming Protocols": pause_writing)."""

    def write(self, frame: bytes, /) -> None:
        """Send a whole frame."""
        if not self._is_closed:
            self.socket.write(frame)

    def bytes_waiting(self) -> int:
        """What was written and is still in this process."""
        return 0 if self._is_closed else self.socket.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Let what comes wait in the socket."""
        if not self._is_closed and not self.socket.is_closing():
            self.socket.pause_reading()

    def resume_reading(self) -> None:
        """Let it come."""
        if not self._is_closed and not self.socket.is_closing():
            self.socket.resume_reading()

    def close(self, code: int) -> None:
        """Send a close frame behind what waits; the client answers it, or is cut off. Only the first call counts."""
        if self._closing is None and not self._is_closed:
            self.write(packets.close_frame(1011 if code in _NEVER_SENT else code))
            self._closing = self._schedule.after(CLOSE_SECONDS, self.abort)

    def abort(self) -> None:
        """Cut the connection; what waits is not sent."""
        self.socket.abort()

    def finish(self) -> None:
        """Nothing more is read: say so unless that was done, and close once everything is sent."""
        if self._is_closed:
            return
        self.close(1000)
        self.socket.close()
        self._mark_closed()

    def connection_lost(self) -> None:
        """The connection is gone."""
        if self._closing is not None:
            self._closing.cancel()
        self._mark_closed()

    def _mark_closed(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            if self.owner is not None:
                self.owner.writer_closed(self)
                self.owner = None
