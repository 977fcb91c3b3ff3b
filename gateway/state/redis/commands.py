"""The connection on which scripts are called.

What is asked in one turn of the event loop goes out in one write, and more may go out before the answers are back: the
connection is shared by everybody who waits. Redis answers in order, so the oldest question belongs to the next answer.
Nobody waits longer than ``patience_seconds``: who was not sent by then is Unsent, who was not answered Unanswered; a
connection whose oldest question is that old is given up. Who asked is asked again here, as long as there is time.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import structlog
from redis import exceptions
from redis.asyncio import Connection

from gateway.domain.errors import BrokerUnavailable, GatewayError, StateUnusable
from gateway.state.redis.errors import REPLIES, Unanswered, Unsent, of_reply
from gateway.state.redis.racing import until_one_ends
from gateway.state.redis.scripting import Script
from gateway.state.redis.server import Identity, Server, ask, pack

log = structlog.get_logger(__name__)

Argument = str | bytes | int
AGAIN_SECONDS: Final = 0.05
MAX_BACKOFF_SECONDS: Final = 1.0
CLOCK_SECONDS: Final = 0.25
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024


class _Question:
    """Something asked, until it is answered. ``script`` is there to be sent whole if Redis does not know it."""

    __slots__ = ("answer", "asked_at", "packed", "repack")

    def __init__(
        self, packed: bytes, repack: Callable[[], bytes] | None, answer: asyncio.Future[Any], asked_at: float
    ) -> None:
        self.packed = packed
        self.repack = repack
        self.answer = answer
        self.asked_at = asked_at


class Commands:
    """Calls scripts, from ``run`` being started until it ends."""

    def __init__(
        self,
        server: Server,
        scripts: Mapping[str, Script],
        *,
        patience_seconds: float,
        connected: Callable[[Identity], None],
    ) -> None:
        """``connected`` is told whom each new connection reached."""
        self.scripts = scripts
        self.patience_seconds = patience_seconds
        self._server = server
        self._connected = connected
        self._unsent: deque[_Question] = deque()
        self._sent: deque[_Question] = deque()
        self._waiting_bytes = 0
        self._asked = asyncio.Event()
        self._stuck = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ahead_ms = 0.0
        self._up = False
        self._down_since = self._loop.time()
        self.reached = asyncio.Event()
        """Set once there was a connection, and so the clock of Redis is known."""

    @property
    def waiting(self) -> int:
        """How many questions have no answer yet."""
        return len(self._unsent) + len(self._sent)

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
        now = self._loop.time()
        if now - asked_at <= CLOCK_SECONDS or not self.reached.is_set():
            self._ahead_ms = redis_ms - (asked_at + now) / 2 * 1000

    def shift_clock(self, seconds: float) -> None:
        """The scripts read another clock from now on. For tests."""
        self._ahead_ms += seconds * 1000

    # asking

    def call(self, name: str, *arguments: Argument, repeat: bool = True) -> Coroutine[Any, Any, Any]:
        """What a script answers; it does not begin later than ``patience_seconds`` from now.

        With ``repeat`` it must be harmless to run it again: it is, when an answer was lost. Raises Unsent, Unanswered.
        """
        script = self.scripts[name]
        deadline = b"%d" % self.redis_ms(self.patience_seconds)

        return self._ask(
            pack(b"EVALSHA", script.digest, b"0", deadline, *arguments),
            lambda: pack(b"EVAL", script.text, b"0", deadline, *arguments),
            repeat=repeat,
        )

    def read(self, *command: Argument) -> Coroutine[Any, Any, Any]:
        """What a command answers that changes nothing. Raises Unsent, Unanswered."""
        return self._ask(pack(*command), None, repeat=True)

    async def _ask(self, packed: bytes, repack: Callable[[], bytes] | None, *, repeat: bool) -> Any:
        give_up_at = self._loop.time() + self.patience_seconds
        unanswered: Unanswered | None = None
        while True:
            try:
                return await self._enqueue(packed, repack)
            except Unsent as error:
                problem: GatewayError = error
                if not error.passing:
                    # What was not answered before may have happened all the same.
                    raise unanswered or error from None
            except Unanswered as error:
                problem = unanswered = error
                if not repeat:
                    raise
            if self._loop.time() + AGAIN_SECONDS >= give_up_at:
                raise unanswered or problem
            await asyncio.sleep(AGAIN_SECONDS)

    def _enqueue(self, packed: bytes, repack: Callable[[], bytes] | None) -> asyncio.Future[Any]:
        now = self._loop.time()
        answer: asyncio.Future[Any] = self._loop.create_future()
        if not self._up and now - self._down_since > self.patience_seconds:
            answer.set_exception(Unsent("Redis is away", passing=False))
        elif self._waiting_bytes + len(packed) > MAX_WAITING_BYTES:
            answer.set_exception(Unsent("too much is waiting for Redis", passing=False))
        else:
            self._waiting_bytes += len(packed)
            self._unsent.append(_Question(packed, repack, answer, now))
            self._asked.set()
        return answer

    # life

    async def run(self) -> None:
        """Keep a connection until cancelled. Raises StateUnusable if the first one cannot be used."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_connected(), name="redis connection")
                tasks.create_task(self._keep_time(), name="redis patience")
        finally:
            self._fail(self._sent, Unanswered, "the gateway is stopping")
            self._fail(self._unsent, Unsent, "the gateway is stopping")

    async def _keep_connected(self) -> None:
        backoff = AGAIN_SECONDS
        known = ""
        while True:
            try:
                connection, identity = await self._server.open()
            except GatewayError as error:
                if isinstance(error, StateUnusable) and not self.reached.is_set():
                    raise
                if error.message != known:  # once for each reason, not for each attempt
                    log.warning("redis.unavailable", reason=error.message)
                    known = error.message
            else:
                known, backoff = "", AGAIN_SECONDS
                await self._use(connection, identity)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)

    async def _use(self, connection: Connection, identity: Identity) -> None:
        """Work with a connection until it is lost."""
        self._stuck.clear()
        try:
            await self._read_clock(connection)
            self._up = True
            self.reached.set()
            log.info("redis.connected", run_id=identity.run_id)
            self._connected(identity)
            await until_one_ends(
                writer=self._write(connection),
                reader=self._read(connection),
                watch=self._give_up_when_stuck(),
            )
        except (exceptions.RedisError, OSError, BrokerUnavailable) as lost:
            log.warning("redis.connection_lost", reason=str(lost))
        finally:
            if self._up:
                self._up, self._down_since = False, self._loop.time()
            self._fail(self._sent, Unanswered, "the connection to Redis was lost before it answered")
            await connection.disconnect(nowait=True)

    async def _give_up_when_stuck(self) -> None:
        # Closing the connection from outside would wait for what could not be written.
        await self._stuck.wait()
        raise Unsent("no answer")

    async def _read_clock(self, connection: Connection) -> None:
        asked_at = self._loop.time()
        async with asyncio.timeout(self.patience_seconds):
            seconds, microseconds = await ask(connection, "TIME")
        self.set_clock(int(seconds) * 1000 + int(microseconds) / 1000, asked_at)

    async def _write(self, connection: Connection) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            pieces = []
            while self._unsent:
                question = self._unsent.popleft()
                if question.answer.done():  # nobody waits any more
                    self._waiting_bytes -= len(question.packed)
                    continue
                pieces.append(question.packed)
                self._sent.append(question)
            if pieces:
                await connection.send_packed_command(b"".join(pieces), check_health=False)

    async def _read(self, connection: Connection) -> None:
        while True:
            try:
                answer = await connection.read_response(
                    disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                )
            except REPLIES as error:
                self._refused(self._oldest(), error)
                continue
            question = self._oldest()
            self._waiting_bytes -= len(question.packed)
            if not question.answer.done():
                question.answer.set_result(answer)

    def _oldest(self) -> _Question:
        """Whom the answer that just came is for."""
        if not self._sent:
            raise exceptions.InvalidResponse("an answer to nothing that was asked")
        return self._sent.popleft()

    def _refused(self, question: _Question, error: Exception) -> None:
        self._waiting_bytes -= len(question.packed)
        if isinstance(error, exceptions.NoScriptError) and question.repack is not None:
            # A Redis that was started anew, or another primary, has not seen the script yet.
            question.packed, question.repack = question.repack(), None
            self._waiting_bytes += len(question.packed)
            self._unsent.append(question)
            self._asked.set()
            return
        problem = of_reply(error)
        if isinstance(problem, Unanswered):
            log.error("redis.script_failed", reason=str(error))
        if not question.answer.done():
            question.answer.set_exception(problem)
        if isinstance(problem, Unsent) and problem.moved:
            raise problem

    async def _keep_time(self) -> None:
        """Let nobody wait for too long, neither for a connection nor for an answer."""
        while True:
            await asyncio.sleep(self.patience_seconds / 20)
            too_old = self._loop.time() - self.patience_seconds
            while self._unsent and self._unsent[0].asked_at <= too_old:
                self._fail_oldest(self._unsent, Unsent("Redis could not be asked in time", passing=False))
            if self._sent and self._sent[0].asked_at <= too_old:
                log.warning("redis.no_answer", questions=len(self._sent))
                self._stuck.set()
                self._fail(self._sent, Unanswered, f"Redis did not answer within {self.patience_seconds} s")

    def _fail(self, questions: deque[_Question], problem: type[Unsent | Unanswered], why: str) -> None:
        while questions:
            self._fail_oldest(questions, problem(why))

    def _fail_oldest(self, questions: deque[_Question], problem: GatewayError) -> None:
        question = questions.popleft()
        self._waiting_bytes -= len(question.packed)
        if not question.answer.done():
            question.answer.set_exception(problem)
