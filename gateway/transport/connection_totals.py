"""What all HTTP connections of a process hold together: unread answers and unfinished requests, each within a total.

A connection has limits of its own; these limit the sum. When it is reached, the connections that hold most are closed.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Final, Protocol

from gateway.metrics import MetricFactory, one_label

UNREAD_ANSWERS_BYTES: Final = 48 * 1024 * 1024
"""The limit of the bytes of answers that clients have not read. Bodies that answers share do not count."""
UNFINISHED_REQUESTS_BYTES: Final = 32 * 1024 * 1024
"""The limit of the bytes of requests that are not complete, or wait for the answer to the one before."""
READ_BYTES: Final = 64 * 1024
"""How much of an answer, or the rest of it, a client has to read within the timeout. The kernel takes twice as much at
once, so most answers have no deadline however slowly they are read."""
_KEPT: Final = 7 / 8
"""The part of a total that is kept when the limit is reached, so that it is not reached again at once."""
_NO_LINGER: Final = struct.pack("ii", 1, 0)
ANSWER_TIMEOUT: Final = "answer_timeout"
ANSWERS_TOTAL: Final = "answers_total"
REQUESTS_TOTAL: Final = "requests_total"
SESSION_ENDED: Final = "session_ended"
"""A polling session ended whose client has not read the last answer."""
REASONS: Final = (ANSWER_TIMEOUT, ANSWERS_TOTAL, REQUESTS_TOTAL, SESSION_ENDED)


def reset(transport: asyncio.Transport) -> None:
    """Abort a connection whose client does not read, and let the kernel drop what it has taken for the client.

    Otherwise it would keep that for minutes, and try to send it.
    """
    # A socket that is closed already: asyncio raises the one, uvloop the other.
    with suppress(OSError, ValueError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class Holder(Protocol):
    """A connection that holds bytes."""

    def give_up(self, reason: str, /) -> None:
        """End the connection. It is not in the total any more."""
        ...


class ByteTotal:
    """The bytes that each connection held when it reported them last, and their sum."""

    __slots__ = ("_ending", "_ending_bytes", "_held", "_limit_bytes", "_reason", "bytes")

    def __init__(self, limit_bytes: int, reason: str) -> None:
        """``reason`` is what ``give_up`` of the largest holders gets when the sum exceeds the limit."""
        self.bytes = 0
        self._limit_bytes = limit_bytes
        self._reason = reason
        self._held: dict[Holder, int] = {}
        self._ending: dict[Holder, int] = {}
        """Those that were given up, until their connections are lost and the memory is free."""
        self._ending_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, holder: Holder, count: int) -> None:
        """Note that a connection holds ``count`` bytes now; end the largest ones if the sum exceeds the limit."""
        self.bytes += count - self._held.get(holder, 0)
        self._held[holder] = count
        if self.bytes > self._limit_bytes:
            self._give_up_largest()

    def make_space(self, count: int) -> bool:
        """Return whether ``count`` more bytes are within the limit; if not, end the largest holders.

        Their memory is free in one of the next turns of the event loop, and counts until then.
        """
        if not (self._held or self._ending) or self.bytes + self._ending_bytes + count <= self._limit_bytes:
            return True
        if self.bytes + count > self._limit_bytes:
            self._give_up_largest(count)
        return False

    def release(self, holder: Holder) -> None:
        """Note that a connection holds nothing."""
        self.bytes -= self._held.pop(holder, 0)
        self._ending_bytes -= self._ending.pop(holder, 0)

    def _give_up_largest(self, count: int = 0) -> None:
        for holder in sorted(self._held, key=self._held.__getitem__, reverse=True):
            if self.bytes + count <= self._limit_bytes * _KEPT:
                return
            size = self._held.pop(holder)
            self.bytes -= size
            self._ending[holder] = size
            self._ending_bytes += size
            holder.give_up(self._reason)


class ConnectionTotals:
    """Both totals, and how many connections were aborted because of them or of a deadline."""

    def __init__(
        self,
        metrics: MetricFactory,
        *,
        unread_answers_bytes: int = UNREAD_ANSWERS_BYTES,
        unfinished_requests_bytes: int = UNFINISHED_REQUESTS_BYTES,
    ) -> None:
        self.answers = ByteTotal(unread_answers_bytes, ANSWERS_TOTAL)
        self.requests = ByteTotal(unfinished_requests_bytes, REQUESTS_TOTAL)
        self.aborted = metrics.counter(
            "http_connections_aborted",
            "HTTP connections that were aborted: an answer was not read, or a total was reached.",
            ("reason",),
            one_label(REASONS),
        )
        metrics.callback_gauge(
            "http_unread_answers",
            "HTTP connections whose client has not read the last answer.",
            read=lambda: len(self.answers),
        )
        metrics.callback_gauge(
            "http_unread_answer_bytes",
            "Bytes of these answers that wait in this process. Bodies that answers share do not count.",
            read=lambda: self.answers.bytes,
        )
        metrics.callback_gauge(
            "http_unfinished_request_bytes",
            "Bytes of requests that are not complete, or wait for the answer to the one before.",
            read=lambda: self.requests.bytes,
        )
