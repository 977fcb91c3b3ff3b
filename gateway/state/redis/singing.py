"""A replica says something to itself through Redis again and again, and draws conclusions from what becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import structlog

from gateway.domain.condition import Condition
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, GatewayError
from gateway.domain.positions import Position
from gateway.state.redis.attempts import Attempts
from gateway.state.redis.canaries import Canaries
from gateway.state.redis.channels import Channels
from gateway.state.redis.claims import RedisClaims
from gateway.state.redis.commands import Commands
from gateway.state.redis.errors import Unsent, refusal_of
from gateway.state.redis.hearing import Hearing
from gateway.state.redis.keys import Keys
from gateway.state.redis.listening import CANARY_NUMBER, Listening
from gateway.state.redis.meter import Meter
from gateway.state.redis.records import Codec
from gateway.state.redis.refusing import Refusals

log = structlog.get_logger(__name__)

COMMANDS: Final = "commands"
CHANNELS: Final = "channels"
"""What the connections are called."""
_CANARY_SECONDS: Final = 2.0


class Singing:
    """Sends canaries and knows from them what this replica can do."""

    def __init__(
        self,
        *,
        commands: Commands,
        keys: Keys,
        codec: Codec,
        replica: str,
        token: str,
        deaf_seconds: float,
        patience_seconds: float,
        condition_changed: Callable[[Condition], None],
        meter: Meter,
    ) -> None:
        """``token`` makes the canaries those of this process. Not complete before ``listen_to``."""
        self._commands = commands
        self._channel = keys.canary(replica)
        self._codec = codec
        self._token = token
        self._deaf_seconds = deaf_seconds
        self._patience_seconds = patience_seconds
        self._condition_changed = condition_changed
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._refusals = Refusals()
        self._hearing = Hearing(deaf_seconds=deaf_seconds, now=self._loop.time(), changed=self._tell)
        self._canaries = Canaries(time.monotonic())
        self._said_not_heard = False
        self.judge_channels = partial(self._refusals.judge, CHANNELS)
        """Told what became of an attempt to listen."""

    def listen_to(self, *, channels: Channels, listening: Listening, claims: RedisClaims) -> None:
        """Where the canaries come back, and who learns from them."""
        self._channels, self._listening, self._claims = channels, listening, claims

    @property
    def condition(self) -> Condition:
        """What this replica can do at the moment."""
        return self._hearing.condition

    @property
    def refusal(self) -> str:
        """What Redis refuses although it answers, as a sentence; nothing where it refuses nothing."""
        return self._refusals.reason

    @property
    def refusals(self) -> Mapping[str, str]:
        """The connections on which Redis refuses something now, and its word for that."""
        return self._refusals.now

    @property
    def age_seconds(self) -> float:
        """Since this replica last heard itself."""
        return self._canaries.age(time.monotonic())

    @property
    def lag_seconds(self) -> float:
        """How far behind this replica hears what is published."""
        return self._canaries.lag(time.monotonic())

    async def begin(self, ready: Callable[[], Awaitable[object]]) -> None:
        """Send the first one as soon as Redis takes it, and what ``ready`` does before each attempt."""
        attempts = Attempts()
        while True:
            try:
                await ready()
                generation, _, newest, *_ = await self._send()
            except (BrokerUnavailable, BrokerTimeout) as error:
                self._judge(error)
                if attempts.failed(error.message):
                    log.warning("redis.not_ready", reason=error.message)
                await asyncio.sleep(self._patience_seconds / 4)
            else:
                self._judge(None)
                self._listening.seen.begin(generation.decode(), Position(newest.decode()))
                return

    async def run(self) -> None:
        """Send one every other second, until cancelled."""
        await self._listening.started.wait()
        while True:
            await asyncio.sleep(min(_CANARY_SECONDS, self._deaf_seconds / 5))
            await self._sing_once()
            if self._hearing.should_reconnect(self._loop.time()):
                if not self._said_not_heard:  # once, not for each attempt
                    log.warning("redis.not_heard")
                self._said_not_heard = True
                self._channels.reconnect()

    def heard(self, number: str) -> None:
        """One came back."""
        self._hearing.heard(self._loop.time())
        self._said_not_heard = False
        # Whoever knows the token may have put it there.
        seconds = self._canaries.hear(int(number), time.monotonic()) if number.isdecimal() else None
        if seconds is not None:
            self._meter.canary_heard(seconds)

    async def _send(self, number: int = 0) -> tuple[bytes, int, bytes, int, int]:
        record = self._codec.canary(f"{self._token}{CANARY_NUMBER}{number}")
        generation, began, newest, now, mute = await self._commands.call("canary", self._channel, record)
        return generation, began, newest, now, mute

    async def _sing_once(self) -> None:
        number = self._canaries.send(time.monotonic())
        try:
            _, began, _, _, mute = await self._send(number)
        except (BrokerUnavailable, BrokerTimeout) as error:
            self._judge(error)
            self._hearing.asked(self._loop.time(), answered=False)
            return
        self._claims.begin(float(began))
        if mute:
            self._listening.doubt()
        self._hearing.asked(self._loop.time(), answered=True)
        await self._try_to_write(mute=bool(mute))

    async def _try_to_write(self, *, mute: bool) -> None:
        """A canary goes through at the memory limit; what is pushed does not."""
        try:
            await self._commands.call("try_write")
        except (BrokerUnavailable, BrokerTimeout) as error:
            self._judge(error)
            self._hearing.wrote(self._loop.time(), taken=False)
        else:
            self._judge(Unsent("the Redis user may not publish", refusal="NOPERM") if mute else None)
            self._hearing.wrote(self._loop.time(), taken=True)

    def _judge(self, problem: GatewayError | None) -> None:
        """Where there is no connection, what Redis said as it was to be made tells more than that nothing was asked."""
        if problem is not None and not refusal_of(problem):
            problem = self._commands.trouble or problem
        self._refusals.judge(COMMANDS, problem)

    def _tell(self, condition: Condition) -> None:
        write = log.info if condition is Condition.HEARING else log.warning
        write("redis.condition", condition=condition.value)
        self._condition_changed(condition)
