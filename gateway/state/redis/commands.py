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

from gateway.domain.errors import BrokerUnavailable, GatewayError, StateUnusable
from gateway.state.redis.errors import REPLIES, Late, Unanswered, Unsent
from gateway.state.redis.meter import Meter
from gateway.state.redis.questions import Questions
from gateway.state.redis.scripting import Script
from gateway.state.redis.server import (
    AGAIN_SECONDS,
    Attempts,
    Identity,
    Server,
    ask,
    pack,
    stream_of,
    until_one_ends,
)

log = structlog.get_logger(__name__)

Argument = str | bytes | int
Refuse = Callable[[Any], None]
"""Looks at an answer and raises what it refuses."""
_Pack = Callable[[], tuple[bytes, Callable[[], bytes] | None]]
"""What to send, made anew for each attempt, and what makes it whole where Redis does not know the script."""
READ: Final = "read"
"""What commands that change nothing are counted as."""
CLOCK_SECONDS: Final = 0.25
FAILURE_SECONDS: Final = 60.0
"""For so long nothing more is said of scripts that fail in the same way: what is asked again fails again."""
_MOST_FAILURES: Final = 100
QUESTIONS_A_WRITE: Final = 8
"""With fewer the writes cost more than Redis's head start brings; with more one side waits for the other."""


