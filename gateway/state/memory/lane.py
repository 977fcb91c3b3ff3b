"""The part of the history that went to one address."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from gateway.domain.messages import Address, Entry
from gateway.domain.positions import Position

Order = tuple[int, int]
"""What ``positions.order`` answers: it sorts positions from old to new."""

_COMPACT_FROM: Final = 32


@dataclass(slots=True, eq=False)
class Record:
    """An entry in the history. ``accepted_at`` is monotonic; ``size`` counts the JSON of the arguments, ``weight`` its
    names too."""

    order: Order
    position: Position
    entry: Entry
    addresses: tuple[Address, ...]
    size: int
    weight: int
    accepted_at: float


ORDER: Final = attrgetter("order")


class Lane:
    """Records, oldest first. Adding and dropping the oldest is O(1) amortised, finding a position O(log n)."""

    __slots__ = ("_head", "_records")

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._head = 0

    def __bool__(self) -> bool:
        return self._head < len(self._records)

    def add(self, record: Record) -> None:
        """Add the newest record."""
        self._records.append(record)

    def drop_oldest(self) -> None:
        """Forget the oldest record."""
        # The list keeps dropped records in front of the head until they are as many as the others.
        self._head += 1
        if self._head >= _COMPACT_FROM and self._head * 2 >= len(self._records):
            del self._records[: self._head]
            self._head = 0

    def newer_than(self, order: Order) -> Iterator[Record]:
        """The records after a position, oldest first; to be used up before the lane changes."""
        first = bisect_right(self._records, order, lo=self._head, key=ORDER)
        for index in range(first, len(self._records)):
            yield self._records[index]
