"""The connection for scripts: commands are pipelined, have a deadline, and are retried.

Commands of one turn of the event loop go out in one write, or in a few where there are many, so that Redis works while
the rest is still being encoded. Further commands are sent before the answers arrive (``pending``).

A call takes at most ``timeout_seconds``. A command that was not sent by then raises NotExecuted; one that was sent and
not answered raises OutcomeUnknown, and the connection whose oldest command is that old is closed. Within that time a
failed attempt is repeated. Once an attempt had no answer, no later rejection is certain any more.

A script that finds its deadline passed while its caller still waits shows that the clock of Redis was set; its answer
carries the time that Redis shows.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final
from zlib import crc32

import structlog
from redis import exceptions
from redis.asyncio import Connection

from gateway.domain.errors import BrokerUnavailable, GatewayError, StateMisconfigured, release_frames
from gateway.state.redis.connection import (
    FIRST_BACKOFF_SECONDS,
    Backoff,
    ConnectionFactory,
    ServerClock,
    ServerId,
    execute,
    pack,
    run_until_first_exit,
    send,
    stream_of,
)
from gateway.state.redis.errors import REPLIES, DeadlineExceeded, NotExecuted, OutcomeUnknown
from gateway.state.redis.metrics import COMMANDS, NOT_EXECUTED, UNKNOWN, ConnectionName, RedisMetrics
from gateway.state.redis.pending import ConfirmedCommands, PendingCommands
from gateway.state.redis.scripts import Script

Argument = str | bytes | int
RaiseRejection = Callable[[Any], None]
"""Raises the rejection that an answer means, if it means one."""
_Encode = Callable[[], tuple[bytes, Callable[[], bytes] | None]]
"""Encodes a command for one attempt. The second value encodes it with the text of a script that Redis does not know."""
WAIT_FRACTION: Final = 0.25
"""The part of the timeout of a call for which one WAIT lasts: the call is repeated, and waits again."""
BRANCHES: Final = 1_000
"""How many branches of positions there are (lua/append.lua)."""
READ: Final = "read"
"""The name under which commands that change nothing are counted."""
CLOCK_SECONDS: Final = 0.25
"""The slowest answer from which the clock of Redis is taken."""
FAILURE_SECONDS: Final = 60.0
"""A script that fails in the same way within this time is not logged again: a repeated call fails again."""
_MAX_FAILURES: Final = 100
COMMANDS_PER_WRITE: Final = 8
"""With fewer commands a write costs more than an early start of Redis saves; with more one side waits for the other."""

log = structlog.get_logger(__name__)


class Commands:
    """Calls scripts while ``run`` works."""

    def __init__(
        self,
        factory: ConnectionFactory,
        scripts: Mapping[str, Script],
        *,
        timeout_seconds: float,
        metrics: RedisMetrics,
        connection: ConnectionName = COMMANDS,
        clock: ServerClock | None = None,
        wait_replicas: int = 0,
    ) -> None:
        """``connection`` is its name in metrics; several connections may share a ``clock``.

        With ``wait_replicas`` an answer counts once so many Redis replicas have it, too.
        """
        self.scripts = scripts
        self.timeout_seconds = timeout_seconds
        self._factory = factory
        self._metrics = metrics
        # A new connection runs "register_server" before commands are counted.
        metrics.init_command_labels([*(name for name in scripts if name != "register_server"), READ])
        self._connection = connection
        self._pending = (
            ConfirmedCommands(replicas=wait_replicas, wait_seconds=timeout_seconds * WAIT_FRACTION)
            if wait_replicas
            else PendingCommands()
        )
        self._backoff = Backoff()
        self._failures: dict[str, float] = {}
        """Reasons for which scripts failed, each with the time from which it may be logged again."""
        self._timed_out = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.clock = clock or ServerClock()
        self._writable: asyncio.StreamWriter | None = None
        """The stream of the connection while no other write to it is in progress."""
        self.last_error: GatewayError | None = None
        """Why there is no connection, if that is known."""
        self.branch = 0
        """The branch of positions of the server that is reached: servers that follow one another hardly share one."""
        self._is_connected = False
        self._down_since = self._loop.time()
        self.connected_once = asyncio.Event()
        """Set once there was a connection, so that the clock of Redis is known."""

    @property
    def waiting(self) -> int:
        """The number of commands without an answer."""
        return len(self._pending)

    @property
    def is_connected(self) -> bool:
        """Whether the connection is established."""
        return self._is_connected

    @property
    def is_unavailable(self) -> bool:
        """Whether Redis could not be reached for as long as a call waits: a new call fails at once."""
        return not self._is_connected and self._loop.time() - self._down_since > self.timeout_seconds

    def redis_ms(self, seconds_from_now: float = 0.0) -> int:
        """Return what the clock of Redis shows now, or in some seconds, as far as known: milliseconds since 1970."""
        return int((self._loop.time() + seconds_from_now) * 1000 + self.clock.offset_ms)

    @property
    def clock_skew_seconds(self) -> float:
        """How far the clock of Redis is ahead of that of this host, as far as known."""
        return self.redis_ms() / 1000 - time.time() if self.connected_once.is_set() else 0.0

    def set_clock(self, redis_ms: float, sent_at: float) -> None:
        """Take the clock of Redis from an answer to a command that was sent at ``sent_at`` (clock of the loop).

        An answer that took longer than CLOCK_SECONDS is ignored: a process that was suspended meanwhile would set every
        later deadline too early.
        """
        if self._loop.time() - sent_at <= CLOCK_SECONDS:
            self._update_clock(redis_ms, sent_at)

    def _update_clock(self, redis_ms: float, sent_at: float) -> None:
        self.clock.offset_ms = redis_ms - (sent_at + self._loop.time()) / 2 * 1000

    # calls

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
        script = self.scripts[name]
        deadline = self._loop.time() + self.timeout_seconds

        def encode() -> tuple[bytes, Callable[[], bytes]]:
            deadline_ms = b"%d" % self.redis_ms(deadline - self._loop.time())
            return (
                pack(b"EVALSHA", script.digest, b"0", deadline_ms, *arguments),
                lambda: pack(b"EVAL", script.text, b"0", deadline_ms, *arguments),
            )

        return self._execute(name, encode, deadline, retry=retry, raise_rejection=raise_rejection)

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
        self, name: str, encode: _Encode, deadline: float, *, retry: bool, raise_rejection: RaiseRejection
    ) -> Any:
        began = time.monotonic()  # the clock of the loop does not advance within a turn
        uncertain: OutcomeUnknown | None = None
        attempt: Callable[..., Awaitable[Any]] = self._enqueue
        while True:
            try:
                answer = await attempt(*encode())
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
        now = self._loop.time()
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self.is_unavailable:
            answer.set_exception(NotExecuted("Redis is unavailable", retryable=False))
        else:
            self._pending.add(packed, reencode, answer, now)
            self._send_many()
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

    def _send_many(self) -> None:
        """Write the commands of this turn so far, if there are enough to keep Redis busy meanwhile."""
        stream = self._writable
        is_enough = self._pending.sends_early and self._pending.unsent >= COMMANDS_PER_WRITE
        if is_enough and stream is not None and not stream.is_closing():
            stream.write(self._pending.take())

    # the connection

    def reconnect(self) -> None:
        """Replace the connection by a new one."""
        self._timed_out.set()

    async def run(self, on_connected: Callable[[ServerId], None]) -> None:
        """Keep a connection until cancelled. ``on_connected`` receives the server that each new connection reached.

        Raises:
            StateMisconfigured: the first connection reached a Redis that cannot be used.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_connected(on_connected), name="redis connection")
                tasks.create_task(self._expire_commands(), name="redis timeouts")
        finally:
            self._pending.end()

    async def _keep_connected(self, on_connected: Callable[[ServerId], None]) -> None:
        while True:
            try:
                connection, identity = await self._factory.connect()
            except GatewayError as error:
                self._metrics.connection_failed(self._connection)
                if isinstance(error, StateMisconfigured) and not self.connected_once.is_set():
                    raise
                self.last_error = error
                if self._backoff.record_failure(error.message):
                    log.warning("redis.unavailable", reason=error.message)
                release_frames(error)
            else:
                await self._use(connection, identity, on_connected)
            await self._backoff.pause()

    async def _use(
        self, connection: Connection, identity: ServerId, on_connected: Callable[[ServerId], None]
    ) -> None:
        """Use a connection until it is lost."""
        self._timed_out.clear()
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self._read_clock(connection)
                await self._register_server(connection, identity)
            self._is_connected = True
            self.branch = crc32(f"{identity.run_id} {identity.replication_id}".encode()) % BRANCHES
            self._backoff.reset()
            self.last_error = None
            self.connected_once.set()
            log.info("redis.connected", run_id=identity.run_id)
            self._metrics.connection_opened(self._connection)
            on_connected(identity)
            await run_until_first_exit(
                writer=self._write(connection),
                reader=self._read(connection),
                watch=self._watch_timeouts(),
            )
        except (exceptions.RedisError, OSError, BrokerUnavailable) as lost:
            self.last_error = lost if isinstance(lost, BrokerUnavailable) else None
            if self._backoff.record_failure(str(lost)):
                log.warning("redis.connection_lost", reason=str(lost))
            release_frames(lost)
        finally:
            if self._is_connected:
                self._is_connected, self._down_since = False, self._loop.time()
            self._pending.connection_ended()
            await connection.disconnect(nowait=True)

    async def _watch_timeouts(self) -> None:
        # Closing the connection from another task would wait for the data that could not be written.
        await self._timed_out.wait()
        raise NotExecuted("no answer")

    async def _read_clock(self, connection: Connection) -> None:
        sent_at = self._loop.time()
        seconds, microseconds = await execute(connection, "TIME")
        # However long the answer took: the offset of an earlier connection may be that of another server.
        self._update_clock(int(seconds) * 1000 + int(microseconds) / 1000, sent_at)

    async def _register_server(self, connection: Connection, identity: ServerId) -> None:
        """Register the server before any other script: one that lost nonces must not accept a request twice."""
        server = f"{identity.run_id} {identity.replication_id}"
        await execute(connection, "EVAL", self.scripts["register_server"].text.decode(), "0", server)

    async def _write(self, connection: Connection) -> None:
        has_unsent = self._pending.has_unsent
        try:
            while True:
                self._writable = stream_of(connection)
                await has_unsent.wait()
                has_unsent.clear()
                if packed := self._pending.take():
                    self._writable = None
                    await send(connection, packed)
        finally:
            self._writable = None

    async def _read(self, connection: Connection) -> None:
        while True:
            try:
                answer = await connection.read_response(
                    disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                )
            except REPLIES as error:
                self._fail_oldest(error)
            else:
                self._pending.complete_oldest(answer)

    def _fail_oldest(self, error: Exception) -> None:
        problem = self._pending.fail_oldest(error)
        if isinstance(problem, OutcomeUnknown):
            self._log_failure(str(error))
        if isinstance(problem, NotExecuted) and problem.not_primary:
            raise problem

    def _log_failure(self, reason: str) -> None:
        now = self._loop.time()
        if now < self._failures.get(reason, now):
            return
        if len(self._failures) >= _MAX_FAILURES:
            self._failures.clear()
        self._failures[reason] = now + FAILURE_SECONDS
        log.error("redis.script_failed", reason=reason)

    async def _expire_commands(self) -> None:
        """Fail commands that have waited too long, for a connection or for an answer."""
        while True:
            await asyncio.sleep(self.timeout_seconds / 20)
            enqueued_before = self._loop.time() - self.timeout_seconds
            unanswered = self._pending.expire(enqueued_before, self.timeout_seconds)
            if unanswered and not self._timed_out.is_set():
                log.warning("redis.timeout", commands=unanswered)
                self._timed_out.set()
