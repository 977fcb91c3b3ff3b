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

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, GatewayError
from gateway.domain.positions import Position
from gateway.domain.status import StateStatus
from gateway.state.redis.codec import Codec
from gateway.state.redis.commands import Commands
from gateway.state.redis.connection import Backoff
from gateway.state.redis.errors import NotExecuted, Rejections, rejection_of
from gateway.state.redis.guards import RedisDedupStore
from gateway.state.redis.log_reader import PROBE_NUMBER, LogReader
from gateway.state.redis.meter import Meter
from gateway.state.redis.redis_keys import RedisKeys
from gateway.state.redis.subscriber import Subscriber

_MOST: Final = 64


class ProbeTracker:
    """Those that were sent, each with a number of its own: one that got lost must not be taken for the next."""

    def __init__(self, now: float) -> None:
        self._last = 0
        self._in_flight: OrderedDict[int, float] = OrderedDict()
        self._received_at = now
        self._round_trip = 0.0
        self._missing_since: float | None = None
        """When the first was sent of those that came neither themselves nor by a later one."""

    def send(self, now: float) -> int:
        """Another one sets out; its number."""
        self._last += 1
        self._in_flight[self._last] = now
        if self._missing_since is None:
            self._missing_since = now
        if len(self._in_flight) > _MOST:
            self._in_flight.popitem(last=False)
        return self._last

    def receive(self, number: int, now: float) -> float | None:
        """It came: how long it was on its way, if that is known. Those before it will not come any more."""
        self._received_at = now
        sent_at = self._in_flight.get(number)
        for earlier in [each for each in self._in_flight if each <= number]:
            del self._in_flight[earlier]
        self._missing_since = next(iter(self._in_flight.values()), None)
        if sent_at is None:
            return None
        self._round_trip = now - sent_at
        return self._round_trip

    def age(self, now: float) -> float:
        """Since the last one came."""
        return now - self._received_at

    def lag(self, now: float) -> float:
        """How long the last one was on its way, or since when none has come of those that set out, whichever is longer.

        One that Redis did not take counts too: whoever can say nothing to itself does not know what it misses."""
        missing_since = now if self._missing_since is None else self._missing_since
        return max(self._round_trip, now - missing_since)


class StatusTracker:
    """Decides on the condition; times are monotonic seconds."""

    def __init__(self, *, stall_seconds: float, now: float, changed: Callable[[StateStatus], None]) -> None:
        self.status = StateStatus.HEALTHY
        self._stall_seconds = stall_seconds
        self._changed = changed
        self._answered = True
        self._accepts_writes = True
        self._sent_at = now
        self._is_probe_expected = False
        self._missing_since = now
        self._tried_at = now

    def probe_received(self, now: float) -> None:
        """A canary came."""
        self._is_probe_expected = False
        self._missing_since = self._tried_at = now
        if self._answered and self._accepts_writes:
            self._set_status(StateStatus.HEALTHY)

    def command_finished(self, now: float, *, answered: bool) -> None:
        """Redis took a canary, or did not."""
        if not self._answered or not (answered or self._is_probe_expected):
            # While nothing could be said nothing could be heard: that time does not count, and the time before does.
            since = now - self._sent_at
            self._missing_since = min(now, self._missing_since + since)
            self._tried_at = min(now, self._tried_at + since)
        was_answered, self._answered, self._sent_at = self._answered, answered, now
        self._is_probe_expected = self._is_probe_expected or answered
        if not answered:
            # Who is deaf is so still when one question among others is not answered.
            if self.status is not StateStatus.SUBSCRIPTION_STALLED or not was_answered:
                self._set_status(StateStatus.UNAVAILABLE)
        else:
            self._evaluate(now)

    def write_finished(self, now: float, *, taken: bool) -> None:
        """Whether Redis takes what is written, which a canary is not: it goes through at the memory limit."""
        self._accepts_writes = taken
        if self._answered:
            self._evaluate(now)

    def should_reconnect(self, now: float) -> bool:
        """Whether it is time for another connection to listen on: halfway to being deaf, and then again and again."""
        if not self._answered or now - self._tried_at < self._stall_seconds / 2:
            return False
        self._tried_at = now
        return True

    def _evaluate(self, now: float) -> None:
        if not self._accepts_writes:
            self._set_status(
                StateStatus.UNAVAILABLE
            )  # where nothing can be published there is nothing to be deaf to
        elif now - self._missing_since >= self._stall_seconds:
            self._set_status(StateStatus.SUBSCRIPTION_STALLED)
        else:
            self._set_status(StateStatus.HEALTHY)

    def _set_status(self, status: StateStatus) -> None:
        if status is not self.status:
            self.status = status
            self._changed(status)


log = structlog.get_logger(__name__)

COMMANDS: Final = "commands"
CHANNELS: Final = "channels"
"""What the connections are called."""
_PROBE_SECONDS: Final = 2.0


