"""What is accepted from backends and handed to clients; satisfies the meters of publishing, of the hub and of catching
up.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry

from gateway.domain.errors import DATA_LOST, HISTORY_TRIMMED
from gateway.domain.messages import Address, Message
from gateway.metrics.primitives import MetricFactory, singles

_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MESSAGE, VOLATILE, DISCONNECT, RECOVERED = "message", "volatile", "disconnect", "recovered"
SAMPLE_EVERY: Final = 8
MIN_INTERVAL_SECONDS: Final = 0.01
"""Pushes that are further apart are all timed, of others one in ONE_IN."""
SKIPPED: Final = ("replaying", "bytes_waiting", "no_poll", "upgrading")
"""Why a volatile message is not sent to a connection."""


class MessageMetrics:
    """Messages on their way through this replica."""

    def __init__(self, registry: CollectorRegistry) -> None:
        factory = MetricFactory(registry)
        self._accepted = dict.fromkeys((MESSAGE, VOLATILE, DISCONNECT), 0)
        accepted = factory.callback_counter(
            "messages_published", "What the broker took from backends of this replica, by kind.", ("kind",)
        )
        accepted.read = lambda: {(kind,): number for kind, number in self._accepted.items()}
        self._replays = factory.counter(
            "idempotent_replays", "Requests that were answered with what an earlier one had done."
        )
        self._delivered = dict.fromkeys((MESSAGE, VOLATILE, RECOVERED), 0)
        delivered = factory.callback_counter(
            "deliveries", "Messages handed to connections of this replica, by kind.", ("kind",)
        )
        delivered.read = lambda: {(kind,): number for kind, number in self._delivered.items()}
        self._skipped = factory.counter(
            "volatile_skipped",
            "Volatile messages that were not sent to a connection, by reason.",
            ("reason",),
            singles(SKIPPED),
        )
        self._seconds = factory.histogram(
            "delivery_duration_seconds",
            "From a push that was checked to its last connection at this replica, of pushes through this replica.",
            bounds=_BOUNDS,
        )
        self._gaps = factory.counter(
            "history_gaps",
            "Interruptions after which messages were missing for good, by code.",
            ("code",),
            singles((HISTORY_TRIMMED, DATA_LOST)),
        )
        self._delivery_timer = DeliveryTimer()

    def watch(self, has: Callable[[Address], bool]) -> None:
        """``has`` tells whether anybody here is at an address."""
        self._delivery_timer = DeliveryTimer(has)

    def publish_started(self, message: Message) -> None:
        """It is about to be handed to the broker."""
        self._delivery_timer.start(message)

    def accepted(self, kind: str) -> None:
        self._accepted[kind] += 1

    def replayed(self, entry_id: str) -> None:
        """An earlier request had done it, so that nothing comes of this one."""
        self._delivery_timer.stop(entry_id)
        self._replays.count()

    def delivered(self, message: Message, connections: int) -> None:
        """It was handed to that many connections."""
        self._delivered[VOLATILE if message.volatile else MESSAGE] += connections
        if message.id in self._delivery_timer.started:
            seconds = self._delivery_timer.stop(message.id)
            if seconds is not None and connections:
                self._seconds.observe(seconds)

    def messages_replayed(self, messages: int) -> None:
        """A connection was given so many from the history."""
        self._delivered[RECOVERED] += messages

    def volatile_skipped(self, reason: str) -> None:
        self._skipped.count((reason,))

    def history_gap(self, code: str) -> None:
        self._gaps.count((code,))


class DeliveryTimer:
    """How long pushes of this replica take until they are delivered here: both ends by one clock that never goes back.

    All are timed while few come; of many, one in ONE_IN, since timing one costs as much as all else that is counted of
    it. Where nobody here is at their address they will not come by, and are not waited for. ``most`` are waited for at
    a time; beyond that those are left out that come now, so that what takes long is not what is missing. Those that
    never came are forgotten after ``patience_seconds``.
    """

    def __init__(
        self,
        has: Callable[[Address], bool] = lambda _: False,
        *,
        now: Callable[[], float] = time.monotonic,
        max_pending: int = 4096,
        timeout_seconds: float = 60.0,
    ) -> None:
        self._has = has
        self._now = now
        self._max_pending = max_pending
        self._timeout_seconds = timeout_seconds
        self.started: OrderedDict[str, float] = OrderedDict()
        """Those that are waited for, by their id."""
        self._left_out = 0
        self._last = float("-inf")
        """When one was looked at last."""

    def start(self, message: Message) -> None:
        """It sets out."""
        now = self._now()
        self._left_out += 1
        if self._left_out < SAMPLE_EVERY and now - self._last < MIN_INTERVAL_SECONDS:
            return
        self._left_out, self._last = 0, now
        if any(map(self._has, message.addresses)) and self._has_room(now):
            self.started[message.id] = now

    def stop(self, message_id: str) -> float | None:
        """It is there, or never will be: the seconds since it set out, if that was noted."""
        started = self.started.pop(message_id, None)
        return None if started is None else self._now() - started

    def _has_room(self, now: float) -> bool:
        started = self.started
        if len(started) < self._max_pending:
            return True
        oldest = next(iter(started))
        if now - started[oldest] < self._timeout_seconds:
            return False
        del started[oldest]
        return True
