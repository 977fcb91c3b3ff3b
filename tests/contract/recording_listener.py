"""A listener that a test can wait on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.domain.messages import Address, LogEntry, Message, new_id
from gateway.domain.positions import Position
from gateway.interfaces import Broker

TIMEOUT_SECONDS = 10.0
LAST_ROOM = "the room of last words"


class RecordingListener:
    """Keeps what was handed over, in order."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._heard: list[tuple[Position, LogEntry]] = []
        self._more = asyncio.Condition()

    @property
    def received(self) -> list[tuple[Position, LogEntry]]:
        """What was handed over so far."""
        return list(self._heard)

    async def deliver(self, entry: LogEntry, position: Position) -> None:
        self._heard.append((position, entry))
        async with self._more:
            self._more.notify_all()

    async def first(self, number: int) -> list[tuple[Position, LogEntry]]:
        """The first so many entries, as soon as they are here."""
        async with asyncio.timeout(TIMEOUT_SECONDS), self._more:
            await self._more.wait_for(lambda: len(self._heard) >= number)
        return self._heard[:number]

    async def all_so_far(self) -> list[tuple[Position, LogEntry]]:
        """All that was accepted before this call: a last word is appended, and heard after everything else."""
        word = Message(new_id(), "/", (LAST_ROOM,), "last", ())
        await self._broker.subscribe([Address("/", LAST_ROOM)])
        await self._broker.append(word)
        async with asyncio.timeout(TIMEOUT_SECONDS), self._more:
            await self._more.wait_for(lambda: any(entry == word for _, entry in self._heard))
        return [(position, entry) for position, entry in self._heard if LAST_ROOM not in _rooms(entry)]

    async def entries(self) -> list[LogEntry]:
        """The entries of ``everything``."""
        return [entry for _, entry in await self.all_so_far()]


class BlockedListener(RecordingListener):
    """Hears nothing until it is opened: the callback is stuck in the first entry."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.entered = asyncio.Event()
        self.released = asyncio.Event()

    async def deliver(self, entry: LogEntry, position: Position) -> None:
        self.entered.set()
        await self.released.wait()
        await super().deliver(entry, position)


@asynccontextmanager
async def listening(broker: Broker, ear: RecordingListener | None = None) -> AsyncIterator[RecordingListener]:
    """The broker's one listener, as long as the block runs."""
    ear = ear or RecordingListener(broker)
    task = asyncio.create_task(broker.listen(ear.deliver))
    try:
        yield ear
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled(), "the listener ended before the test did"


def _rooms(entry: LogEntry) -> tuple[str, ...]:
    return entry.rooms if isinstance(entry, Message) else ()
