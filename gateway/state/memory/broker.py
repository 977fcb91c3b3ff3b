"""The stream of messages of one process.

What was accepted and not handed over yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Final

from gateway.domain import positions
from gateway.domain.claims import Claim
from gateway.domain.errors import DATA_LOST, HISTORY_TRIMMED, BrokerUnavailable
from gateway.domain.messages import (
    Address,
    Entry,
    Kick,
    Receipt,
    count_is_exact,
    is_volatile,
    json_bytes,
)
from gateway.domain.positions import Position
from gateway.ports import Clock, Deliver, Page
from gateway.state.memory.claims import MemoryClaims, MemoryRevocations
from gateway.state.memory.expiring import Expiring
from gateway.state.memory.history import History
from gateway.state.memory.presence import MemoryPresence


class Backlog:
    """A bounded queue from the one who accepts to the one who listens, first in, first out.

    There is room while it holds fewer than ``max_entries`` and less than ``max_bytes``, so that an entry of any size
    fits in an empty one.
    """

    def __init__(self, *, max_entries: int, max_bytes: int, wait_seconds: float) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._wait_seconds = wait_seconds
        self._queue: deque[tuple[Entry, Position, int]] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._turn = asyncio.Lock()
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._queue)

    async def room(self) -> None:
        """Return when there is room, which is the caller's until it waits for something else.

        Raises BrokerUnavailable when there was none for ``wait_seconds``.
        """
        if self._room.is_set() and not self._waiting:
            return
        self._waiting += 1
        try:
            # In turns: room for one must wake one, or all who wait would use the same room.
            async with asyncio.timeout(self._wait_seconds), self._turn:
                await self._room.wait()
        except TimeoutError as late:
            raise BrokerUnavailable(
                f"this replica was too busy to take a message for {self._wait_seconds} s"
            ) from late
        finally:
            self._waiting -= 1

    def put(self, entry: Entry, position: Position, size: int) -> None:
        """Queue an entry whose arguments are ``size`` bytes long."""
        self._queue.append((entry, position, size))
        self._bytes += size
        self._arrived.set()
        if not self._has_room():
            self._room.clear()

    async def take(self) -> tuple[Entry, Position]:
        """The oldest entry, once there is one."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        entry, position, size = self._queue.popleft()
        self._bytes -= size
        if self._has_room():
            self._room.set()
        return entry, position

    def _has_room(self) -> bool:
        return len(self._queue) < self._max_entries and self._bytes < self._max_bytes


MIN_RECEIPT_SECONDS: Final = 60.0
MIN_RECEIPTS: Final = 1_000
"""Receipts are remembered by id at least for so long and so many, where less history is kept or none."""


class MemoryBroker:
    """``gateway.ports.Broker``. Accepting an entry is one step of the event loop: that is what makes it atomic."""

    def __init__(
        self,
        *,
        clock: Clock,
        history: History,
        backlog: Backlog,
        presence: MemoryPresence,
        claims: MemoryClaims,
        revocations: MemoryRevocations,
        receipts: Expiring[str, Receipt],
    ) -> None:
        self._clock = clock
        self._history = history
        self._backlog = backlog
        self._presence = presence
        self._claims = claims
        self._revocations = revocations
        self._receipts = receipts
        self._subscribed: set[Address] = set()
        # A position too, and none of another process: who came before the first entry is known by it.
        milliseconds, microseconds = divmod(int(clock.now() * 1_000_000), 1000)
        self._began = milliseconds, 1000 * microseconds
        self._order = self._began
        self._newest = positions.position_at(self._began)
        self._listening = False

    async def append(self, entry: Entry, claim: Claim | None = None) -> Receipt:
        await self._backlog.room()
        # From here on nothing waits.
        receipt = self._receipts.get(entry.id)
        if receipt is not None:
            return receipt
        if claim is None:
            receipt = self._publish(entry)
        else:
            digest = self._claims.check(claim)
            receipt = self._claims.first_receipt(claim) or self._publish(entry)
            self._claims.keep(claim, digest, receipt)
        self._receipts.put(entry.id, receipt)
        return receipt

    async def subscribe(self, addresses: Collection[Address]) -> Position:
        self._subscribed.update(addresses)
        return self._newest

    async def unsubscribe(self, addresses: Collection[Address]) -> None:
        self._subscribed.difference_update(addresses)

    async def listen(self, deliver: Deliver) -> None:
        if self._listening:
            raise RuntimeError("a broker has one listener, once")
        self._listening = True
        while True:
            entry, position = await self._backlog.take()
            await deliver(entry, position)

    async def history(
        self, after: Position, addresses: Collection[Address], *, max_entries: int, max_bytes: int
    ) -> Page:
        positions.parse(after)
        records, more = self._history.read(after, addresses, max_entries=max_entries, max_bytes=max_bytes)
        return Page(
            entries=tuple((record.position, record.entry) for record in records),
            upto=records[-1].position if more else self._newest,
            more=more,
            gap=self._gap(after, addresses),
        )

    async def newest(self) -> Position:
        return self._newest

    def _gap(self, after: Position, addresses: Collection[Address]) -> str | None:
        if after != positions.START and not self._began <= positions.order(after) <= self._order:
            return DATA_LOST  # handed out by another process: what it held ended with it
        return HISTORY_TRIMMED if self._history.trimmed(after, addresses) else None

    def _publish(self, entry: Entry) -> Receipt:
        if isinstance(entry, Kick) and entry.revoke:
            self._revocations.revoke(entry.user, entry.at)  # first, because it may refuse
        addresses = entry.addresses
        size = json_bytes(entry)
        if not is_volatile(entry):
            self._order = positions.following(self._order, int(self._clock.now() * 1000))
            self._newest = positions.position_at(self._order)
            self._history.add(entry, self._newest, self._order, addresses, size)
        if not self._subscribed.isdisjoint(addresses):
            self._backlog.put(entry, self._newest, size)
        return Receipt(
            entry.id, self._newest, self._presence.connections_at(addresses), count_is_exact(entry)
        )