class SubscriptionMonitor:
    """Sends canaries and knows from them what this replica can do."""

    def __init__(
        self,
        *,
        commands: Commands,
        keys: RedisKeys,
        codec: Codec,
        replica: str,
        token: str,
        stall_seconds: float,
        timeout_seconds: float,
        status_changed: Callable[[StateStatus], None],
        meter: Meter,
    ) -> None:
        """``token`` makes the canaries those of this process. Not complete before ``listen_to``."""
        self._commands = commands
        self._channel = keys.probe(replica)
        self._codec = codec
        self._token = token
        self._stall_seconds = stall_seconds
        self._timeout_seconds = timeout_seconds
        self._status_changed = status_changed
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._rejections = Rejections()
        self._status = StatusTracker(
            stall_seconds=stall_seconds, now=self._loop.time(), changed=self._on_status_changed
        )
        self._probes = ProbeTracker(time.monotonic())
        self._is_missing_logged = False
        self.record_subscriber = partial(self._rejections.record, CHANNELS)
        """Told what became of an attempt to listen."""

    def bind(self, *, subscriber: Subscriber, log_reader: LogReader, dedup: RedisDedupStore) -> None:
        """Where the canaries come back, and who learns from them."""
        self._subscriber, self._log_reader, self._dedup = subscriber, log_reader, dedup

    @property
    def status(self) -> StateStatus:
        """What this replica can do at the moment."""
        return self._status.status

    @property
    def rejection(self) -> str:
        """What Redis refuses although it answers, as a sentence; nothing where it refuses nothing."""
        return self._rejections.reason

    @property
    def rejections(self) -> Mapping[str, str]:
        """The connections on which Redis refuses something now, and its word for that."""
        return self._rejections.now

    @property
    def age_seconds(self) -> float:
        """Since this replica last heard itself."""
        return self._probes.age(time.monotonic())

    @property
    def lag_seconds(self) -> float:
        """How far behind this replica hears what is published."""
        return self._probes.lag(time.monotonic())

    async def start(self, ready: Callable[[], Awaitable[object]]) -> None:
        """Send the first one as soon as Redis takes it, and what ``ready`` does before each attempt."""
        attempts = Backoff()
        while True:
            try:
                await ready()
                generation, _, newest, *_ = await self._send_probe()
            except (BrokerUnavailable, BrokerTimeout) as error:
                self._record(error)
                if attempts.record_failure(error.message):
                    log.warning("redis.not_ready", reason=error.message)
                await asyncio.sleep(self._timeout_seconds / 4)
            else:
                self._record(None)
                self._log_reader.cursor.begin(generation.decode(), Position(newest.decode()))
                return

    async def run(self) -> None:
        """Send one every other second, until cancelled."""
        await self._log_reader.started.wait()
        while True:
            await asyncio.sleep(min(_PROBE_SECONDS, self._stall_seconds / 5))
            await self._probe()
            if self._status.should_reconnect(self._loop.time()):
                if not self._is_missing_logged:  # once, not for each attempt
                    log.warning("redis.probe_missing")
                self._is_missing_logged = True
                self._subscriber.reconnect()

    def probe_received(self, number: str) -> None:
        """One came back."""
        self._status.probe_received(self._loop.time())
        self._is_missing_logged = False
        # Whoever knows the token may have put it there.
        seconds = self._probes.receive(int(number), time.monotonic()) if number.isdecimal() else None
        if seconds is not None:
            self._meter.probe_received(seconds)

    async def _send_probe(self, number: int = 0) -> tuple[bytes, int, bytes, int, int]:
        record = self._codec.probe(f"{self._token}{PROBE_NUMBER}{number}")
        generation, began, newest, now, mute = await self._commands.call(
            "publish_probe", self._channel, record
        )
        return generation, began, newest, now, mute

    async def _probe(self) -> None:
        number = self._probes.send(time.monotonic())
        try:
            _, began, _, _, mute = await self._send_probe(number)
        except (BrokerUnavailable, BrokerTimeout) as error:
            self._record(error)
            self._status.command_finished(self._loop.time(), answered=False)
            return
        self._dedup.begin(float(began))
        if mute:
            self._log_reader.mark_stale()
        self._status.command_finished(self._loop.time(), answered=True)
        await self._probe_write(mute=bool(mute))

    async def _probe_write(self, *, mute: bool) -> None:
        """A canary goes through at the memory limit; what is pushed does not."""
        try:
            await self._commands.call("write_probe")
        except (BrokerUnavailable, BrokerTimeout) as error:
            self._record(error)
            self._status.write_finished(self._loop.time(), taken=False)
        else:
            self._record(NotExecuted("the Redis user may not publish", rejection="NOPERM") if mute else None)
            self._status.write_finished(self._loop.time(), taken=True)

    def _record(self, problem: GatewayError | None) -> None:
        """Where there is no connection, what Redis said as it was to be made tells more than that nothing was asked."""
        if problem is not None and not rejection_of(problem):
            problem = self._commands.last_error or problem
        self._rejections.record(COMMANDS, problem)

    def _on_status_changed(self, status: StateStatus) -> None:
        write = log.info if status is StateStatus.HEALTHY else log.warning
        write("redis.status", status=status.value)
        self._status_changed(status)
