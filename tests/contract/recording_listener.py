"""A listener that a test can wait on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.domain.messages import Address, LogEntry, Message, new_id
from gateway.domain.positions import Position
from gateway.interfaces import Broker
from tests.support.waiter import TIMEOUT_SECONDS

MARKER_ROOM = "marker"


class RecordingListener:
    """Keeps the delivered entries, in order."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._received: list[tuple[Position, LogEntry]] = []
        self._changed = asyncio.Event()

    @property
    def received(self) -> list[tuple[Position, LogEntry]]:
        """The entries delivered so far, with their positions."""
        return list(self._received)

    async def deliver(self, entry: LogEntry, position: Position, *, more: bool) -> None:
        self.record(entry, position)

    def record(self, entry: LogEntry, position: Position) -> None:
        """Keep a delivered entry; wake the waiting tests."""
        self._received.append((position, entry))
        self._changed.set()

    async def first(self, number: int) -> list[tuple[Position, LogEntry]]:
        """Wait for this many entries; return the first ones."""
        await self._wait_until(lambda: len(self._received) >= number)
        return self._received[:number]

    async def all_so_far(self) -> list[tuple[Position, LogEntry]]:
        """Return everything accepted before this call: append a marker and wait until it is delivered."""
        marker = Message(new_id(), "/", (MARKER_ROOM,), "last", ())
        await self._broker.subscribe([Address("/", MARKER_ROOM)])
        await self._broker.append(marker)
        await self._wait_until(lambda: any(entry == marker for _, entry in self._received))
        return [(position, entry) for position, entry in self._received if MARKER_ROOM not in _rooms(entry)]

    async def entries(self) -> list[LogEntry]:
        """Return the entries of ``all_so_far`` without their positions."""
        return [entry for _, entry in await self.all_so_far()]

    async def _wait_until(self, is_reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not is_reached():
                self._changed.clear()
                await self._changed.wait()


class BlockedListener(RecordingListener):
    """Blocks in its first entry until ``released`` is set."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.entered = asyncio.Event()
        self.released = asyncio.Event()

    async def deliver(self, entry: LogEntry, position: Position, *, more: bool) -> None:
        self.entered.set()
        await self.released.wait()
        await super().deliver(entry, position, more=more)


@asynccontextmanager
async def listening(
    broker: Broker, listener: RecordingListener | None = None
) -> AsyncIterator[RecordingListener]:
    """Run the broker's listener for the length of the block."""
    listener = listener or RecordingListener(broker)
    task = asyncio.create_task(broker.listen(listener.deliver))
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled(), "the listener ended before the test did"


def _rooms(entry: LogEntry) -> tuple[str, ...]:
    return entry.rooms if isinstance(entry, Message) else ()
