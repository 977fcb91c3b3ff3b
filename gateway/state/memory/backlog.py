"""What was accepted and not handed over yet."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.messages import Entry
from gateway.domain.positions import Position


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
