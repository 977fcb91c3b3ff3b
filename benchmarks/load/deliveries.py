"""Count deliveries and record latencies. Every pushed message carries ``"seq":`` and a number of seven digits."""

from __future__ import annotations

import time
from array import array
from typing import Final

FIRST: Final = 1_000_000
MARK: Final = b'"seq":'


class DeliveryRecorder:
    """The deliveries of one run of pushes; messages are numbered from FIRST."""

    __slots__ = (
        "counts",
        "deliveries",
        "expected",
        "last_at",
        "latencies",
        "outstanding",
        "sent_at",
        "stray",
    )

    def __init__(self, messages: int, expected: int) -> None:
        """``expected``: how many clients of this process receive each message."""
        self.expected = expected
        self.sent_at = array("d", bytes(8 * messages))
        self.counts = array("l", bytes(8 * messages))
        self.latencies = array("d")
        self.deliveries = 0
        self.outstanding = 0
        self.stray = 0
        self.last_at = 0.0

    def begin(self, first: int, number: int) -> None:
        """Record that these messages, or as many of them as there are, are about to be sent."""
        now, messages = time.monotonic(), range(first, min(first + number, len(self.sent_at)))
        for index in messages:
            self.sent_at[index] = now
        self.outstanding += len(messages)

    def record(self, seq: int, now: float) -> None:
        """Record the delivery of message ``seq`` to one client at ``now`` (monotonic seconds)."""
        index = seq - FIRST
        if not 0 <= index < len(self.counts):
            self.stray += 1
            return
        self.deliveries += 1
        self.last_at = now
        self.latencies.append(now - self.sent_at[index])
        self.counts[index] = count = self.counts[index] + 1
        if count == self.expected:
            self.outstanding -= 1

    def delivering_seconds(self) -> float:
        """Return the sum of the times from sending to the last client, for messages that follow one another.

        The time that the load generator takes between two messages is not part of it.
        """
        starts = range(0, len(self.latencies), max(1, self.expected))
        return sum(max(self.latencies[start : start + self.expected]) for start in starts)

    def percentiles(self) -> dict[str, float]:
        """Return percentiles of the latencies, in seconds."""
        ordered = sorted(self.latencies) or [0.0]
        last = len(ordered) - 1
        return {
            "p50": ordered[round(0.5 * last)],
            "p99": ordered[round(0.99 * last)],
            "max": ordered[last],
        }
