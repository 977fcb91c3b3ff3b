"""How often each client address may shake hands. What is kept is bounded, and forgotten once it says nothing more."""

from __future__ import annotations

from typing import Final

from gateway.ports import Clock
from gateway.transport.addresses import counted_as

KEPT_ADDRESSES: Final = 65_536
"""About 8 MB. With more of them at once those not seen for the longest may come anew; CONNECT_RATE holds for all."""
_ROUNDING_SECONDS: Final = 1e-6


class AddressRates:
    """A bucket for each address, holding one second's worth; kept as the time at which it is full again."""

    def __init__(self, clock: Clock, connects_per_second: float) -> None:
        self._clock = clock
        self.seconds_each = 1 / connects_per_second
        self._window_seconds = max(1.0, self.seconds_each)
        # Two generations: nobody need look for what has ended, since a bucket is full again after one window.
        self._full_at: dict[str, float] = {}
        self._full_at_before: dict[str, float] = {}
        self._began_at = clock.monotonic()

    def __len__(self) -> int:
        return len(self._full_at) + len(self._full_at_before)

    def allow(self, address: str) -> bool:
        """Whether there is room in the bucket; takes nothing."""
        full_in = self._full_at_of(counted_as(address)) - self._clock.monotonic()
        return full_in <= self._window_seconds - self.seconds_each + _ROUNDING_SECONDS

    def take(self, address: str) -> None:
        """Count one."""
        now = self._clock.monotonic()
        self._forget(now)
        name = counted_as(address)
        self._full_at[name] = max(now, self._full_at_of(name)) + self.seconds_each

    def _full_at_of(self, name: str) -> float:
        before = self._full_at_before.get(name, 0.0)
        return self._full_at.get(name, before)

    def _forget(self, now: float) -> None:
        age = now - self._began_at
        if age < self._window_seconds and len(self._full_at) < KEPT_ADDRESSES // 2:
            return
        self._full_at_before = self._full_at if age < 2 * self._window_seconds else {}
        self._full_at = {}
        self._began_at = now
