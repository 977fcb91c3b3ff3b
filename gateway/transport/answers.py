"""aiohttp's handler of one HTTP connection, changed so that no answer waits endlessly for a client that does not read.

The event loop calls ``pause_writing`` as soon as a single byte of an answer has to wait in this process. From then on
the client has a deadline, and the bytes count in the total of all connections. A connection that exceeds one of them is
aborted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web

from gateway.transport.connection_totals import ANSWER_TIMEOUT, READ_BYTES, ConnectionTotals, reset


class AnsweringHandler(web.RequestHandler):
    """One HTTP connection of a client whose answers have a deadline."""

    __slots__ = (
        "_answer_deadline",
        "_answer_timeout_seconds",
        "_socket",
        "_totals",
        "gave_up",
        "on_answered",
        "shares_body",
    )

    def __init__(
        self, server: web.Server, *, answer_timeout_seconds: float, totals: ConnectionTotals, **options: Any
    ) -> None:
        """``options`` are those of aiohttp's handler.

        A client has to read the next READ_BYTES of an answer, or its rest, within ``answer_timeout_seconds``.
        """
        super().__init__(server, **options)
        self._answer_timeout_seconds = answer_timeout_seconds
        self._totals = totals
        self._socket: asyncio.Transport | None = None
        """The transport until the connection is lost; ``transport`` is None as soon as no answer may be written."""
        self._answer_deadline: asyncio.TimerHandle | None = None
        """Set while the client has not read an answer."""
        self.shares_body = False
        """Whether the body of the answer is in memory once for all connections (``http_response.Sender``)."""
        self.gave_up = False
        """Whether the connection was aborted because of a limit."""
        self.on_answered: Callable[[bool], None] | None = None
        """Called once when the client has read the answer, as far as this process can know; with False when the client
        certainly does not get all of it."""

    @property
    def unread_bytes(self) -> int:
        """Bytes of answers that wait in this process."""
        return 0 if self._socket is None else self._socket.get_write_buffer_size()

    def make_space(self, count: int) -> bool:
        """Return whether an answer of this size may be made; if not, it may in one of the next turns of the loop."""
        return self._totals.answers.make_space(count)

    def give_up(self, reason: str) -> None:
        """Abort the connection: an answer was not read in time, or all connections together hold too many bytes."""
        if self._answer_deadline is not None:
            self._answer_deadline.cancel()
        if self._socket is not None and not self.gave_up:
            self.gave_up = True
            self._totals.aborted.count((reason,))
            reset(self._socket)

    # from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Handle a new connection. Writing counts as paused while a single byte waits."""
        super().connection_made(transport)
        self._socket = cast(asyncio.Transport, transport)
        self._socket.set_write_buffer_limits(high=0)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count nothing of the connection any more, and report an answer that was not read."""
        self._end_answer_deadline()
        self._totals.answers.release(self)
        self._socket = None
        super().connection_lost(exc)
        self._report_answer(is_read=False)

    def pause_writing(self) -> None:
        """Start the deadline of an answer that the client has not read."""
        super().pause_writing()
        unread = self.unread_bytes
        self._set_answer_deadline(unread)
        self._totals.answers.hold(self, 0 if self.shares_body else unread)

    def resume_writing(self) -> None:
        """Report the answer as read, unless more of it follows."""
        self._end_answer_deadline()
        super().resume_writing()
        if not self.shares_body:
            self._report_answer(is_read=True)

    def _report_answer(self, is_read: bool) -> None:
        if self.on_answered is not None:
            callback, self.on_answered = self.on_answered, None
            callback(is_read)

    # the deadline

    def _set_answer_deadline(self, unread: int) -> None:
        self._answer_deadline = self._loop.call_later(
            self._answer_timeout_seconds, self._check_answer, unread - READ_BYTES
        )

    def _check_answer(self, expected: int) -> None:
        """Abort the connection if more bytes than ``expected`` are not read yet; else check again later."""
        unread = self.unread_bytes
        if unread > expected:
            self.give_up(ANSWER_TIMEOUT)
        else:
            self._set_answer_deadline(unread)

    def _end_answer_deadline(self) -> None:
        if self._answer_deadline is not None:
            self._answer_deadline.cancel()
            self._answer_deadline = None
            self._totals.answers.release(self)
