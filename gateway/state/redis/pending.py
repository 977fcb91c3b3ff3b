"""The commands on a connection that have no answer yet; no I/O.

Redis answers in order, so the next answer belongs to the oldest command that was sent. A command keeps its place after
its caller gave up: its answer may still arrive, and must not be taken for that of the next command.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis import exceptions

from gateway.domain.errors import GatewayError
from gateway.state.redis.errors import NotExecuted, OutcomeUnknown, error_from_reply

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""The most that unsent and unanswered commands may hold together."""


class _PendingCommand:
    """A command until it is answered. ``reencode`` encodes it with the text of a script that Redis does not know."""

    __slots__ = ("enqueued_at", "packed", "reencode", "result")

    def __init__(
        self,
        packed: bytes,
        reencode: Callable[[], bytes] | None,
        result: asyncio.Future[Any],
        enqueued_at: float,
    ) -> None:
        self.packed = packed
        self.reencode = reencode
        self.result = result
        self.enqueued_at = enqueued_at

    def fail(self, problem: GatewayError) -> None:
        """Raise the problem in the caller, unless the caller gave up."""
        if not self.result.done():
            self.result.set_exception(problem)


class PendingCommands:
    """Two queues: commands to send, and commands that were sent. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._unsent: deque[_PendingCommand] = deque()
        self._sent: deque[_PendingCommand] = deque()
        self._bytes = 0
        self.has_unsent = asyncio.Event()
        """Set when a command is to be sent; the sender clears it."""

    @property
    def unsent(self) -> int:
        """The number of commands to send."""
        return len(self._unsent)

    def __len__(self) -> int:
        return len(self._unsent) + len(self._sent)

    def add(
        self, packed: bytes, reencode: Callable[[], bytes] | None, result: asyncio.Future[Any], now: float
    ) -> None:
        """Queue a command. ``result`` will have the answer of Redis, NotExecuted or OutcomeUnknown."""
        if self._bytes + len(packed) > MAX_WAITING_BYTES:
            result.set_exception(NotExecuted("too much is waiting for Redis", retryable=False))
            return
        self._queue(_PendingCommand(packed, reencode, result, now))

    def take(self) -> bytes:
        """Return all commands to send as one piece of bytes, without those whose callers gave up."""
        pieces = []
        while self._unsent:
            command = self._unsent.popleft()
            if command.result.done():
                self._bytes -= len(command.packed)
                continue
            pieces.append(command.packed)
            self._sent.append(command)
        return b"".join(pieces)

    def cancel(self, answer: asyncio.Future[Any]) -> bool:
        """Cancel a result. Return whether its command was not sent, and so will never be."""
        answer.cancel()
        return any(command.result is answer for command in self._unsent)

    def complete_oldest(self, answer: Any) -> None:
        """Set the next answer.

        Raises:
            InvalidResponse: (of redis-py) no command waits for an answer.
        """
        command = self._oldest()
        if not command.result.done():
            command.result.set_result(answer)

    def fail_oldest(self, error: Exception) -> GatewayError | None:
        """Set the next answer, which is an error. Return what it means, or None if the command is sent once more."""
        command = self._oldest()
        if isinstance(error, exceptions.NoScriptError) and command.reencode is not None:
            # A Redis that was restarted, or another primary, does not know the script yet.
            command.packed, command.reencode = command.reencode(), None
            self._queue(command)
            return None
        problem = error_from_reply(error)
        command.fail(problem)
        return problem

    def expire(self, enqueued_before: float, timeout_seconds: float) -> int:
        """Fail the commands that were enqueued before a time and are not sent.

        If the oldest sent command is that old, too, the connection is of no use: fail all sent commands and return how
        many there are. Otherwise return 0.
        """
        while self._unsent and self._unsent[0].enqueued_at <= enqueued_before:
            command = self._unsent.popleft()
            self._bytes -= len(command.packed)
            command.fail(NotExecuted("the command could not be sent to Redis in time", retryable=False))
        if not self._sent or self._sent[0].enqueued_at > enqueued_before:
            return 0
        for command in self._sent:
            command.fail(OutcomeUnknown(f"Redis did not answer within {timeout_seconds} s"))
        return len(self._sent)

    def connection_ended(self) -> None:
        """Fail the commands that were sent on the connection."""
        while self._sent:
            self._oldest().fail(OutcomeUnknown("the connection to Redis was lost before it answered"))

    def end(self) -> None:
        """Fail every command: nothing is sent any more."""
        self.connection_ended()
        while self._unsent:
            self._unsent.popleft().fail(NotExecuted("the gateway is stopping"))

    def _queue(self, command: _PendingCommand) -> None:
        self._bytes += len(command.packed)
        self._unsent.append(command)
        self.has_unsent.set()

    def _oldest(self) -> _PendingCommand:
        if not self._sent:
            raise exceptions.InvalidResponse("Redis sent an answer without a command")
        command = self._sent.popleft()
        self._bytes -= len(command.packed)
        return command
