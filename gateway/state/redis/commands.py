"""The connection on which scripts are called.

What is asked in one turn of the event loop goes out in one write, or in a few where it is much, so that Redis works
while the rest is still being asked. More may go out before the answers are back: the connection is shared by everybody
who waits (``questions``).
Nobody waits longer than ``patience_seconds``: who was not sent by then is Unsent, who was not answered Unanswered; a
connection whose oldest question is that old is given up. Who asked is asked again here, as long as there is time; once
one attempt had no answer, no later refusal is certain any more. Where Redis finds a deadline passed while somebody
still waits, its clock was set, and the answer tells what it shows.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

import structlog
from redis import exceptions
from redis.asyncio import Connection

from gateway.domain.errors import BrokerUnavailable, GatewayError, StateMisconfigured
from gateway.state.redis.connection import (
    FIRST_BACKOFF_SECONDS,
    Backoff,
    ConnectionFactory,
    ServerId,
    execute,
    pack,
    run_until_first_exit,
    stream_of,
)
from gateway.state.redis.errors import REPLIES, DeadlineExceeded, NotExecuted, OutcomeUnknown
from gateway.state.redis.metrics import COMMANDS, NOT_EXECUTED, UNKNOWN, RedisMetrics
from gateway.state.redis.pending import PendingCommands
from gateway.state.redis.scripts import Script

log = structlog.get_logger(__name__)

Argument = str | bytes | int
RaiseRejection = Callable[[Any], None]
"""Looks at an answer and raises what it refuses."""
_Pack = Callable[[], tuple[bytes, Callable[[], bytes] | None]]
"""What to send, made anew for each attempt, and what makes it whole where Redis does not know the script."""
READ: Final = "read"
"""What commands that change nothing are counted as."""
CLOCK_SECONDS: Final = 0.25
FAILURE_SECONDS: Final = 60.0
"""For so long nothing more is said of scripts that fail in the same way: what is asked again fails again."""
_MOST_FAILURES: Final = 100
COMMANDS_PER_WRITE: Final = 8
"""With fewer the writes cost more than Redis's head start brings; with more one side waits for the other."""


