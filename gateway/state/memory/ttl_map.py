"""A mapping whose items expire."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

from gateway.interfaces import Clock

K = TypeVar("K")
V = TypeVar("V")

_SWEEP: Final = 16
"""Expired items removed by one put, at most: many that expire together must not block the event loop."""


class TtlMap(Generic[K, V]):
    """Items expire ``seconds`` after they were put; beyond ``max_items`` the oldest is removed early.

    Every operation is O(1). An expired item is never returned, although only later puts remove it.
    """

    def __init__(self, *, clock: Clock, seconds: float, max_items: int) -> None:
        self._clock = clock
        self._seconds = seconds
        self._max_items = max_items
        # Not a dict: finding its first item walks over all items that were deleted before it, each time.
        self._items: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: K) -> V | None:
        """Return the value, unless it has expired."""
        item = self._items.get(key)
        if item is None or item[0] <= self._clock.monotonic():
            return None
        return item[1]

    def put(self, key: K, value: V) -> None:
        """Set a value; its time starts again."""
        now = self._clock.monotonic()
        self._sweep(now)
        items = self._items
        if key in items:
            items.move_to_end(key)
        items[key] = (now + self._seconds, value)
        if len(items) > self._max_items:
            items.popitem(last=False)

    def pop(self, key: K) -> V | None:
        """Remove an item; return its value, unless it has expired."""
        ends_at, value = self._items.pop(key, (0.0, None))
        return value if ends_at > self._clock.monotonic() else None

    def is_full(self) -> bool:
        """Whether one more item would remove one that has not expired."""
        self._sweep(self._clock.monotonic())
        return len(self._items) >= self._max_items

    def _sweep(self, now: float) -> None:
        items = self._items
        if not items or next(iter(items.values()))[0] > now:
            return
        for _ in range(_SWEEP):
            items.popitem(last=False)
            if not items or next(iter(items.values()))[0] > now:
                return
