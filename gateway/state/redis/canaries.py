"""How long what this replica says to itself is on its way, and how far behind it hears. Pure; times are monotonic
seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

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