class Commands:
    """Calls scripts, from ``run`` being started until it ends."""

    def __init__(
        self,
        factory: ConnectionFactory,
        scripts: Mapping[str, Script],
        *,
        timeout_seconds: float,
        metrics: RedisMetrics,
    ) -> None:
        self.scripts = scripts
        self.timeout_seconds = timeout_seconds
        self._factory = factory
        self._metrics = metrics
        # A new connection runs "register_server" before commands are counted.
        metrics.init_command_labels([*(name for name in scripts if name != "register_server"), READ])
        self._pending = PendingCommands()
        self._backoff = Backoff()
        self._failures: dict[str, float] = {}
        """How scripts failed, and when each may be said again."""
        self._timed_out = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._clock_offset_ms = 0.0
        self._flowing: asyncio.StreamWriter | None = None
        """The connection, while everything written goes straight to its socket."""
        self.last_error: GatewayError | None = None
        """Why there is no connection, where Redis or we said so."""
        self._is_connected = False
        self._down_since = self._loop.time()
        self.connected_once = asyncio.Event()
        """Set once there was a connection, and so the clock of Redis is known."""

    @property
    def waiting(self) -> int:
        """How many questions have no answer yet."""
        return len(self._pending)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self._is_connected

    def redis_ms(self, seconds_from_now: float = 0.0) -> int:
        """The clock of Redis, as far as known: milliseconds since 1970."""
        return int((self._loop.time() + seconds_from_now) * 1000 + self._clock_offset_ms)

    def set_clock(self, redis_ms: float, sent_at: float) -> None:
        """What the clock of Redis showed between a moment (of the loop's clock) and now.

        An answer that was long on its way says too little: whoever stood still meanwhile would be late ever after.
        """
        if self._loop.time() - sent_at <= CLOCK_SECONDS:
            self._update_clock(redis_ms, sent_at)

    def _update_clock(self, redis_ms: float, sent_at: float) -> None:
        self._clock_offset_ms = redis_ms - (sent_at + self._loop.time()) / 2 * 1000

    # asking

    def call(
        self,
        name: str,
        *arguments: Argument,
        retry: bool = True,
        raise_rejection: RaiseRejection = lambda _: None,
    ) -> Coroutine[Any, Any, Any]:
        """What a script answers; it does not begin later than ``patience_seconds`` from now.

        With ``repeat`` it must be harmless to run it again: it is, when an answer was lost. Raises Unsent, Unanswered,
        and what ``refuse`` raises of the answer, unless an earlier attempt may have done what this one refused.
        """
        script = self.scripts[name]
        give_up_at = self._loop.time() + self.timeout_seconds

        def packed() -> tuple[bytes, Callable[[], bytes]]:
            deadline = b"%d" % self.redis_ms(give_up_at - self._loop.time())
            return (
                pack(b"EVALSHA", script.digest, b"0", deadline, *arguments),
                lambda: pack(b"EVAL", script.text, b"0", deadline, *arguments),
            )

        return self._execute(name, packed, give_up_at, retry=retry, raise_rejection=raise_rejection)

    def read(self, *command: Argument) -> Coroutine[Any, Any, Any]:
        """What a command answers that changes nothing. Raises Unsent, Unanswered."""
        give_up_at = self._loop.time() + self.timeout_seconds
        return self._execute(
            READ, lambda: (pack(*command), None), give_up_at, retry=True, raise_rejection=lambda _: None
        )

    async def _execute(
        self, name: str, packed: _Pack, deadline: float, *, retry: bool, raise_rejection: RaiseRejection
    ) -> Any:
        began = time.monotonic()  # the loop's own clock stands still within a turn
        uncertain: OutcomeUnknown | None = None
        attempt: Callable[..., Awaitable[Any]] = self._enqueue
        while True:
            try:
                answer = await attempt(*packed())
                raise_rejection(answer)
            except OutcomeUnknown as error:
                problem: GatewayError = error
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
            if self._loop.time() + FIRST_BACKOFF_SECONDS >= deadline:
                break
            await asyncio.sleep(FIRST_BACKOFF_SECONDS)
            self._metrics.command_retries.count((name,))
            attempt = partial(self._enqueue_again, deadline)
        # What was not answered before may have happened, whatever was said later.
        problem = uncertain or problem
        self._count_failure(name, problem, began)
        raise problem

    def _count_failure(self, name: str, problem: GatewayError, began: float) -> None:
        if isinstance(problem, OutcomeUnknown):
            self._metrics.command_failures.count((name, UNKNOWN))
        elif isinstance(problem, NotExecuted):
            self._metrics.command_failures.count((name, NOT_EXECUTED))
        else:  # an answer like any other, which the caller refuses
            self._metrics.command_seconds.observe(time.monotonic() - began, (name,))

    def _enqueue(self, packed: bytes, reencode: Callable[[], bytes] | None) -> asyncio.Future[Any]:
        now = self._loop.time()
        answer: asyncio.Future[Any] = self._loop.create_future()
        if not self._is_connected and now - self._down_since > self.timeout_seconds:
            answer.set_exception(NotExecuted("Redis is away", retryable=False))
        else:
            self._pending.add(packed, reencode, answer, now)
            self._send_many()
        return answer

    async def _enqueue_again(
        self, deadline: float, packed: bytes, reencode: Callable[[], bytes] | None
    ) -> Any:
        """The same for a later attempt, which has only what is left of the time."""
        answer = self._enqueue(packed, reencode)
        try:
            async with asyncio.timeout_at(deadline):
                return await answer
        except TimeoutError:
            if self._pending.cancel(answer):
                raise NotExecuted("Redis could not be asked in time", retryable=False) from None
            raise OutcomeUnknown(f"Redis did not answer within {self.timeout_seconds} s") from None

    def _send_many(self) -> None:
        """Send what was asked in this turn so far, if that is enough to keep Redis busy meanwhile."""
        stream = self._flowing
        if self._pending.unsent >= COMMANDS_PER_WRITE and stream is not None and not stream.is_closing():
            stream.write(self._pending.take())

    # life

    async def run(self, on_connected: Callable[[ServerId], None]) -> None:
        """Keep a connection until cancelled. ``on_connected`` receives the server that each new connection reached.

        Raises:
            StateMisconfigured: the first connection reached a Redis that cannot be used.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_connected(on_connected), name="redis connection")
                tasks.create_task(self._sync_clock(), name="redis patience")
        finally:
            self._pending.end()

    async def _keep_connected(self, on_connected: Callable[[ServerId], None]) -> None:
        while True:
            try:
                connection, identity = await self._factory.connect()
            except GatewayError as error:
                self._metrics.connection_failed(COMMANDS)
                if isinstance(error, StateMisconfigured) and not self.connected_once.is_set():
                    raise
                self.last_error = error
                if self._backoff.record_failure(error.message):
                    log.warning("redis.unavailable", reason=error.message)
            else:
                await self._use(connection, identity, on_connected)
            await self._backoff.pause()

    async def _use(
        self, connection: Connection, identity: ServerId, on_connected: Callable[[ServerId], None]
    ) -> None:
        """Work with a connection until it is lost."""
        self._timed_out.clear()
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self._read_clock(connection)
                await self._register_server(connection, identity)
            self._is_connected = True
            self._backoff.reset()
            self.last_error = None
            self.connected_once.set()
            log.info("redis.connected", run_id=identity.run_id)
            self._metrics.connection_opened(COMMANDS)
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
        finally:
            if self._is_connected:
                self._is_connected, self._down_since = False, self._loop.time()
            self._pending.connection_ended()
            await connection.disconnect(nowait=True)

    async def _watch_timeouts(self) -> None:
        # Closing the connection from outside would wait for what could not be written.
        await self._timed_out.wait()
        raise NotExecuted("no answer")

    async def _read_clock(self, connection: Connection) -> None:
        sent_at = self._loop.time()
        seconds, microseconds = await execute(connection, "TIME")
        # However long it took: what an earlier connection knew may be that of another server.
        self._update_clock(int(seconds) * 1000 + int(microseconds) / 1000, sent_at)

    async def _register_server(self, connection: Connection, identity: ServerId) -> None:
        """Before anything else is asked of it: a server that lost nonces must not take a request again."""
        whom = f"{identity.run_id} {identity.replication_id}"
        await execute(connection, "EVAL", self.scripts["register_server"].text.decode(), "0", whom)

    async def _write(self, connection: Connection) -> None:
        asked = self._pending.sent_count
        try:
            while True:
                self._flowing = stream_of(connection)
                await asked.wait()
                asked.clear()
                packed = self._pending.take()
                if packed:
                    self._flowing = None
                    await connection.send_packed_command(packed, check_health=False)
        finally:
            self._flowing = None

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
        if len(self._failures) >= _MOST_FAILURES:
            self._failures.clear()
        self._failures[reason] = now + FAILURE_SECONDS
        log.error("redis.script_failed", reason=reason)

    async def _sync_clock(self) -> None:
        """Let nobody wait for too long, neither for a connection nor for an answer."""
        while True:
            await asyncio.sleep(self.timeout_seconds / 20)
            too_old = self._loop.time() - self.timeout_seconds
            unanswered = self._pending.expire(too_old, self.timeout_seconds)
            if unanswered and not self._timed_out.is_set():
                log.warning("redis.timeout", commands=unanswered)
                self._timed_out.set()
