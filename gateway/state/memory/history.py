"""The recent past of the stream: one log, and a lane through it for each address.

The part of the history that went to one address.

Where the history had to let go of something before its time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from heapq import merge
from operator import attrgetter
from typing import Final, NamedTuple

from gateway.domain.messages import Address, LogEntry, Message, SessionTakeover
from gateway.domain.positions import Position, order
from gateway.interfaces import Clock

Order = tuple[int, int]
"""What ``positions.order`` answers: it sorts positions from old to new."""

_COMPACT_FROM: Final = 32


@dataclass(slots=True, eq=False)
class Record:
    """An entry in the history. ``accepted_at`` is monotonic; ``size`` counts the JSON of the arguments, ``weight`` its
    names too."""

    order: Order
    position: Position
    entry: LogEntry
    addresses: tuple[Address, ...]
    size: int
    stored_bytes: int
    accepted_at: float


ORDER: Final = attrgetter("order")


class RoomIndex:
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


class TrimMarker(NamedTuple):
    """The newest entry that was trimmed; the gap closes when that would have been let go anyway."""

    order: Order
    expires_at: float


class TrimMarkers:
    """A marker for each address from which something was trimmed, at most ``max_gaps`` of them.

    What has no marker of its own because there were too many counts as trimmed for every address: a client is told
    of a gap that it may not have, never the other way round.
    """

    def __init__(self, *, age_seconds: float, max_gaps: int) -> None:
        self._age_seconds = age_seconds
        self._max_gaps = max_gaps
        self._by_address: OrderedDict[Address, TrimMarker] = OrderedDict()
        self._everywhere: TrimMarker | None = None

    def __len__(self) -> int:
        return len(self._by_address)

    def mark(self, record: Record, now: float) -> None:
        """A record was trimmed; records come in their order."""
        gap = TrimMarker(record.order, record.accepted_at + self._age_seconds)
        if gap.expires_at <= now:
            return
        for address in record.addresses:
            self._by_address[address] = gap
            self._by_address.move_to_end(address)
        self._shrink(now)

    def after(self, order: Order, addresses: Collection[Address], now: float) -> bool:
        """Whether something newer than a position was trimmed for any of the addresses."""
        gaps = [self._everywhere, *(self._by_address.get(address) for address in addresses)]
        return any(gap is not None and gap.order > order and gap.expires_at > now for gap in gaps)

    def expire(self, now: float, *, at_most: int) -> None:
        """Forget gaps that are closed."""
        while at_most > 0 and self._by_address and next(iter(self._by_address.values())).expires_at <= now:
            self._by_address.popitem(last=False)
            at_most -= 1

    def _shrink(self, now: float) -> None:
        while len(self._by_address) > self._max_gaps:
            _, gap = self._by_address.popitem(last=False)
            if gap.expires_at > now:
                self._everywhere = gap


_SWEEP: Final = 32
"""Entries let go because of their age by one step, at most: a full log that grew old must not stop the event loop."""


class History:
    """Holds the newest entries, at most ``max_entries`` and ``max_bytes``; what is older than ``age_seconds`` goes as
    others come. An age of 0 holds nothing.

    What goes because of its age leaves no gap: who was gone for that long is not resumed, and who was not has seen it.
    """

    def __init__(
        self, *, clock: Clock, max_entries: int, max_bytes: int, age_seconds: float, max_gaps: int
    ) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._age_seconds = age_seconds
        self._log: deque[Record] = deque()
        self._room_indexes: dict[Address, RoomIndex] = {}
        self._bytes = 0
        self.gaps = TrimMarkers(age_seconds=age_seconds, max_gaps=max_gaps)

    def __len__(self) -> int:
        return len(self._log)

    @property
    def bytes(self) -> int:
        """What ``max_bytes`` bounds: the JSON of the arguments and all names of what is held."""
        return self._bytes

    @property
    def oldest_age_seconds(self) -> float:
        """How long ago the oldest was accepted that is held; 0 if nothing is."""
        return self._clock.monotonic() - self._log[0].accepted_at if self._log else 0.0

    @property
    def room_indexes(self) -> int:
        """The number of addresses that something held went to."""
        return len(self._room_indexes)

    def add(
        self, entry: LogEntry, position: Position, order: Order, addresses: tuple[Address, ...], size: int
    ) -> None:
        """Hold an entry newer than all others, whose position sorts at ``order`` and whose arguments are ``size`` bytes
        long.
        """
        if self._age_seconds <= 0:
            return
        now = self._clock.monotonic()
        stored_bytes = size + _name_bytes(entry)
        record = Record(order, position, entry, addresses, size, stored_bytes, now)
        self._log.append(record)
        self._bytes += stored_bytes
        for address in addresses:
            index = self._room_indexes.get(address)
            if index is None:
                index = self._room_indexes[address] = RoomIndex()
            index.add(record)
        self._trim(now)

    def read(
        self, after: Position, addresses: Collection[Address], *, max_entries: int, max_bytes: int
    ) -> tuple[list[Record], bool]:
        """The next records after a position, each once, and whether more are left; at least one if there is one."""
        taken: list[Record] = []
        size = 0
        for record in self._merged(order(after), addresses):
            if taken and (len(taken) >= max_entries or size + record.size > max_bytes):
                return taken, True
            taken.append(record)
            size += record.size
        return taken, False

    def trimmed(self, after: Position, addresses: Collection[Address]) -> bool:
        """Whether something after a position, for any of the addresses, went before its time."""
        return self.gaps.after(order(after), addresses, self._clock.monotonic())

    def _merged(self, after: Order, addresses: Collection[Address]) -> Iterator[Record]:
        indexes = [self._room_indexes[address] for address in addresses if address in self._room_indexes]
        last: Record | None = None
        for record in merge(*(index.newer_than(after) for index in indexes), key=ORDER):
            if record is not last:
                yield record
            last = record

    def _trim(self, now: float) -> None:
        log = self._log
        while log and (len(log) > self._max_entries or self._bytes > self._max_bytes):
            self._drop_oldest(now)
        oldest_allowed = now - self._age_seconds
        for _ in range(_SWEEP):
            if not log or log[0].accepted_at > oldest_allowed:
                break
            self._drop_oldest(now)
        self.gaps.expire(now, at_most=_SWEEP)

    def _drop_oldest(self, now: float) -> None:
        record = self._log.popleft()
        self._bytes -= record.stored_bytes
        for address in record.addresses:
            index = self._room_indexes[address]
            index.drop_oldest()
            if not index:
                del self._room_indexes[address]
        self.gaps.mark(record, now)


def _name_bytes(entry: LogEntry) -> int:
    if isinstance(entry, Message):
        return len(entry.event) + len("".join(entry.rooms)) + sum(map(len, entry.exclude))
    if isinstance(entry, SessionTakeover):
        return len(entry.sid) + len(entry.owner)
    return len(entry.user) + sum(map(len, entry.namespaces)) + sum(map(len, entry.exclude))
