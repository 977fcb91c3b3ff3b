"""Which log lines are written: a sample of routine lines, and the first lines about rejections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from zlib import crc32

_ALL: Final = 2**32


class Sampling:
    """Decides which routine log lines are written; ``rate`` is their share, from 0 (none) to 1 (all).

    Replicas with the same rate decide alike for the same key, so that every replica writes the lines of a trace, or
    none does.
    """

    __slots__ = ("_below", "fields", "rate")

    def __init__(self, rate: float = 1.0) -> None:
        self.rate = rate
        self._below = rate * _ALL
        self.fields: dict[str, float] = {} if rate == 1.0 else {"sample_rate": rate}
        """The fields of a sampled line: it stands for 1 / ``sample_rate`` lines of its kind."""

    def should_log(self, key: str) -> bool:
        """Whether to write the lines of the request, trace or connection with this key."""
        return self.rate == 1.0 or crc32(key.encode("utf-8", "surrogatepass")) < self._below


INTERVAL_SECONDS: Final = 10.0
LINES_PER_ADDRESS: Final = 20
"""Lines of one kind and reason about one client address that are written in an interval."""
LINES_PER_REASON: Final = 100
"""The same about all addresses together."""
MAX_COUNTS: Final = 4096
"""Pairs of reason and address that are counted in an interval; all further addresses count as one."""

After = Callable[[float, Callable[[], None]], object]
"""Calls a function after some seconds."""
Report = Callable[[str, str, int, int], None]
"""Writes the summary of an interval: kind of the lines, reason, number of lines, of addresses at least."""


class LineLimiter:
    """Limits the log lines about rejections, which an unauthenticated client may cause in any number.

    In each interval the first lines of each reason and client address are written. The others are counted, and
    reported once the interval is over.
    """

    def __init__(self, *, now: Callable[[], float], after: After, report: Report) -> None:
        """``now`` returns seconds that never go back."""
        self._now = now
        self._after = after
        self._report = report
        self._began_at = now()
        self._counts: dict[tuple[str, str, str], int] = {}
        self._written: dict[tuple[str, str], int] = {}
        self._suppressed: dict[tuple[str, str], int] = {}

    def allows(self, line: str, reason: str, address: str) -> bool:
        """Count a line, and return whether it is to be written."""
        age = self._now() - self._began_at
        if age >= INTERVAL_SECONDS:
            self.flush()
            age = 0.0
        group, key = (line, reason), (line, reason, address)
        if key not in self._counts and len(self._counts) >= MAX_COUNTS:
            key = (line, reason, "")
        self._counts[key] = count = self._counts.get(key, 0) + 1
        written = self._written.get(group, 0)
        if count <= LINES_PER_ADDRESS and written < LINES_PER_REASON:
            self._written[group] = written + 1
            return True
        if not self._suppressed:
            self._after(INTERVAL_SECONDS - age, self.flush)
        self._suppressed[group] = self._suppressed.get(group, 0) + 1
        return False

    def flush(self) -> None:
        """Report the lines that were not written, and begin an interval."""
        suppressed, counts = self._suppressed, self._counts
        self._suppressed, self._counts, self._written = {}, {}, {}
        self._began_at = self._now()
        for (line, reason), lines in suppressed.items():
            addresses = sum(key[:2] == (line, reason) for key in counts)
            self._report(line, reason, lines, addresses)
