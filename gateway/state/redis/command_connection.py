"""The connection for commands: keep it open, send, receive, and expire what is not answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from zlib import crc32

import structlog
from redis import exceptions
from redis.asyncio import Connection

from gateway.domain.errors import BrokerUnavailable, GatewayError, StateMisconfigured, release_frames
from gateway.state.redis.connection import (
    Backoff,
    ConnectionFactory,
    ServerClock,
    ServerId,
    execute,
    run_until_first_exit,
    send,
    stream_of,
)
from gateway.state.redis.errors import REPLIES, NotExecuted, OutcomeUnknown, ScriptFailures
from gateway.state.redis.metrics import COMMANDS, READ, ConnectionName, RedisMetrics
from gateway.state.redis.pending import ConfirmedCommands, PendingCommands, Result
from gateway.state.redis.reply_reader import ReplyReader
from gateway.state.redis.scripts import Script

WAIT_FRACTION: Final = 0.25
"""The part of the timeout of a call for which one WAIT lasts: the call is repeated, and waits again."""
BRANCHES: Final = 1_000
"""How many branches of positions there are (lua/append.lua)."""
CLOCK_SECONDS: Final = 0.25
"""The slowest answer from which the clock of Redis is taken."""
MAX_UNWRITTEN_BYTES: Final = 64 * 1024
"""With more in the buffer of the transport a command waits in this process, where it certainly was not executed."""

log = structlog.get_logger(__name__)


class CommandConnection:
    """Sends commands and receives their answers while ``run`` works."""

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
        self._failures = ScriptFailures()
        self._direct_calls: set[asyncio.Task[Any]] = set()
        """The tasks of direct calls whose first attempt did not succeed."""
        self._timed_out = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.clock = clock or ServerClock()
        self._writable: asyncio.StreamWriter | None = None
        """The stream of the connection while no other write to it is in progress."""
        self._is_write_due = False
        """Whether ``_write_turn`` is going to run."""
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

    def _enqueue_command(self, packed: bytes, reencode: Callable[[], bytes] | None, result: Result) -> None:
        """Send a command with the others of this turn of the event loop, or once the connection takes it."""
        self._pending.add(packed, reencode, result, self._loop.time())
        if not self._is_write_due:
            self._is_write_due = True
            self._loop.call_soon(self._write_turn)

    def _write_turn(self) -> None:
        """Write the commands of a turn of the event loop in one piece.

        uvloop would make a system call for each, here and in Redis.
        """
        self._is_write_due = False
        stream, pending = self._writable, self._pending
        if (
            stream is None
            or stream.is_closing()
            or stream.transport.get_write_buffer_size() > MAX_UNWRITTEN_BYTES
        ):
            pending.has_unsent.set()
        elif packed := pending.take():
            try:
                stream.write(packed)
            except RuntimeError:  # uvloop has closed the socket, and has not reported that yet
                self.reconnect()

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
            for task in self._direct_calls:
                task.cancel()

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
            reader = ReplyReader(connection, self._receive)
            await run_until_first_exit(
                writer=self._write(connection),
                reader=reader.wait_until_lost(),
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

    def _receive(self, _reader: ReplyReader, reply: Any) -> None:
        """Take the next answer. Raises: the error with which the connection is of no further use."""
        if not isinstance(reply, Exception):
            self._pending.complete_oldest(reply)
        elif isinstance(reply, REPLIES):
            self._fail_oldest(reply)
        else:
            raise reply

    def _fail_oldest(self, error: Exception) -> None:
        problem = self._pending.fail_oldest(error)
        if isinstance(problem, OutcomeUnknown):
            self._failures.log(str(error), self._loop.time())
        if isinstance(problem, NotExecuted) and problem.not_primary:
            raise problem

    async def _expire_commands(self) -> None:
        """Fail commands that have waited too long, for a connection or for an answer."""
        while True:
            await asyncio.sleep(self.timeout_seconds / 20)
            enqueued_before = self._loop.time() - self.timeout_seconds
            unanswered = self._pending.expire(enqueued_before, self.timeout_seconds)
            if unanswered and not self._timed_out.is_set():
                log.warning("redis.timeout", commands=unanswered)
                self._timed_out.set()
