"""Pub/sub probes: does this replica receive what Redis publishes?

Each replica publishes a numbered probe to a channel of its own, receives it in the same stream as every entry, and
measures how long that took. A replica that can publish and receives no probe has a stalled subscription; one that
cannot publish has no state.

    ProbeTracker         times of the probes in flight: age and lag            pure; times are monotonic seconds
    StatusTracker        the status that follows from probes and answers       pure; times are monotonic seconds
    SubscriptionMonitor  records events in both with the clock of the process
    ProbePublisher       sends the probes and acts on what they show
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
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
from gateway.state.redis.metrics import COMMANDS, RedisMetrics
from gateway.state.redis.subscriber import Subscriber

_MAX_IN_FLIGHT: Final = 64
_PROBE_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


class ProbeTracker:
    """The probes in flight. Each has its own number, so that a lost probe is not taken for the next one."""

    def __init__(self, now: float) -> None:
        self._last_number = 0
        self._in_flight: OrderedDict[int, float] = OrderedDict()
        self._received_at = now
        self._round_trip = 0.0
        self._missing_since: float | None = None
        """When the oldest probe was sent of those that neither arrived nor were overtaken by a later one."""

    def send(self, now: float) -> int:
        """Record that a probe is sent, and return its number."""
        self._last_number += 1
        self._in_flight[self._last_number] = now
        if self._missing_since is None:
            self._missing_since = now
        if len(self._in_flight) > _MAX_IN_FLIGHT:
            self._in_flight.popitem(last=False)
        return self._last_number

    def receive(self, number: int, now: float) -> float | None:
        """Record that a probe arrived, and return its round trip, if it is known.

        Redis keeps the order, so earlier probes will not arrive any more.
        """
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
        """Return the time since the last probe arrived."""
        return now - self._received_at

    def lag(self, now: float) -> float:
        """Return the last round trip, or the time for which a probe has been missing, whichever is longer.

        A probe that Redis did not accept counts as missing: without probes a replica does not know what it misses.
        """
        missing_since = now if self._missing_since is None else self._missing_since
        return max(self._round_trip, now - missing_since)


class StatusTracker:
    """Derive the status of the state from probes, answers to them, and trial writes."""

    def __init__(
        self, *, stall_seconds: float, now: float, on_changed: Callable[[StateStatus], None]
    ) -> None:
        self.status = StateStatus.HEALTHY
        self._stall_seconds = stall_seconds
        self._on_changed = on_changed
        self._answered = True
        self._accepts_writes = True
        self._sent_at = now
        self._is_probe_expected = False
        self._missing_since = now
        self._tried_at = now

    def probe_received(self, now: float) -> None:
        """Record that a probe arrived."""
        self._is_probe_expected = False
        self._missing_since = self._tried_at = now
        if self._answered and self._accepts_writes:
            self._set_status(StateStatus.HEALTHY)

    def command_finished(self, now: float, *, answered: bool) -> None:
        """Record whether Redis accepted a probe."""
        if not self._answered or not (answered or self._is_probe_expected):
            # While no probe could be sent none could arrive: that time does not count, the time before does.
            since = now - self._sent_at
            self._missing_since = min(now, self._missing_since + since)
            self._tried_at = min(now, self._tried_at + since)
        was_answered, self._answered, self._sent_at = self._answered, answered, now
        self._is_probe_expected = self._is_probe_expected or answered
        if not answered:
            # One command without an answer among others does not end a stall.
            if self.status is not StateStatus.SUBSCRIPTION_STALLED or not was_answered:
                self._set_status(StateStatus.UNAVAILABLE)
        else:
            self._evaluate(now)

    def write_finished(self, now: float, *, accepted: bool) -> None:
        """Record whether Redis accepts writes. A probe does not show that: it also passes at the memory limit."""
        self._accepts_writes = accepted
        if self._answered:
            self._evaluate(now)

    def should_reconnect(self, now: float) -> bool:
        """Return whether to replace the subscribing connection: halfway to a stall, and again after each such time."""
        if not self._answered or now - self._tried_at < self._stall_seconds / 2:
            return False
        self._tried_at = now
        return True

    def _evaluate(self, now: float) -> None:
        if not self._accepts_writes:
            # Where nothing can be published a subscription cannot miss anything.
            self._set_status(StateStatus.UNAVAILABLE)
        elif now - self._missing_since >= self._stall_seconds:
            self._set_status(StateStatus.SUBSCRIPTION_STALLED)
        else:
            self._set_status(StateStatus.HEALTHY)

    def _set_status(self, status: StateStatus) -> None:
        if status is not self.status:
            self.status = status
            self._on_changed(status)


class SubscriptionMonitor:
    """Record probes and answers as they happen; hold the status, the age and the lag that follow from them."""

    def __init__(
        self, *, stall_seconds: float, on_status_changed: Callable[[StateStatus], None], metrics: RedisMetrics
    ) -> None:
        self._on_status_changed = on_status_changed
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._status = StatusTracker(
            stall_seconds=stall_seconds, now=self._loop.time(), on_changed=self._status_changed
        )
        self._probes = ProbeTracker(time.monotonic())
        self._is_missing_logged = False

    @property
    def status(self) -> StateStatus:
        """What this replica can do now, as far as the state goes."""
        return self._status.status

    @property
    def age_seconds(self) -> float:
        """Time since this replica last received its own probe."""
        return self._probes.age(time.monotonic())

    @property
    def lag_seconds(self) -> float:
        """How late this replica receives what is published."""
        return self._probes.lag(time.monotonic())

    def probe_sent(self) -> int:
        """Record that a probe is sent, and return its number."""
        return self._probes.send(time.monotonic())

    def probe_received(self, number: str) -> None:
        """Record that a probe of this process arrived."""
        self._status.probe_received(self._loop.time())
        self._is_missing_logged = False
        # Any client of Redis that knows the token may have published it, so the number may be anything.
        seconds = self._probes.receive(int(number), time.monotonic()) if number.isdecimal() else None
        if seconds is not None:
            self._metrics.probe_seconds.observe(seconds)

    def command_finished(self, *, answered: bool) -> None:
        """Record whether Redis accepted a probe."""
        self._status.command_finished(self._loop.time(), answered=answered)

    def write_finished(self, *, accepted: bool) -> None:
        """Record whether Redis accepted a trial write."""
        self._status.write_finished(self._loop.time(), accepted=accepted)

    def should_reconnect(self) -> bool:
        """Return whether to replace the subscribing connection, because probes are missing on it."""
        if not self._status.should_reconnect(self._loop.time()):
            return False
        if not self._is_missing_logged:  # once, not for each attempt
            log.warning("redis.probe_missing")
        self._is_missing_logged = True
        return True

    def _status_changed(self, status: StateStatus) -> None:
        write = log.info if status is StateStatus.HEALTHY else log.warning
        write("redis.status", status=status.value)
        self._on_status_changed(status)


class ProbePublisher:
    """Publish the probes of this process, and act on what becomes of them."""

    def __init__(
        self,
        *,
        commands: Commands,
        subscriber: Subscriber,
        log_reader: LogReader,
        dedup: RedisDedupStore,
        monitor: SubscriptionMonitor,
        rejections: Rejections,
        codec: Codec,
        channel: bytes,
        token: str,
        stall_seconds: float,
    ) -> None:
        """``channel`` is that of this replica; ``token`` marks the probes of this process on it."""
        self._commands = commands
        self._subscriber = subscriber
        self._log_reader = log_reader
        self._dedup = dedup
        self._monitor = monitor
        self._rejections = rejections
        self._codec = codec
        self._channel = channel
        self._token = token
        self._interval_seconds = min(_PROBE_SECONDS, stall_seconds / 5)

    async def start(self, prepare: Callable[[], Awaitable[object]]) -> None:
        """Repeat ``prepare`` and a first probe until both succeed; the log is read from where it ends then."""
        backoff = Backoff()
        while True:
            try:
                await prepare()
                generation, _, newest, *_ = await self._send(0)
            except (BrokerUnavailable, BrokerTimeout) as error:
                self._record(error)
                if backoff.record_failure(error.message):
                    log.warning("redis.not_ready", reason=error.message)
                await asyncio.sleep(self._commands.timeout_seconds / 4)
            else:
                self._record(None)
                self._log_reader.cursor.begin(generation.decode(), Position(newest.decode()))
                return

    async def run(self) -> None:
        """Probe at an interval until cancelled, once the log reader delivers."""
        await self._log_reader.started.wait()
        while True:
            await asyncio.sleep(self._interval_seconds)
            await self._probe()
            if self._monitor.should_reconnect():
                self._subscriber.reconnect()

    async def _send(self, number: int) -> tuple[bytes, int, bytes, int, int]:
        record = self._codec.probe(f"{self._token}{PROBE_NUMBER}{number}")
        generation, began, newest, now, is_denied = await self._commands.call(
            "publish_probe", self._channel, record
        )
        return generation, began, newest, now, is_denied

    async def _probe(self) -> None:
        number = self._monitor.probe_sent()
        try:
            sent_at = asyncio.get_running_loop().time()
            _, began, _, now, is_denied = await self._send(number)
            self._commands.set_clock(float(now), sent_at)
            self._dedup.begin(float(began))
            await self._dedup.report()
        except (BrokerUnavailable, BrokerTimeout) as error:
            self._record(error)
            self._monitor.command_finished(answered=False)
            return
        if is_denied:
            self._log_reader.mark_stale()
        self._monitor.command_finished(answered=True)
        await self._probe_write(is_denied=bool(is_denied))

    async def _probe_write(self, *, is_denied: bool) -> None:
        """Run a script that is declared as a write: does Redis accept writes?

        At its memory limit Redis rejects pushes, but still executes ``publish_probe``, which is declared ``allow-oom``.
        """
        try:
            await self._commands.call("write_probe")
        except (BrokerUnavailable, BrokerTimeout) as error:
            self._record(error)
            self._monitor.write_finished(accepted=False)
        else:
            problem = NotExecuted("the Redis user may not publish", rejection="NOPERM") if is_denied else None
            self._record(problem)
            self._monitor.write_finished(accepted=True)

    def _record(self, problem: GatewayError | None) -> None:
        if problem is not None and not rejection_of(problem):
            # Without a connection the reason why there is none is more useful than "not executed".
            problem = self._commands.last_error or problem
        self._rejections.record(COMMANDS, problem)
