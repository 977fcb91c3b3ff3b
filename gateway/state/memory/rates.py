"""Token buckets."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from gateway.domain.claims import Allowance, Rate
from gateway.ports import Clock

_SWEEP: Final = 2
_TOLERANCE: Final = 1e-6
"""Of a token: what floating point may take away from one that is exactly due."""


class MemoryRates:
    """``gateway.ports.Rates``. Of each bucket only the moment is kept at which it will be full; then it is forgotten.

    With more than ``max_buckets`` the one not asked for the longest is forgotten early, and starts full again.
    """

    def __init__(self, *, clock: Clock, max_buckets: int) -> None:
        self._clock = clock
        self._max_buckets = max_buckets
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    async def take(self, bucket: str, rate: Rate) -> Allowance:
        now = self._clock.monotonic()
        self._sweep(now)
        missing = max(0.0, self._full_at.get(bucket, now) - now) * rate.per_second
        left = rate.burst - missing
        if left < 1 - _TOLERANCE:
            return Allowance(
                allowed=False,
                limit=rate.burst,
                remaining=0,
                reset_seconds=missing / rate.per_second,
                retry_after_seconds=(1 - left) / rate.per_second,
            )
        reset_seconds = (missing + 1) / rate.per_second
        self._full_at[bucket] = now + reset_seconds
        self._full_at.move_to_end(bucket)
        if len(self._full_at) > self._max_buckets:
            self._full_at.popitem(last=False)
        return Allowance(True, rate.burst, max(0, int(left - 1 + _TOLERANCE)), reset_seconds, 0.0)

    def _sweep(self, now: float) -> None:
        # Looks at two in turn, while one take adds at most one bucket: whatever is full is found.
        for _ in range(min(_SWEEP, len(self._full_at))):
            bucket, full_at = self._full_at.popitem(last=False)
            if full_at > now:
                self._full_at[bucket] = full_at
