"""The recent past of the stream: one log, and a lane through it for each address."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from heapq import merge
from typing import Final

from gateway.domain.messages import Address, Entry, Message, Move
from gateway.domain.positions import Position, order
from gateway.ports import Clock
from gateway.state.memory.gaps import Gaps
from gateway.state.memory.lane import ORDER, Lane, Order, Record

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
        self._lanes: dict[Address, Lane] = {}
        self._bytes = 0
        self.gaps = Gaps(age_seconds=age_seconds, max_gaps=max_gaps)

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
    def lanes(self) -> int:
        """The number of addresses that something held went to."""
        return len(self._lanes)

    def add(
        self, entry: Entry, position: Position, order: Order, addresses: tuple[Address, ...], size: int
    ) -> None:
        """Hold an entry newer than all others, whose position sorts at ``order`` and whose arguments are ``size`` bytes
        long.
        """
        if self._age_seconds <= 0:
            return
        now = self._clock.monotonic()
        weight = size + _name_bytes(entry)
        record = Record(order, position, entry, addresses, size, weight, now)
        self._log.append(record)
        self._bytes += weight
        for address in addresses:
            lane = self._lanes.get(address)
            if lane is None:
                lane = self._lanes[address] = Lane()
            lane.add(record)
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
        lanes = [self._lanes[address] for address in addresses if address in self._lanes]
        last: Record | None = None
        for record in merge(*(lane.newer_than(after) for lane in lanes), key=ORDER):
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
        self.gaps.close(now, at_most=_SWEEP)

    def _drop_oldest(self, now: float) -> None:
        record = self._log.popleft()
        self._bytes -= record.weight
        for address in record.addresses:
            lane = self._lanes[address]
            lane.drop_oldest()
            if not lane:
                del self._lanes[address]
        self.gaps.mark(record, now)


def _name_bytes(entry: Entry) -> int:
    if isinstance(entry, Message):
        return len(entry.event) + len("".join(entry.rooms)) + sum(map(len, entry.exclude))
    if isinstance(entry, Move):
        return len(entry.sid) + len(entry.owner)
    return len(entry.user) + sum(map(len, entry.namespaces)) + sum(map(len, entry.exclude))
