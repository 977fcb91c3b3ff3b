"""The commands on a connection that have no answer yet; no I/O.

    PendingCommands    sent at any time; each is answered when Redis answers it
    ConfirmedCommands  sent in batches; a batch is answered when enough Redis replicas have it, too
    DirectCall         takes the answer to a command in place of a future and a task

Redis answers in order, so the next answer belongs to the oldest command that was sent. A command keeps its place after
its caller gave up: its answer may still arrive, and must not be taken for that of the next command.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, Protocol, TypeVar

from redis import exceptions

from gateway.domain.errors import GatewayError
from gateway.state.redis.connection import pack
from gateway.state.redis.errors import NotExecuted, OutcomeUnknown, code_of, error_from_reply, rejection_in

R = TypeVar("R")
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""The most that unsent and unanswered commands may hold together."""


class Result(Protocol):
    """Where the answer to a command goes: a future, or a ``DirectCall``."""

    def done(self) -> bool: ...

    def set_result(self, answer: Any, /) -> None: ...

    def set_exception(self, error: Any, /) -> None: ...


class _PendingCommand:
    """A command until it is answered. ``reencode`` encodes it with the text of a script that Redis does not know."""

    __slots__ = ("enqueued_at", "packed", "reencode", "result")

    def __init__(
        self,
        packed: bytes,
        reencode: Callable[[], bytes] | None,
        result: Result,
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
        """Set when the sender, which clears it, has to send commands; ``add`` leaves that to its caller."""

    def __len__(self) -> int:
        return len(self._unsent) + len(self._sent)

    def add(self, packed: bytes, reencode: Callable[[], bytes] | None, result: Result, now: float) -> None:
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
            self.has_unsent.set()
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

    def _oldest(self) -> _PendingCommand:
        if not self._sent:
            raise exceptions.InvalidResponse("Redis sent an answer without a command")
        command = self._sent.popleft()
        self._bytes -= len(command.packed)
        return command


class ConfirmedCommands(PendingCommands):
    """Commands whose answers count once ``replicas`` Redis replicas have confirmed what was written until then.

    WAIT blocks its connection, so each batch of commands is followed by one WAIT, and the next batch is all that came
    in the meantime. The answers of a batch are held until its WAIT is answered.
    """

    def __init__(self, *, replicas: int, wait_seconds: float) -> None:
        super().__init__()
        self._replicas = replicas
        self._wait = pack("WAIT", str(replicas), str(int(wait_seconds * 1000)))
        self._answered: list[tuple[_PendingCommand, Any]] = []
        self._is_waiting = False

    def __len__(self) -> int:
        return super().__len__() + len(self._answered)

    def take(self) -> bytes:
        """Return the next batch and its WAIT; nothing while the batch before is not confirmed."""
        if self._is_waiting:
            return b""
        packed = super().take()
        self._is_waiting = bool(packed)
        return packed + self._wait if packed else packed

    def complete_oldest(self, answer: Any) -> None:
        """Hold the next answer, or confirm the batch if it is that of its WAIT."""
        if self._sent:
            self._answered.append((self._oldest(), answer))
        elif not self._is_waiting:
            super().complete_oldest(answer)  # raises
        elif answer >= self._replicas:
            for command, held in self._answered:
                if not command.result.done():
                    command.result.set_result(held)
            self._end_batch()
        else:
            self._fail_batch(f"{answer} of {self._replicas} Redis replicas confirmed it in time")

    def fail_oldest(self, error: Exception) -> GatewayError | None:
        """Set the next answer, which is an error; that of a WAIT leaves unknown what the replicas have."""
        if self._sent or not self._is_waiting:
            return super().fail_oldest(error)
        problem = error_from_reply(error)
        self._fail_batch(f"Redis replicas did not confirm it ({code_of(error)})", rejection_in(error))
        return problem

    def expire(self, enqueued_before: float, timeout_seconds: float) -> int:
        """Fail old commands as the base class does; a batch whose WAIT is not answered counts as sent."""
        unanswered = super().expire(enqueued_before, timeout_seconds)
        if unanswered or not self._answered or self._answered[0][0].enqueued_at > enqueued_before:
            return unanswered
        for command, _ in self._answered:
            command.fail(OutcomeUnknown(f"Redis did not answer within {timeout_seconds} s"))
        return len(self._answered)

    def connection_ended(self) -> None:
        """Fail the commands that were sent on the connection, and those that were answered and not confirmed."""
        super().connection_ended()
        self._fail_batch("the connection to Redis was lost before its replicas confirmed it")

    def _fail_batch(self, reason: str, rejection: str = "") -> None:
        for command, _ in self._answered:
            command.fail(OutcomeUnknown(reason, rejection=rejection))
        self._end_batch()

    def _end_batch(self) -> None:
        self._answered.clear()
        self._is_waiting = False
        if self._unsent:
            self.has_unsent.set()


class DirectCall(Generic[R]):
    """Takes the answer to the first attempt of a call. ``result`` gets what is decoded from it in the same step.

    Every other answer and every error is passed on to a task, which does what it would have done with that attempt: it
    repeats the call, or raises.
    """

    __slots__ = ("_complete", "_decode", "_is_answered", "_tasks", "result")

    def __init__(
        self,
        result: asyncio.Future[R],
        *,
        decode: Callable[[Any], R | None],
        complete: Callable[[asyncio.Future[Any]], Coroutine[Any, Any, R]],
        tasks: set[asyncio.Task[Any]],
    ) -> None:
        """``decode`` returns None for an answer that is not the ordinary one. ``tasks`` holds the tasks that run."""
        self.result = result
        self._decode = decode
        self._complete = complete
        self._tasks = tasks
        self._is_answered = False

    def done(self) -> bool:
        """Whether the first attempt has ended, or the caller gave up."""
        return self._is_answered or self.result.done()

    def set_result(self, answer: Any) -> None:
        """Take the answer of Redis."""
        value = self._decode(answer)
        if value is None:
            self._first_attempt().set_result(answer)
        else:
            self.result.set_result(value)

    def set_exception(self, error: GatewayError) -> None:
        """Take the error of the attempt."""
        self._first_attempt().set_exception(error)

    def _first_attempt(self) -> asyncio.Future[Any]:
        """Start a task that completes the call, and return the future of its first attempt."""
        # A command that has failed for its age fails again with its connection: that is no second attempt.
        self._is_answered = True
        loop = self.result.get_loop()
        first: asyncio.Future[Any] = loop.create_future()
        task = loop.create_task(self._complete(first), name="redis call")
        self._tasks.add(task)
        task.add_done_callback(self._completed)
        return first

    def _completed(self, task: asyncio.Task[R]) -> None:
        self._tasks.discard(task)
        if self.result.done():
            if not task.cancelled():
                task.exception()  # The caller gave up: nothing waits for it.
        elif task.cancelled():
            self.result.set_exception(OutcomeUnknown("the gateway is stopping"))
        elif (error := task.exception()) is not None:
            self.result.set_exception(error)
        else:
            self.result.set_result(task.result())
