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
from gateway.metrics.tallies import Shelf, singles

_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MESSAGE, VOLATILE, KICK, RECOVERED = "message", "volatile", "kick", "recovered"
ONE_IN: Final = 8
APART_SECONDS: Final = 0.01
"""Pushes that are further apart are all timed, of others one in ONE_IN."""
SKIPPED: Final = ("behind", "bytes_waiting", "no_poll", "upgrading")
"""Why a volatile message is not sent to a connection."""


class MessageMetrics:
    """Messages on their way through this replica."""

    def __init__(self, registry: CollectorRegistry) -> None:
        shelf = Shelf(registry)
        self._accepted = dict.fromkeys((MESSAGE, VOLATILE, KICK), 0)
        accepted = shelf.count_reading(
            "entries_accepted", "What the broker took from backends of this replica, by kind.", ("kind",)
        )
        accepted.read = lambda: {(kind,): number for kind, number in self._accepted.items()}
        self._replays = shelf.tally(
            "idempotent_replays", "Requests that were answered with what an earlier one had done."
        )
        self._delivered = dict.fromkeys((MESSAGE, VOLATILE, RECOVERED), 0)
        delivered = shelf.count_reading(
            "deliveries", "Messages handed to connections of this replica, by kind.", ("kind",)
        )
        delivered.read = lambda: {(kind,): number for kind, number in self._delivered.items()}
        self._skipped = shelf.tally(
            "volatile_skipped",
            "Volatile messages that were not sent to a connection, by reason.",
            ("reason",),
            singles(SKIPPED),
        )
        self._seconds = shelf.spread(
            "delivery_duration_seconds",
            "From a push that was checked to its last connection at this replica, of pushes through this replica.",
            bounds=_BOUNDS,
        )
        self._gaps = shelf.tally(
            "history_gaps",
            "Interruptions after which messages were missing for good, by code.",
            ("code",),
            singles((HISTORY_TRIMMED, DATA_LOST)),
        )
        self._stopwatch = Stopwatch()

    def watch(self, has: Callable[[Address], bool]) -> None:
        """``has`` tells whether anybody here is at an address."""
        self._stopwatch = Stopwatch(has)

    def publishing(self, message: Message) -> None:
        """It is about to be handed to the broker."""
        self._stopwatch.start(message)

    def accepted(self, kind: str) -> None:
        self._accepted[kind] += 1

    def replayed(self, entry_id: str) -> None:
        """An earlier request had done it, so that nothing comes of this one."""
        self._stopwatch.stop(entry_id)
        self._replays.count()

    def delivered(self, message: Message, connections: int) -> None:
        """It was handed to that many connections."""
        self._delivered[VOLATILE if message.volatile else MESSAGE] += connections
        if message.id in self._stopwatch.started:
            seconds = self._stopwatch.stop(message.id)
            if seconds is not None and connections:
                self._seconds.observe(seconds)

    def recovered(self, messages: int) -> None:
        """A connection was given so many from the history."""
        self._delivered[RECOVERED] += messages

    def volatile_skipped(self, reason: str) -> None:
        self._skipped.count((reason,))

    def gap_found(self, code: str) -> None:
        self._gaps.count((code,))


class Stopwatch:
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
        most: int = 4096,
        patience_seconds: float = 60.0,
    ) -> None:
        self._has = has
        self._now = now
        self._most = most
        self._patience_seconds = patience_seconds
        self.started: OrderedDict[str, float] = OrderedDict()
        """Those that are waited for, by their id."""
        self._left_out = 0
        self._last = float("-inf")
        """When one was looked at last."""

    def start(self, message: Message) -> None:
        """It sets out."""
        now = self._now()
        self._left_out += 1
        if self._left_out < ONE_IN and now - self._last < APART_SECONDS:
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
        if len(started) < self._most:
            return True
        oldest = next(iter(started))
        if now - started[oldest] < self._patience_seconds:
            return False
        del started[oldest]
        return True
