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
from gateway.state.redis.errors import Unanswered, Unsent, of_reply

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024


class _Question:
    """Something asked, until it is answered. ``repack`` makes what to send if Redis does not know the script."""

    __slots__ = ("answer", "asked_at", "packed", "repack")

    def __init__(
        self, packed: bytes, repack: Callable[[], bytes] | None, answer: asyncio.Future[Any], asked_at: float
    ) -> None:
        self.packed = packed
        self.repack = repack
        self.answer = answer
        self.asked_at = asked_at

    def fail(self, problem: GatewayError) -> None:
        """Whoever waits is told; it may be that nobody does any more."""
        if not self.answer.done():
            self.answer.set_exception(problem)


class Questions:
    """Those that are to be sent, and behind them those that were; times are seconds of one clock."""

    def __init__(self) -> None:
        self._unsent: deque[_Question] = deque()
        self._sent: deque[_Question] = deque()
        self._bytes = 0
        self.asked = asyncio.Event()
        """Something is to be sent; cleared by whoever sends."""

    @property
    def unsent(self) -> int:
        """How many are to be sent."""
        return len(self._unsent)

    def __len__(self) -> int:
        return len(self._unsent) + len(self._sent)

    def add(
        self, packed: bytes, repack: Callable[[], bytes] | None, answer: asyncio.Future[Any], now: float
    ) -> None:
        """Another one; ``answer`` will have what Redis says, Unsent or Unanswered."""
        if self._bytes + len(packed) > MAX_WAITING_BYTES:
            answer.set_exception(Unsent("too much is waiting for Redis", passing=False))
            return
        self._wait(_Question(packed, repack, answer, now))

    def take(self) -> bytes:
        """Everything that is to be sent, in one piece; empty if nobody waits for anything."""
        pieces = []
        while self._unsent:
            question = self._unsent.popleft()
            if question.answer.done():
                self._bytes -= len(question.packed)
                continue
            pieces.append(question.packed)
            self._sent.append(question)
        return b"".join(pieces)

    def withdraw(self, answer: asyncio.Future[Any]) -> bool:
        """Nobody waits for this one any more; whether it was not even sent, and so never will be."""
        answer.cancel()
        return any(question.answer is answer for question in self._unsent)

    def answered(self, answer: Any) -> None:
        """The next answer came. Raises redis-py's InvalidResponse if nothing was asked."""
        question = self._oldest()
        if not question.answer.done():
            question.answer.set_result(answer)

    def refused(self, error: Exception) -> GatewayError | None:
        """The next answer is an error; answers what it means, if it means anything to whoever asked."""
        question = self._oldest()
        if isinstance(error, exceptions.NoScriptError) and question.repack is not None:
            # A Redis that was started anew, or another primary, has not seen the script yet.
            question.packed, question.repack = question.repack(), None
            self._wait(question)
            return None
        problem = of_reply(error)
        question.fail(problem)
        return problem

    def give_up(self, asked_before: float, patience_seconds: float) -> int:
        """Let nobody wait who asked before then; answers how many questions have been sent, if the oldest is so old.

        Then the connection is of no use any more, and everybody who waits on it is told.
        """
        while self._unsent and self._unsent[0].asked_at <= asked_before:
            question = self._unsent.popleft()
            self._bytes -= len(question.packed)
            question.fail(Unsent("Redis could not be asked in time", passing=False))
        if not self._sent or self._sent[0].asked_at > asked_before:
            return 0
        for question in self._sent:
            question.fail(Unanswered(f"Redis did not answer within {patience_seconds} s"))
        return len(self._sent)

    def connection_ended(self) -> None:
        """No answers will come to what was sent on it."""
        while self._sent:
            self._oldest().fail(Unanswered("the connection to Redis was lost before it answered"))

    def end(self) -> None:
        """Nothing will be sent any more."""
        self.connection_ended()
        while self._unsent:
            self._unsent.popleft().fail(Unsent("the gateway is stopping"))

    def _wait(self, question: _Question) -> None:
        self._bytes += len(question.packed)
        self._unsent.append(question)
        self.asked.set()

    def _oldest(self) -> _Question:
        if not self._sent:
            raise exceptions.InvalidResponse("an answer to nothing that was asked")
        question = self._sent.popleft()
        self._bytes -= len(question.packed)
        return question
