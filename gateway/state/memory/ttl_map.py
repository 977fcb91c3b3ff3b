"""A mapping whose items expire."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from gateway.interfaces import Clock

K = TypeVar("K")
V = TypeVar("V")

_SWEEP: Final = 16
"""Expired items removed by one put, at most: many that expire together must not block the event loop."""


class TtlMap(Generic[K, V]):
    """Items expire ``seconds`` after they were put; beyond ``max_items`` the oldest is removed early.

    Every operation but ``items`` is O(1). An expired item is never returned, although only later puts remove it.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        seconds: float,
        max_items: int,
        on_removed: Callable[[K, V], None] = lambda _key, _value: None,
    ) -> None:
        """``on_removed`` gets each item that was removed because it expired or was the oldest."""
        self._clock = clock
        self._seconds = seconds
        self._max_items = max_items
        self._on_removed = on_removed
        # Not a dict: finding its first item walks over all items that were deleted before it, each time.
        self._items: OrderedDict[K, tuple[float, V]] = OrderedDict()
        """When each value was put, and the value."""

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: K) -> V | None:
        """Return the value, unless it has expired."""
        return self.get_at(self._clock.monotonic(), key)

    def get_at(self, now: float, key: K) -> V | None:
        """As ``get``, with the time of the monotonic clock."""
        item = self._items.get(key)
        return None if item is None or item[0] + self._seconds <= now else item[1]

    def items(self) -> Iterator[tuple[K, V]]:
        """Yield the items that have not expired, the one that was put first in front."""
        now = self._clock.monotonic()
        for key, (put_at, value) in self._items.items():
            if put_at + self._seconds > now:
                yield key, value

    def put(self, key: K, value: V) -> None:
        """Set a value; its time starts again."""
        self.put_at(self._clock.monotonic(), key, value)

    def put_at(self, now: float, key: K, value: V) -> None:
        """As ``put``, with the time of the monotonic clock."""
        self._sweep(now)
        items = self._items
        if key in items:
            items.move_to_end(key)
        items[key] = (now, value)
        if len(items) > self._max_items:
            self.remove_oldest()

    def remove_oldest(self) -> None:
        """Remove the item that was put first."""
        key, (_, value) = self._items.popitem(last=False)
        self._on_removed(key, value)

    def pop(self, key: K) -> V | None:
        """Remove an item; return its value, unless it has expired."""
        item = self._items.pop(key, None)
        return None if item is None or item[0] + self._seconds <= self._clock.monotonic() else item[1]

    def remove(self, key: K) -> V | None:
        """Remove an item; return its value, also if it has expired."""
        item = self._items.pop(key, None)
        return None if item is None else item[1]

    def is_full(self, *, adding: int = 1) -> bool:
        """Whether as many more items would remove one that has not expired."""
        self._sweep(self._clock.monotonic())
        return len(self._items) + adding > self._max_items

    def _sweep(self, now: float) -> None:
        items, seconds = self._items, self._seconds
        if not items or next(iter(items.values()))[0] + seconds > now:
            return
        for _ in range(_SWEEP):
            self.remove_oldest()
            if not items or next(iter(items.values()))[0] + seconds > now:
                return