class Commands:
    """Calls scripts, from ``run`` being started until it ends."""

    def __init__(
        self,
        server: Server,
        scripts: Mapping[str, Script],
        *,
        patience_seconds: float,
        connected: Callable[[Identity], None],
        meter: Meter,
    ) -> None:
        """``connected`` is told whom each new connection reached."""
        self.scripts = scripts
        self.patience_seconds = patience_seconds
        self._server = server
        self._connected = connected
        self._meter = meter
        self._questions = Questions()
        self._attempts = Attempts()
        self._failures: dict[str, float] = {}
        """How scripts failed, and when each may be said again."""
        self._stuck = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ahead_ms = 0.0
        self._flowing: asyncio.StreamWriter | None = None
        """The connection, while everything written goes straight to its socket."""
        self.trouble: GatewayError | None = None
        """Why there is no connection, where Redis or we said so."""
        self._up = False
        self._down_since = self._loop.time()
        self.reached = asyncio.Event()
        """Set once there was a connection, and so the clock of Redis is known."""

    @property
    def waiting(self) -> int:
        """How many questions have no answer yet."""
        return len(self._questions)

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._up

    def redis_ms(self, seconds_from_now: float = 0.0) -> int:
        """The clock of Redis, as far as known: milliseconds since 1970."""
        return int((self._loop.time() + seconds_from_now) * 1000 + self._ahead_ms)

    def set_clock(self, redis_ms: float, asked_at: float) -> None:
        """What the clock of Redis showed between a moment (of the loop's clock) and now.

        An answer that was long on its way says too little: whoever stood still meanwhile would be late ever after.
        """
        if self._loop.time() - asked_at <= CLOCK_SECONDS:
            self._take_clock(redis_ms, asked_at)

    def _take_clock(self, redis_ms: float, asked_at: float) -> None:
        self._ahead_ms = redis_ms - (asked_at + self._loop.time()) / 2 * 1000

    def shift_clock(self, seconds: float) -> None:
        """The scripts read another clock from now on. For tests."""
        self._ahead_ms += seconds * 1000

    # asking

    def call(
        self, name: str, *arguments: Argument, repeat: bool = True, refuse: Refuse = lambda _: None
    ) -> Coroutine[Any, Any, Any]:
        """What a script answers; it does not begin later than ``patience_seconds`` from now.

        With ``repeat`` it must be harmless to run it again: it is, when an answer was lost. Raises Unsent, Unanswered,
        and what ``refuse`` raises of the answer, unless an earlier attempt may have done what this one refused.
        """
        script = self.scripts[name]
        give_up_at = self._loop.time() + self.patience_seconds

        def packed() -> tuple[bytes, Callable[[], bytes]]:
            deadline = b"%d" % self.redis_ms(give_up_at - self._loop.time())
            return (
                pack(b"EVALSHA", script.digest, b"0", deadline, *arguments),
                lambda: pack(b"EVAL", script.text, b"0", deadline, *arguments),
            )

        return self._ask(name, packed, give_up_at, repeat=repeat, refuse=refuse)

    def read(self, *command: Argument) -> Coroutine[Any, Any, Any]:
        """What a command answers that changes nothing. Raises Unsent, Unanswered."""
        give_up_at = self._loop.time() + self.patience_seconds
        return self._ask(READ, lambda: (pack(*command), None), give_up_at, repeat=True, refuse=lambda _: None)

    async def _ask(self, name: str, packed: _Pack, give_up_at: float, *, repeat: bool, refuse: Refuse) -> Any:
        began = time.monotonic()  # the loop's own clock stands still within a turn
        uncertain: Unanswered | None = None
        attempt: Callable[..., Awaitable[Any]] = self._enqueue
        while True:
            try:
                answer = await attempt(*packed())
                refuse(answer)
            except Unanswered as error:
                problem: GatewayError = error
                uncertain = error
                if not repeat:
                    break
            except Late as error:
                problem = error
                self._take_clock(error.redis_ms, self._loop.time())
            except GatewayError as error:
                problem = error
                if not isinstance(error, Unsent) or not error.passing:
                    break
            else:
                self._meter.command_answered(name, time.monotonic() - began)
                return answer
            if self._loop.time() + AGAIN_SECONDS >= give_up_at:
                break
            await asyncio.sleep(AGAIN_SECONDS)
            self._meter.command_repeated(name)
            attempt = partial(self._enqueue_again, give_up_at)
        # What was not answered before may have happened, whatever was said later.
        problem = uncertain or problem
        self._count_failure(name, problem, began)
        raise problem

    def _count_failure(self, name: str, problem: GatewayError, began: float) -> None:
        if isinstance(problem, Unanswered):
            self._meter.command_failed(name, "unanswered")
        elif isinstance(problem, Unsent):
            self._meter.command_failed(name, "unsent")
        else:  # an answer like any other, which the caller refuses
            self._meter.command_answered(name, time.monotonic() - began)

    def _enqueue(self, packed: bytes, repack: Callable[[], bytes] | None) -> asyncio.Future[Any]:
        now = self._loop.time()
        answer: asyncio.Future[Any] = self._loop.create_future()
        if not self._up and now - self._down_since > self.patience_seconds:
            answer.set_exception(Unsent("Redis is away", passing=False))
        else:
            self._questions.add(packed, repack, answer, now)
            self._send_many()
        return answer

    async def _enqueue_again(
        self, give_up_at: float, packed: bytes, repack: Callable[[], bytes] | None
    ) -> Any:
        """The same for a later attempt, which has only what is left of the time."""
        answer = self._enqueue(packed, repack)
        try:
            async with asyncio.timeout_at(give_up_at):
                return await answer
        except TimeoutError:
            if self._questions.withdraw(answer):
                raise Unsent("Redis could not be asked in time", passing=False) from None
            raise Unanswered(f"Redis did not answer within {self.patience_seconds} s") from None

    def _send_many(self) -> None:
        """Send what was asked in this turn so far, if that is enough to keep Redis busy meanwhile."""
        stream = self._flowing
        if self._questions.unsent >= QUESTIONS_A_WRITE and stream is not None and not stream.is_closing():
            stream.write(self._questions.take())

    # life

    async def run(self) -> None:
        """Keep a connection until cancelled. Raises StateUnusable if the first one cannot be used."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_connected(), name="redis connection")
                tasks.create_task(self._keep_time(), name="redis patience")
        finally:
            self._questions.end()

    async def _keep_connected(self) -> None:
        while True:
            try:
                connection, identity = await self._server.open()
            except GatewayError as error:
                self._meter.connection_failed("commands")
                if isinstance(error, StateUnusable) and not self.reached.is_set():
                    raise
                self.trouble = error
                if self._attempts.failed(error.message):
                    log.warning("redis.unavailable", reason=error.message)
            else:
                await self._use(connection, identity)
            await self._attempts.pause()

    async def _use(self, connection: Connection, identity: Identity) -> None:
        """Work with a connection until it is lost."""
        self._stuck.clear()
        try:
            async with asyncio.timeout(self.patience_seconds):
                await self._read_clock(connection)
                await self._meet(connection, identity)
            self._up = True
            self._attempts.worked()
            self.trouble = None
            self.reached.set()
            log.info("redis.connected", run_id=identity.run_id)
            self._meter.connection_made("commands")
            self._connected(identity)
            await until_one_ends(
                writer=self._write(connection),
                reader=self._read(connection),
                watch=self._give_up_when_stuck(),
            )
        except (exceptions.RedisError, OSError, BrokerUnavailable) as lost:
            self.trouble = lost if isinstance(lost, BrokerUnavailable) else None
            if self._attempts.failed(str(lost)):
                log.warning("redis.connection_lost", reason=str(lost))
        finally:
            if self._up:
                self._up, self._down_since = False, self._loop.time()
            self._questions.connection_ended()
            await connection.disconnect(nowait=True)

    async def _give_up_when_stuck(self) -> None:
        # Closing the connection from outside would wait for what could not be written.
        await self._stuck.wait()
        raise Unsent("no answer")

    async def _read_clock(self, connection: Connection) -> None:
        asked_at = self._loop.time()
        seconds, microseconds = await ask(connection, "TIME")
        # However long it took: what an earlier connection knew may be that of another server.
        self._take_clock(int(seconds) * 1000 + int(microseconds) / 1000, asked_at)

    async def _meet(self, connection: Connection, identity: Identity) -> None:
        """Before anything else is asked of it: a server that lost nonces must not take a request again."""
        whom = f"{identity.run_id} {identity.replication_id}"
        await ask(connection, "EVAL", self.scripts["meet"].text.decode(), "0", whom)

    async def _write(self, connection: Connection) -> None:
        asked = self._questions.asked
        try:
            while True:
                self._flowing = stream_of(connection)
                await asked.wait()
                asked.clear()
                packed = self._questions.take()
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
                self._refused(error)
            else:
                self._questions.answered(answer)

    def _refused(self, error: Exception) -> None:
        problem = self._questions.refused(error)
        if isinstance(problem, Unanswered):
            self._say_failed(str(error))
        if isinstance(problem, Unsent) and problem.moved:
            raise problem

    def _say_failed(self, reason: str) -> None:
        now = self._loop.time()
        if now < self._failures.get(reason, now):
            return
        if len(self._failures) >= _MOST_FAILURES:
            self._failures.clear()
        self._failures[reason] = now + FAILURE_SECONDS
        log.error("redis.script_failed", reason=reason)

    async def _keep_time(self) -> None:
        """Let nobody wait for too long, neither for a connection nor for an answer."""
        while True:
            await asyncio.sleep(self.patience_seconds / 20)
            too_old = self._loop.time() - self.patience_seconds
            unanswered = self._questions.give_up(too_old, self.patience_seconds)
            if unanswered and not self._stuck.is_set():
                log.warning("redis.no_answer", questions=unanswered)
                self._stuck.set()
