"""Who waits for which answer on the shared connection; no I/O.

Redis answers in order, so the oldest question that was sent belongs to the next answer. It keeps its place when whoever
asked has given up: its answer may still come, and must not be taken for that of the next.
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


class _PendingCommand:
    """Something asked, until it is answered. ``repack`` makes what to send if Redis does not know the script."""

    __slots__ = ("result", "sent_at", "packed", "reencode")

    def __init__(
        self, packed: bytes, reencode: Callable[[], bytes] | None, result: asyncio.Future[Any], sent_at: float
    ) -> None:
        self.packed = packed
        self.reencode = reencode
        self.result = result
        self.sent_at = sent_at

    def fail(self, problem: GatewayError) -> None:
        """Whoever waits is told; it may be that nobody does any more."""
        if not self.result.done():
            self.result.set_exception(problem)


class PendingCommands:
    """Those that are to be sent, and behind them those that were; times are seconds of one clock."""

    def __init__(self) -> None:
        self._unsent: deque[_PendingCommand] = deque()
        self._sent: deque[_PendingCommand] = deque()
        self._bytes = 0
        self.sent_count = asyncio.Event()
        """Something is to be sent; cleared by whoever sends."""

    @property
    def unsent(self) -> int:
        """How many are to be sent."""
        return len(self._unsent)

    def __len__(self) -> int:
        return len(self._unsent) + len(self._sent)

    def add(
        self, packed: bytes, reencode: Callable[[], bytes] | None, result: asyncio.Future[Any], now: float
    ) -> None:
        """Another one; ``answer`` will have what Redis says, Unsent or Unanswered."""
        if self._bytes + len(packed) > MAX_WAITING_BYTES:
            result.set_exception(NotExecuted("too much is waiting for Redis", retryable=False))
            return
        self._queue(_PendingCommand(packed, reencode, result, now))

    def take(self) -> bytes:
        """Everything that is to be sent, in one piece; empty if nobody waits for anything."""
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
        """Nobody waits for this one any more; whether it was not even sent, and so never will be."""
        answer.cancel()
        return any(command.result is answer for command in self._unsent)

    def complete_oldest(self, answer: Any) -> None:
        """The next answer came. Raises redis-py's InvalidResponse if nothing was asked."""
        command = self._oldest()
        if not command.result.done():
            command.result.set_result(answer)

    def fail_oldest(self, error: Exception) -> GatewayError | None:
        """The next answer is an error; answers what it means, if it means anything to whoever asked."""
        command = self._oldest()
        if isinstance(error, exceptions.NoScriptError) and command.reencode is not None:
            # A Redis that was started anew, or another primary, has not seen the script yet.
            command.packed, command.reencode = command.reencode(), None
            self._queue(command)
            return None
        problem = error_from_reply(error)
        command.fail(problem)
        return problem

    def expire(self, sent_before: float, timeout_seconds: float) -> int:
        """Let nobody wait who asked before then; answers how many questions have been sent, if the oldest is so old.

        Then the connection is of no use any more, and everybody who waits on it is told.
        """
        while self._unsent and self._unsent[0].sent_at <= sent_before:
            command = self._unsent.popleft()
            self._bytes -= len(command.packed)
            command.fail(NotExecuted("Redis could not be asked in time", retryable=False))
        if not self._sent or self._sent[0].sent_at > sent_before:
            return 0
        for command in self._sent:
            command.fail(OutcomeUnknown(f"Redis did not answer within {timeout_seconds} s"))
        return len(self._sent)

    def connection_ended(self) -> None:
        """No answers will come to what was sent on it."""
        while self._sent:
            self._oldest().fail(OutcomeUnknown("the connection to Redis was lost before it answered"))

    def end(self) -> None:
        """Nothing will be sent any more."""
        self.connection_ended()
        while self._unsent:
            self._unsent.popleft().fail(NotExecuted("the gateway is stopping"))

    def _queue(self, command: _PendingCommand) -> None:
        self._bytes += len(command.packed)
        self._unsent.append(command)
        self.sent_count.set()

    def _oldest(self) -> _PendingCommand:
        if not self._sent:
            raise exceptions.InvalidResponse("an answer to nothing that was asked")
        command = self._sent.popleft()
        self._bytes -= len(command.packed)
        return command
