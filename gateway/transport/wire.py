"""A WebSocket to write ready frames to, past aiohttp's writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.ports import Schedule, Timer
from gateway.transport import packets

CLOSE_SECONDS: Final = 5.0
"""How long a client may take to answer a close frame (RFC 6455 §7.1.1 leaves it to the server)."""
_NEVER_SENT: Final = frozenset({1005, 1006, 1015})
"""Codes that only tell the own side what happened (RFC 6455 §7.4.1)."""


class SocketWire:
    """Satisfies ``carriers.Wire``.

    ``write`` and ``bytes_waiting`` are the transport's own until its connection is gone: uvloop raises when a closed
    transport is written to, and a check before each of a hundred thousand writes would cost more than a switch.
    """

    __slots__ = (
        "_closing",
        "_gone",
        "_schedule",
        "bytes_waiting",
        "deflates_from_bytes",
        "socket",
        "when_lost",
        "write",
    )

    def __init__(
        self, transport: asyncio.Transport, schedule: Schedule, *, deflates_from_bytes: int | None = None
    ) -> None:
        self.deflates_from_bytes = deflates_from_bytes
        self.socket = transport
        self._schedule = schedule
        self._closing: Timer | None = None
        self._gone = False
        self.write: Callable[[bytes], object] = transport.write
        self.bytes_waiting: Callable[[], int] = transport.get_write_buffer_size
        self.when_lost: Callable[[], None] = _nothing

    def close(self, code: int) -> None:
        """Send a close frame behind what waits; the client answers it, or is cut off. Only the first call counts."""
        if self._closing is None and not self._gone:
            self.write(packets.close_frame(1011 if code in _NEVER_SENT else code))
            self._closing = self._schedule.after(CLOSE_SECONDS, self.abort)

    def abort(self) -> None:
        """Cut the connection; what waits is not sent."""
        self.socket.abort()

    def finish(self) -> None:
        """Nothing more is read: say so unless that was done, and close once everything is sent."""
        if self._gone:
            return
        self.close(1000)
        self.socket.close()
        self._go()

    def lost(self) -> None:
        """The connection is gone."""
        if self._closing is not None:
            self._closing.cancel()
        self._go()

    def _go(self) -> None:
        if not self._gone:
            self._gone = True
            self.write, self.bytes_waiting = _nowhere, _none_waiting
            self.when_lost()


def _nothing() -> None: ...


def _nowhere(_frame: bytes) -> None: ...


def _none_waiting() -> int:
    return 0
