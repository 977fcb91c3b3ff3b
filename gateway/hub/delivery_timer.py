"""How long pushes through this replica take until they are delivered here."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.domain.messages import Address, Message
from gateway.metrics import MetricFactory

_BOUNDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
SAMPLE_EVERY: Final = 8
MIN_INTERVAL_SECONDS: Final = 0.01
"""Pushes that are further apart are all timed, of others one in SAMPLE_EVERY."""


class DeliveryTimer:
    """Times pushes from their check to their delivery here, both by one monotonic clock.

    All pushes are timed while few come. Of many, one in SAMPLE_EVERY is timed, because timing one costs as much as all
    other counting for it. A push is not timed if no connection of this replica has one of its addresses: the hub would
    never deliver it. At most ``max_pending`` pushes are timed at once. Beyond that new ones are left out, so that slow
    deliveries stay in the measurement. A push that was never delivered is dropped after ``timeout_seconds``, when its
    place is needed.
    """

    def __init__(
        self,
        has: Callable[[Address], bool],
        metrics: MetricFactory,
        *,
        now: Callable[[], float] = time.monotonic,
        max_pending: int = 4096,
        timeout_seconds: float = 60.0,
    ) -> None:
        """``has`` returns whether a connection of this replica has an address."""
        self._has = has
        self._now = now
        self._max_pending = max_pending
        self._timeout_seconds = timeout_seconds
        self.started: OrderedDict[str, float] = OrderedDict()
        """When each timed push started, by its id."""
        self._left_out = 0
        self._last = float("-inf")
        """When a push was last considered."""
        self._seconds = metrics.histogram(
            "delivery_duration_seconds",
            "Time from a checked push through this replica to its last connection here.",
            bounds=_BOUNDS,
        )

    def start(self, message: Message) -> None:
        """Time a push that is about to be appended, unless it is left out."""
        now = self._now()
        self._left_out += 1
        if self._left_out < SAMPLE_EVERY and now - self._last < MIN_INTERVAL_SECONDS:
            return
        self._left_out, self._last = 0, now
        if any(map(self._has, message.addresses)) and self._has_place(now):
            self.started[message.id] = now

    def cancel(self, message_id: str) -> None:
        """Stop without an observation: the push will not be delivered."""
        self.started.pop(message_id, None)

    def stop(self, message_id: str, connections: int) -> None:
        """Observe the time of a push, unless it reached no connection."""
        started = self.started.pop(message_id, None)
        if started is not None and connections:
            self._seconds.observe(self._now() - started)

    def _has_place(self, now: float) -> bool:
        started = self.started
        if len(started) < self._max_pending:
            return True
        oldest = next(iter(started))
        if now - started[oldest] < self._timeout_seconds:
            return False
        del started[oldest]
        return True
