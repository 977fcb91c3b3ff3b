"""How evenly the clients of a drained replica reconnected. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ReconnectRate:
    """The number of clients that reconnected, and how many of them within the busiest second."""

    clients: int
    peak_per_second: int
    first: float
    """Seconds from the signal to the first reconnect."""
    last: float
    """Seconds from the signal to the last reconnect."""
    each_second: tuple[int, ...] = ()
    """The number of reconnects in each second after the signal."""

    def even_per_second(self, drain_seconds: float) -> float:
        """Return the rate of a drain that disconnects one client after the other at equal intervals."""
        return self.clients / drain_seconds


def reconnect_rate(moments: Iterable[float], *, since: float) -> ReconnectRate:
    """Measure reconnects at these ``moments``; ``since`` is the moment of the signal. All in seconds."""
    ordered = sorted(moments)
    if not ordered:
        return ReconnectRate(0, 0, 0.0, 0.0)
    counts = Counter(int(moment - since) for moment in ordered)
    each_second = tuple(counts[second] for second in range(max(counts) + 1))
    return ReconnectRate(
        len(ordered), busiest_second(ordered), ordered[0] - since, ordered[-1] - since, each_second
    )


def busiest_second(ordered: Sequence[float]) -> int:
    """Return the largest number of moments within one second, which may begin at any moment.

    ``ordered``: the moments in seconds, from the earliest to the latest.
    """
    return max(bisect_left(ordered, moment + 1.0) - number for number, moment in enumerate(ordered))
