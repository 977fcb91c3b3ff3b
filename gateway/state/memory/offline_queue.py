"""Messages that are kept for users of one process until they are received."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple, Protocol

from gateway.domain import positions
from gateway.domain.errors import OfflineQueueFull
from gateway.domain.messages import Address, Message, json_bytes
from gateway.domain.offline_queue import KEPT_ENTRY_BYTES
from gateway.domain.positions import Position
from gateway.interfaces import Clock
from gateway.state.memory.history import Order

_SWEEP: Final = 64
"""Messages whose time ended and that are removed by one append, at most."""


class _Kept(NamedTuple):
    message: Message
    position: Position
    ends_at: float
    bytes: int


class KeptMessages:
    """What is kept, by the address of the user's room. ``MemoryBroker`` keeps the messages."""

    def __init__(self, *, clock: Clock, max_kept: int, max_kept_bytes: int, max_bytes: int) -> None:
        self._clock = clock
        self._max_kept = max_kept
        self._max_kept_bytes = max_kept_bytes
        self._max_bytes = max_bytes
        self._queues: dict[Address, OrderedDict[str, _Kept]] = {}
        self._ends: list[tuple[float, Address, str]] = []
        """A heap of when messages end, with those that were removed before."""
        self.bytes = 0
        self.messages = 0

    def check_space(self, messages: Iterable[Message]) -> None:
        """Raises: OfflineQueueFull if the messages cannot all be kept for each of their users."""
        self._sweep()
        adding = sum([_size(message) * len(message.rooms) for message in messages])
        if self.bytes + adding > self._max_bytes:
            raise OfflineQueueFull

    def keep(self, message: Message, position: Position) -> int:
        """Keep a message for each of its users; return how many older ones were removed for it."""
        ends_at = self._clock.monotonic() + message.ttl_seconds
        kept = _Kept(message, position, ends_at, _size(message))
        return sum([self._keep(address, kept) for address in message.addresses])

    def read(self, address: Address) -> list[tuple[Message, Position]]:
        """Return the messages that are kept for a user, oldest first, with their positions."""
        queue = self._queues.get(address)
        if not queue:
            return []
        now = self._clock.monotonic()
        return [(kept.message, kept.position) for kept in queue.values() if kept.ends_at > now]

    def remove(self, address: Address, id_: str) -> None:
        """Remove a message. Idempotent."""
        queue = self._queues.get(address)
        kept = None if queue is None else queue.pop(id_, None)
        if queue is None or kept is None:
            return
        self.bytes -= kept.bytes
        self.messages -= 1
        if not queue:
            del self._queues[address]

    def erase(self, address: Address, last: Order) -> set[str]:
        """Remove what is kept for a user up to a position; return the ids."""
        erased = {message.id for message, position in self.read(address) if positions.order(position) <= last}
        for id_ in erased:
            self.remove(address, id_)
        return erased

    def _keep(self, address: Address, kept: _Kept) -> int:
        now = self._clock.monotonic()
        for id_ in [id_ for id_, each in self._queues.get(address, {}).items() if each.ends_at <= now]:
            self.remove(address, id_)
        queue = self._queues.setdefault(address, OrderedDict())
        queue[kept.message.id] = kept
        self.bytes += kept.bytes
        self.messages += 1
        heappush(self._ends, (kept.ends_at, address, kept.message.id))
        size, dropped = sum([each.bytes for each in queue.values()]), 0
        while len(queue) > 1 and (len(queue) > self._max_kept or size > self._max_kept_bytes):
            id_, oldest = next(iter(queue.items()))
            self.remove(address, id_)
            size, dropped = size - oldest.bytes, dropped + 1
        return dropped

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        for _ in range(_SWEEP):
            if not self._ends or self._ends[0][0] > now:
                break
            _, address, id_ = heappop(self._ends)
            self.remove(address, id_)
        if len(self._ends) > 2 * self.messages + _SWEEP:
            self._ends = [
                (kept.ends_at, address, id_)
                for address, queue in self._queues.items()
                for id_, kept in queue.items()
            ]
            heapify(self._ends)


class CopyBroker(Protocol):
    """Appends copies of kept messages; ``MemoryBroker`` does."""

    async def append_copies(self, address: Address, sid: str, upto: Position | None) -> Position | None: ...


class MemoryOfflineQueue:
    """Satisfies ``gateway.interfaces.OfflineQueue``."""

    def __init__(self, kept: KeptMessages, broker: CopyBroker) -> None:
        self._kept = kept
        self._broker = broker

    async def append_copies(
        self, address: Address, sid: str, *, upto: Position | None = None
    ) -> Position | None:
        return await self._broker.append_copies(address, sid, upto)

    async def remove(self, received: Mapping[Address, Collection[str]]) -> None:
        for address, ids in received.items():
            for id_ in ids:
                self._kept.remove(address, id_)


def _size(message: Message) -> int:
    return KEPT_ENTRY_BYTES + json_bytes(message)
