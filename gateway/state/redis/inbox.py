"""What came on channels and was not handed over yet."""

from __future__ import annotations

import asyncio
from collections import deque


class Interruption:
    """Something was missed here: what follows is handed over after the log was read up to it.

    ``over`` is set once reading may begin: everything is ``heard`` again, or will not be on this connection.
    """

    __slots__ = ("heard", "over")

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.heard = False


Item = tuple[bytes, bytes] | Interruption
"""A channel and what was published on it, or a gap in between."""


class Inbox:
    """A bounded queue, first in, first out.

    Where it would grow too long it is emptied, and everything in it is read from the log later: that is as good, and
    Redis keeps what this process need not.
    """

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self.overflows = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, channel: bytes, data: bytes) -> None:
        """Something was published."""
        if len(self._items) >= self._max_entries or self._bytes + len(data) > self._max_bytes:
            self._empty()
        self._items.append((channel, data))
        self._bytes += len(data)
        self._arrived.set()

    def interrupt(self, interruption: Interruption) -> None:
        """From here on something may be missing in front of what comes."""
        self._items.append(interruption)
        self._arrived.set()

    async def take(self) -> Item:
        """The oldest, once there is one."""
        items = self._items
        while not items:
            self._arrived.clear()
            await self._arrived.wait()
        item = items.popleft()
        if not isinstance(item, Interruption):
            self._bytes -= len(item[1])
        return item

    def _empty(self) -> None:
        """Drop everything behind an interruption: the last one that there is, since it may not be over yet."""
        last = next((item for item in reversed(self._items) if isinstance(item, Interruption)), None)
        if last is None:
            last = Interruption()
            last.over.set()
        self._items.clear()
        self._items.append(last)
        self._bytes = 0
        self.overflows += 1
