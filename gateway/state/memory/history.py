"""The history: one log of recent entries, an index of it for each address, and markers of what was trimmed."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from heapq import merge
from operator import attrgetter
from typing import Final, NamedTuple

from gateway.domain import positions
from gateway.domain.messages import Address, DataChange, LogEntry, Message, RoomChange, SessionTakeover
from gateway.domain.positions import Position, order
from gateway.interfaces import Clock

Order = tuple[int, int]
"""The sort key of a position (``positions.order``)."""

ORDER: Final = attrgetter("order")
ENTRY_BYTES: Final = 700
"""What an entry takes in memory beside its arguments and names: itself, its place in the log, its publish result."""
INDEX_BYTES: Final = 320
"""What the index of an address takes."""
_MARKER_BYTES: Final = 350
"""What the marker of an address takes, beside its name."""
_MARKERS_PART: Final = 4
"""Markers take at most this part of the bytes of the history."""
_COMPACT_FROM: Final = 32
_SWEEP: Final = 32
"""Entries dropped by age in one step, at most: a full log that grew old must not block the event loop."""


@dataclass(slots=True, eq=False)
class Record:
    """An entry in the history.

    ``accepted_at`` is monotonic, in seconds. ``size``: the bytes of the JSON of the arguments; ``stored_bytes``: what
    the entry takes. Of a message that was erased the entry holds no payload any more.
    """

    order: Order
    position: Position
    entry: LogEntry
    addresses: tuple[Address, ...]
    size: int
    stored_bytes: int
    accepted_at: float
    is_erased: bool = False


class RoomIndex:
    """The records of one address, oldest first.

    Adding a record and dropping the oldest are O(1) amortised, finding a position is O(log n).
    """

    __slots__ = ("_head", "_records", "addresses")

    def __init__(self, addresses: tuple[Address, ...] = ()) -> None:
        """``addresses``: its address alone, which the records of no other address share."""
        self.addresses = addresses
        self._records: list[Record] = []
        self._head = 0

    def __bool__(self) -> bool:
        return self._head < len(self._records)

    def add(self, record: Record) -> None:
        """Add the newest record."""
        self._records.append(record)

    def drop_oldest(self) -> bool:
        """Drop the oldest record; return whether it was the last one."""
        # Dropped records stay in front of the head until there are as many of them as of the others.
        self._head = head = self._head + 1
        if head >= _COMPACT_FROM and head * 2 >= len(self._records):
            del self._records[:head]
            self._head = head = 0
        return head == len(self._records)

    def newer_than(self, order: Order) -> Iterator[Record]:
        """Iterate over the records after a position, oldest first; the index must not change meanwhile."""
        first = bisect_right(self._records, order, lo=self._head, key=ORDER)
        for index in range(first, len(self._records)):
            yield self._records[index]

    def newest_first(self) -> Iterator[Record]:
        """Iterate over all records, the newest first; the index must not change meanwhile."""
        for index in range(len(self._records) - 1, self._head - 1, -1):
            yield self._records[index]


class TrimMarker(NamedTuple):
    """The newest entry that was trimmed. The marker expires when the entry would have been dropped by age."""

    order: Order
    expires_at: float


_marker: Final[Callable[[tuple[Order, float]], TrimMarker]] = partial(tuple.__new__, TrimMarker)
"""Make a marker without the constructor of NamedTuple, which runs in Python: a full history makes one for each push."""


class TrimMarkers:
    """A marker for each address from which an entry was trimmed, at most ``max_markers`` and ``max_bytes``.

    A marker beyond these counts for every address: a client may get ``recovery:failed`` for a gap that it does
    not have, but never misses a gap that it has.
    """

    def __init__(self, *, age_seconds: float, max_markers: int, max_bytes: int) -> None:
        self._age_seconds = age_seconds
        self._max_markers = max_markers
        self._max_bytes = max_bytes
        self._bytes = 0
        self._by_address: OrderedDict[Address, TrimMarker] = OrderedDict()
        self._everywhere: TrimMarker | None = None

    def __len__(self) -> int:
        return len(self._by_address)

    def mark(self, record: Record, now: float) -> None:
        """Mark a record that was trimmed. Records have to be marked in their order."""
        expires_at = record.accepted_at + self._age_seconds
        if expires_at <= now:
            return
        marker, by_address = _marker((record.order, expires_at)), self._by_address
        for address in record.addresses:
            if address in by_address:
                by_address.move_to_end(address)
            else:
                self._bytes += _marker_bytes(address)
            by_address[address] = marker
        if len(by_address) > self._max_markers or self._bytes > self._max_bytes:
            self._shrink(now)

    def after(self, order: Order, addresses: Collection[Address], now: float) -> bool:
        """Whether an entry newer than a position was trimmed for any of the addresses."""
        markers = [self._everywhere, *(self._by_address.get(address) for address in addresses)]
        return any(
            marker is not None and marker.order > order and marker.expires_at > now for marker in markers
        )

    def expire(self, now: float, *, at_most: int) -> None:
        """Remove expired markers."""
        while at_most > 0 and self._by_address and next(iter(self._by_address.values())).expires_at <= now:
            self._remove_oldest()
            at_most -= 1

    def _shrink(self, now: float) -> None:
        while len(self._by_address) > self._max_markers or self._bytes > self._max_bytes:
            marker = self._remove_oldest()
            if marker.expires_at > now:
                self._everywhere = marker

    def _remove_oldest(self) -> TrimMarker:
        address, marker = self._by_address.popitem(last=False)
        self._bytes -= _marker_bytes(address)
        return marker


class History:
    """Holds the newest entries, at most ``max_entries`` and ``max_bytes``.

    Entries older than ``age_seconds`` are dropped as others are added. With an age of 0 nothing is held. An entry
    dropped by age leaves no gap: a client that was away for that long is not resumed, and every other has received it.
    """

    def __init__(
        self, *, clock: Clock, max_entries: int, max_bytes: int, age_seconds: float, max_markers: int
    ) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._age_seconds = age_seconds
        self._log: deque[Record] = deque()
        self._room_indexes: dict[Address, RoomIndex] = {}
        self._bytes = 0
        self._dropped: Order = (0, 0)
        """The newest entry that was dropped, for whatever reason."""
        self.trim_markers = TrimMarkers(
            age_seconds=age_seconds, max_markers=max_markers, max_bytes=max_bytes // _MARKERS_PART
        )

    def __len__(self) -> int:
        return len(self._log)

    @property
    def bytes(self) -> int:
        """What ``max_bytes`` limits: what all entries held take, and the indexes of their addresses."""
        return self._bytes

    @property
    def oldest_age_seconds(self) -> float:
        """The age of the oldest entry held; 0 if none is."""
        return self._clock.monotonic() - self._log[0].accepted_at if self._log else 0.0

    @property
    def room_indexes(self) -> int:
        """The number of addresses of the entries held."""
        return len(self._room_indexes)

    def add(
        self,
        entry: LogEntry,
        position: Position,
        order: Order,
        addresses: tuple[Address, ...],
        size: int,
        *,
        now: float,
    ) -> None:
        """Add an entry newer than all others.

        ``order`` is the sort key of its position, ``size`` the bytes of its arguments, ``now`` is monotonic.
        """
        if self._age_seconds <= 0:
            return
        stored_bytes = size + _name_bytes(entry) + ENTRY_BYTES
        record = Record(order, position, entry, addresses, size, stored_bytes, now)
        indexes = self._room_indexes
        self._log.append(record)
        self._bytes += stored_bytes
        for address in addresses:
            index = indexes.get(address)
            if index is None:
                index = indexes[address] = RoomIndex((address,))
                self._bytes += INDEX_BYTES
            index.add(record)
            if len(addresses) == 1:
                record.addresses = index.addresses
        self._trim(now)

    def read(
        self, after: Position, addresses: Collection[Address], *, max_entries: int, max_bytes: int
    ) -> tuple[list[Record], bool]:
        """Return the next records after a position, each once, and whether more are left.

        At least one record is returned if there is any.
        """
        taken: list[Record] = []
        size = 0
        for record in self._merged(order(after), addresses):
            if taken and (len(taken) >= max_entries or size + record.size > max_bytes):
                return taken, True
            taken.append(record)
            size += record.size
        return taken, False

    def is_trimmed(self, after: Position, addresses: Collection[Address]) -> bool:
        """Whether an entry after a position, for any of the addresses, was trimmed before its time."""
        return self.trim_markers.after(order(after), addresses, self._clock.monotonic())

    def exceeds_age(self, after: Position, now: float) -> bool:
        """Whether entries after a position were dropped by age. ``now`` is the wall-clock time."""
        return positions.milliseconds(after) <= (now - self._age_seconds) * 1000 and self._dropped > order(
            after
        )

    def newest(self, address: Address, *, max_messages: int, max_bytes: int) -> tuple[list[Record], bool]:
        """Return the newest messages for an address, oldest first, and whether there are older ones.

        At least one message is returned if there is any.
        """
        taken: list[Record] = []
        size = 0
        for record in self._newest_first(address):
            if taken and (len(taken) >= max_messages or size + record.size > max_bytes):
                return taken[::-1], True
            taken.append(record)
            size += record.size
        return taken[::-1], False

    def _newest_first(self, address: Address) -> Iterator[Record]:
        for record in self._room_indexes.get(address, RoomIndex()).newest_first():
            if isinstance(record.entry, Message) and not record.is_erased:
                yield record

    def erase(
        self,
        address: Address,
        after: Order,
        upto: Order,
        *,
        at_most: int,
        matches: Callable[[Message], bool] = lambda _: True,
    ) -> tuple[list[Message], Order | None]:
        """Erase messages for an address after a position up to another one, looking at so many entries at most.

        Return them, and where the next step begins; None if there is nothing left to do. ``matches``: which of the
        messages are erased.

        An erased message keeps its place in the log and in the indexes until it is dropped.
        """
        erased: list[Message] = []
        looked_at = 0
        for record in self._room_indexes.get(address, RoomIndex()).newer_than(after):
            if record.order > upto:
                break
            if looked_at == at_most:
                return erased, after
            looked_at, after = looked_at + 1, record.order
            if isinstance(record.entry, Message) and not record.is_erased and matches(record.entry):
                erased.append(record.entry)
                self._erase(record, record.entry)
        return erased, None

    def _erase(self, record: Record, message: Message) -> None:
        record.is_erased = True
        record.entry = message._replace(event="", arguments=(), attachments=(), exclude=frozenset())
        self._bytes -= record.size
        record.stored_bytes -= record.size
        record.size = 0

    def _merged(self, after: Order, addresses: Collection[Address]) -> Iterator[Record]:
        indexes = [self._room_indexes[address] for address in addresses if address in self._room_indexes]
        last: Record | None = None
        for record in merge(*(index.newer_than(after) for index in indexes), key=ORDER):
            if record is not last and not record.is_erased:
                yield record
            last = record

    def _trim(self, now: float) -> None:
        log = self._log
        while log and (len(log) > self._max_entries or self._bytes > self._max_bytes):
            self._drop_oldest(now)
        oldest_allowed = now - self._age_seconds
        if log and log[0].accepted_at <= oldest_allowed:
            for _ in range(_SWEEP):
                self._drop_oldest(now)
                if not log or log[0].accepted_at > oldest_allowed:
                    break
        self.trim_markers.expire(now, at_most=_SWEEP)

    def _drop_oldest(self, now: float) -> None:
        record, indexes = self._log.popleft(), self._room_indexes
        self._bytes -= record.stored_bytes
        for address in record.addresses:
            if indexes[address].drop_oldest():
                del indexes[address]
                self._bytes -= INDEX_BYTES
        self._dropped = record.order
        if not record.is_erased:
            self.trim_markers.mark(record, now)


def _marker_bytes(address: Address) -> int:
    return _MARKER_BYTES + len(address.room or "")


def _name_bytes(entry: LogEntry) -> int:
    if isinstance(entry, Message):
        rooms = entry.rooms
        names = len(entry.event) + len(rooms[0] if len(rooms) == 1 else "".join(rooms))
        if entry.exclude or entry.all_of:
            names += sum(map(len, (*entry.exclude, *entry.all_of)))
        return names
    if isinstance(entry, SessionTakeover):
        return len(entry.sid) + len(entry.owner)
    if isinstance(entry, DataChange):
        return len(entry.sid) + len(entry.data)
    if isinstance(entry, RoomChange):
        return sum(map(len, (*entry.rooms, *entry.changed, *entry.exclude)))
    return len(entry.user) + len(entry.room) + sum(map(len, entry.namespaces)) + sum(map(len, entry.exclude))
