"""A replica says something to itself through Redis again and again, and draws conclusions from what becomes of it.

How long what this replica says to itself is on its way, and how far behind it hears. Pure; times are monotonic
seconds.

Whether this replica hears what is published: it says something to itself, and listens for it. Pure, but for the
canary itself, which ``state.py`` sends.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import structlog

from gateway.domain.condition import Condition
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, GatewayError
from gateway.domain.positions import Position
from gateway.state.redis.channels import Channels
from gateway.state.redis.claims import RedisClaims
from gateway.state.redis.commands import Commands
from gateway.state.redis.errors import Refusals, Unsent, refusal_of
from gateway.state.redis.keys import Keys
from gateway.state.redis.listening import CANARY_NUMBER, Listening
from gateway.state.redis.meter import Meter
from gateway.state.redis.records import Codec
from gateway.state.redis.server import Attempts

_MOST: Final = 64


class Canaries:
    """Those that were sent, each with a number of its own: one that got lost must not be taken for the next."""

    def __init__(self, now: float) -> None:
        self._last = 0
        self._on_their_way: OrderedDict[int, float] = OrderedDict()
        self._heard_at = now
        self._round_trip = 0.0
        self._missing_since: float | None = None
        """When the first was sent of those that came neither themselves nor by a later one."""

    def send(self, now: float) -> int:
        """Another one sets out; its number."""
        self._last += 1
        self._on_their_way[self._last] = now
        if self._missing_since is None:
            self._missing_since = now
        if len(self._on_their_way) > _MOST:
            self._on_their_way.popitem(last=False)
        return self._last

    def hear(self, number: int, now: float) -> float | None:
        """It came: how long it was on its way, if that is known. Those before it will not come any more."""
        self._heard_at = now
        sent_at = self._on_their_way.get(number)
        for earlier in [each for each in self._on_their_way if each <= number]:
            del self._on_their_way[earlier]
        self._missing_since = next(iter(self._on_their_way.values()), None)
        if sent_at is None:
            return None
        self._round_trip = now - sent_at
        return self._round_trip

    def age(self, now: float) -> float:
        """Since the last one came."""
        return now - self._heard_at

    def lag(self, now: float) -> float:
        """How long the last one was on its way, or since when none has come of those that set out, whichever is longer.

        One that Redis did not take counts too: whoever can say nothing to itself does not know what it misses."""
        missing_since = now if self._missing_since is None else self._missing_since
        return max(self._round_trip, now - missing_since)


class Hearing:
    """Decides on the condition; times are monotonic seconds."""

    def __init__(self, *, deaf_seconds: float, now: float, changed: Callable[[Condition], None]) -> None:
        self.condition = Condition.HEARING
        self._deaf_seconds = deaf_seconds
        self._changed = changed
        self._answered = True
        self._takes = True
        self._asked_at = now
        self._expecting = False
        self._unheard_since = now
        self._tried_at = now

    def heard(self, now: float) -> None:
        """A canary came."""
        self._expecting = False
        self._unheard_since = self._tried_at = now
        if self._answered and self._takes:
            self._become(Condition.HEARING)

    def asked(self, now: float, *, answered: bool) -> None:
        """Redis took a canary, or did not."""
        if not self._answered or not (answered or self._expecting):
            # While nothing could be said nothing could be heard: that time does not count, and the time before does.
            since = now - self._asked_at
            self._unheard_since = min(now, self._unheard_since + since)
            self._tried_at = min(now, self._tried_at + since)
        was_answered, self._answered, self._asked_at = self._answered, answered, now
        self._expecting = self._expecting or answered
        if not answered:
            # Who is deaf is so still when one question among others is not answered.
            if self.condition is not Condition.DEAF or not was_answered:
                self._become(Condition.AWAY)
        else:
            self._judge(now)

    def wrote(self, now: float, *, taken: bool) -> None:
        """Whether Redis takes what is written, which a canary is not: it goes through at the memory limit."""
        self._takes = taken
        if self._answered:
            self._judge(now)

    def should_reconnect(self, now: float) -> bool:
        """Whether it is time for another connection to listen on: halfway to being deaf, and then again and again."""
        if not self._answered or now - self._tried_at < self._deaf_seconds / 2:
            return False
        self._tried_at = now
        return True

    def _judge(self, now: float) -> None:
        if not self._takes:
            self._become(Condition.AWAY)  # where nothing can be published there is nothing to be deaf to
        elif now - self._unheard_since >= self._deaf_seconds:
            self._become(Condition.DEAF)
        else:
            self._become(Condition.HEARING)

    def _become(self, condition: Condition) -> None:
        if condition is not self.condition:
            self.condition = condition
            self._changed(condition)


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
