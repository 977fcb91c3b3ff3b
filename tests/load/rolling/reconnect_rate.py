"""How evenly clients came back from a replica that was drained. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Clients that came back, and how many of them within the busiest second."""

    clients: int
    peak_per_second: int
    first: float
    """Seconds from the signal to the first that came back, and to the last."""
    last: float
    each_second: tuple[int, ...] = ()
    """How many came back in each second from the signal on."""

    def even_per_second(self, drain_seconds: float) -> float:
        """The pace of a drain that lets one go after the other, each as long after the one before."""
        return self.clients / drain_seconds


def pace(moments: Iterable[float], *, since: float) -> Pace:
    """``moments``: when each client was back; ``since``: when the replica was asked to stop. In seconds."""
    ordered = sorted(moments)
    if not ordered:
        return Pace(0, 0, 0.0, 0.0)
    counts = Counter(int(moment - since) for moment in ordered)
    each_second = tuple(counts[second] for second in range(max(counts) + 1))
    return Pace(len(ordered), busiest_second(ordered), ordered[0] - since, ordered[-1] - since, each_second)


def busiest_second(ordered: Sequence[float]) -> int:
    """The most moments in any one second, wherever it begins; ``ordered`` from the earliest to the latest."""
    return max(bisect_left(ordered, moment + 1.0) - number for number, moment in enumerate(ordered))
