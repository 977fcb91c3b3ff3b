"""Calls of scripts: commands are pipelined, have a deadline, and are retried.

The commands of one turn of the event loop are written together, before the answers to earlier ones arrive
(``pending``).

A call takes at most ``timeout_seconds``. A command that was not sent by then raises NotExecuted; one that was sent and
not answered raises OutcomeUnknown, and the connection whose oldest command is that old is closed. Within that time a
failed attempt is repeated. Once an attempt had no answer, no later rejection is certain any more.

A script that finds its deadline passed while its caller still waits shows that the clock of Redis was set; its answer
carries the time that Redis shows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from gateway.domain.errors import GatewayError
from gateway.state.redis.command_connection import CommandConnection
from gateway.state.redis.connection import FIRST_BACKOFF_SECONDS, pack
from gateway.state.redis.errors import DeadlineExceeded, NotExecuted, OutcomeUnknown
from gateway.state.redis.metrics import NOT_EXECUTED, READ, UNKNOWN
from gateway.state.redis.pending import DirectCall

R = TypeVar("R")
Argument = str | bytes | int
RaiseRejection = Callable[[Any], None]
"""Raises the rejection that an answer means, if it means one."""
_Encode = Callable[[], tuple[bytes, Callable[[], bytes] | None]]
"""Encodes a command for one attempt. The second value encodes it with the text of a script that Redis does not know."""


class Commands(CommandConnection):
    """Calls scripts while ``run`` works."""

    def call(
        self,
        name: str,
        *arguments: Argument,
        retry: bool = True,
        raise_rejection: RaiseRejection = lambda _: None,
    ) -> Coroutine[Any, Any, Any]:
        """Run a script and return its answer. The script does not begin later than ``timeout_seconds`` from now.

        With ``retry`` an attempt whose answer was lost is repeated, so running the script twice must do no harm.

        Raises:
            NotExecuted: the script did nothing.
            OutcomeUnknown: an answer was lost. It replaces the rejection of a later attempt, because an earlier one may
                have done what the later one rejected.
            GatewayError: what ``raise_rejection`` raises for the answer.
        """
        deadline = self._loop.time() + self.timeout_seconds
        encode = self._encoder(name, arguments, deadline)
        return self._execute(name, encode, deadline, retry=retry, raise_rejection=raise_rejection)

    def call_now(
        self,
        name: str,
        *arguments: Argument,
        decode: Callable[[Any], R | None],
        complete: Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, R]],
        raise_rejection: RaiseRejection,
    ) -> asyncio.Future[R] | None:
        """Run a script as ``call`` does, without a task. Return a future, or None without a connection.

        The future gets what ``decode`` returns for the answer to the first attempt, if that is not None. Otherwise the
        call continues as ``call``: ``complete`` gets it, and the future what that returns or raises.
        """
        if not self._is_connected:
            return None
        began, deadline = time.monotonic(), self._loop.time() + self.timeout_seconds
        encode = self._encoder(name, arguments, deadline)

        def decode_first(answer: Any) -> R | None:
            value = decode(answer)
            if value is not None:
                self._metrics.command_seconds.observe(time.monotonic() - began, (name,))
            return value

        def continue_call(first: asyncio.Future[Any]) -> Coroutine[Any, Any, R]:
            return complete(
                self._execute(
                    name,
                    encode,
                    deadline,
                    retry=True,
                    raise_rejection=raise_rejection,
                    began=began,
                    first=first,
                )
            )

        # Without [R], which takes as long as everything else here.
        call: DirectCall[R] = DirectCall(
            self._loop.create_future(), decode=decode_first, complete=continue_call, tasks=self._direct_calls
        )
        self._enqueue_command(*encode(), call)
        return call.result

    def _encoder(self, name: str, arguments: tuple[Argument, ...], deadline: float) -> _Encode:
        script = self.scripts[name]

        def encode() -> tuple[bytes, Callable[[], bytes]]:
            deadline_ms = b"%d" % self.redis_ms(deadline - self._loop.time())
            return (
                pack(b"EVALSHA", script.digest, b"0", deadline_ms, *arguments),
                lambda: pack(b"EVAL", script.text, b"0", deadline_ms, *arguments),
            )

        return encode

    def read(self, *command: Argument) -> Coroutine[Any, Any, Any]:
        """Run a command that changes nothing and return its answer.

        Raises:
            NotExecuted: the command was not executed.
            OutcomeUnknown: its answer was lost.
        """
        deadline = self._loop.time() + self.timeout_seconds
        return self._execute(
            READ, lambda: (pack(*command), None), deadline, retry=True, raise_rejection=lambda _: None
        )

    async def _execute(
        self,
        name: str,
        encode: _Encode,
        deadline: float,
        *,
        retry: bool,
        raise_rejection: RaiseRejection,
        began: float = 0.0,
        first: asyncio.Future[Any] | None = None,
    ) -> Any:
        """``first`` is the first attempt, if it was made already, ``began`` the monotonic time at which it was."""
        began = began or time.monotonic()  # the clock of the loop does not advance within a turn
        uncertain: OutcomeUnknown | None = None
        attempt: Callable[..., Awaitable[Any]] = self._enqueue
        while True:
            try:
                answer = await (first or attempt(*encode()))
                raise_rejection(answer)
            except OutcomeUnknown as error:
                problem: GatewayError = error
                if uncertain is None or error.rejection:  # a timeout at the deadline must not hide the reason
                    uncertain = error
                if not retry:
                    break
            except DeadlineExceeded as error:
                problem = error
                self._update_clock(error.redis_ms, self._loop.time())
            except GatewayError as error:
                problem = error
                if not isinstance(error, NotExecuted) or not error.retryable:
                    break
            else:
                self._metrics.command_seconds.observe(time.monotonic() - began, (name,))
                return answer
            if self._loop.time() + 2 * FIRST_BACKOFF_SECONDS >= deadline:
                break  # an attempt without time for its answer would make a certain rejection unknown
            await asyncio.sleep(FIRST_BACKOFF_SECONDS)
            first = None
            self._metrics.command_retries.count((name,))
            attempt = partial(self._enqueue_again, deadline)
        # An attempt without an answer may have been executed, whatever a later one was answered.
        problem = uncertain or problem
        self._count_failure(name, problem, began)
        raise problem

    def _count_failure(self, name: str, problem: GatewayError, began: float) -> None:
        if isinstance(problem, OutcomeUnknown):
            self._metrics.command_failures.count((name, UNKNOWN))
        elif isinstance(problem, NotExecuted):
            self._metrics.command_failures.count((name, NOT_EXECUTED))
        else:  # Redis answered; the answer is a rejection by the script
            self._metrics.command_seconds.observe(time.monotonic() - began, (name,))

    def _enqueue(self, packed: bytes, reencode: Callable[[], bytes] | None) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self.is_unavailable:
            answer.set_exception(NotExecuted("Redis is unavailable", retryable=False))
        else:
            self._enqueue_command(packed, reencode, answer)
        return answer

    async def _enqueue_again(
        self, deadline: float, packed: bytes, reencode: Callable[[], bytes] | None
    ) -> Any:
        """Enqueue a repeated attempt, which has only the rest of the time."""
        answer = self._enqueue(packed, reencode)
        try:
            async with asyncio.timeout_at(deadline):
                return await answer
        except TimeoutError:
            if self._pending.cancel(answer):
                raise NotExecuted("the command could not be sent to Redis in time", retryable=False) from None
            raise OutcomeUnknown(f"Redis did not answer within {self.timeout_seconds} s") from None
