"""The queue of entries that were accepted and not delivered yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.messages import LogEntry
from gateway.domain.positions import Position

FEW_DELIVERIES: Final = 32
"""An entry with so many deliveries never waits for those before it: it takes no time worth to speak of."""
MAX_DELIVERIES: Final = 100_000
"""About 0.1 s of the event loop: the frames of a row of messages are joined, and one more for a socket takes 0.7 µs."""
MAX_DELIVERIES_WAIT_SECONDS: Final = 5.0
"""An append is never rejected for its deliveries, and its caller may wait for 10 s."""


class _Space(NamedTuple):
    """The space that the entries of one append take in the queue."""

    entries: int
    bytes_before_last: int
    bytes: int


class DeliveryQueue:
    """A bounded queue from ``MemoryBroker.append`` to its listener, first in, first out.

    There is space for an entry while it holds fewer than ``max_entries`` and less than ``max_bytes``, so that an entry
    of any size fits into an empty queue. There is space for a batch if there is for each of its entries in a row.

    The queue is behind while its entries have more than ``max_deliveries`` to make, one for each recipient. Appends to
    many wait until it is not, so that a message to few is not delivered after a long row of broadcasts.
    """

    def __init__(
        self,
        *,
        max_entries: int,
        max_bytes: int,
        wait_seconds: float,
        max_deliveries: int = MAX_DELIVERIES,
        deliveries_wait_seconds: float = MAX_DELIVERIES_WAIT_SECONDS,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._wait_seconds = wait_seconds
        self._max_deliveries = max_deliveries
        self._deliveries_wait_seconds = deliveries_wait_seconds
        self._queue: deque[tuple[LogEntry, Position, int, int]] = deque()
        self._bytes = 0
        self.deliveries = 0
        """Those that the entries in the queue have to make."""
        self._behind: deque[tuple[asyncio.Future[None], int]] = deque()
        """Appends that wait until the queue is not behind, and their deliveries."""
        self._granted = 0
        """Deliveries of appends that were woken and have not run yet."""
        self._not_empty = asyncio.Event()
        self._listener_waits = False
        self._failure: Exception | None = None
        self._waiting: deque[tuple[asyncio.Future[None], _Space]] = deque()
        self._reserved = self._reserved_bytes = 0
        """Space of appends that were woken and have not run yet."""

    def __len__(self) -> int:
        return len(self._queue)

    async def wait_for_space(self, sizes: Sequence[int]) -> None:
        """Return when there is space; it is reserved for the caller until it awaits anything else.

        ``sizes`` are the bytes of the arguments of each entry.

        Appends that wait get space in turn, as many in one turn of the event loop as there is space for.

        Raises: BrokerUnavailable when there was none for ``wait_seconds``, and at once for a batch that an empty queue
            has no space for.
        """
        number, before_last = len(sizes), sum(sizes[:-1])
        if not self._waiting and self._has_space(number, before_last):
            return
        if number > self._max_entries or before_last >= self._max_bytes:
            raise BrokerUnavailable("the messages are more than the queue of this replica can hold")
        loop = asyncio.get_running_loop()
        space = _Space(number, before_last, before_last + sizes[-1])
        woken = loop.create_future()
        self._waiting.append((woken, space))
        try:
            async with asyncio.timeout(self._wait_seconds):
                await woken
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"this replica was too busy to take a message for {self._wait_seconds} s"
            ) from error
        finally:
            if woken.done() and not woken.cancelled():
                # After the entry was put, or was not for this replica.
                loop.call_soon(self._release, space)
            else:
                # It may have been a batch, and there may be space for what waited behind it.
                self._wake()

    @property
    def has_deliveries(self) -> bool:
        """Whether entries before the next one have deliveries to make."""
        return self.deliveries + self._granted > 0

    def is_behind(self, deliveries: int) -> bool:
        """Whether an append with so many deliveries has to wait for those before it."""
        return deliveries > FEW_DELIVERIES and (bool(self._behind) or self._has_too_many(deliveries))

    async def wait_for_deliveries(self, deliveries: int) -> None:
        """Return when the queue is not behind for so many more deliveries, or after a limited time.

        Appends that wait continue in turn. One whose deliveries alone are too many continues when no other waits.
        """
        if not self.is_behind(deliveries):
            return
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        self._behind.append((woken, deliveries))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._deliveries_wait_seconds):
                    await woken
        finally:
            if woken.done() and not woken.cancelled():
                # After the entry was put, or was not for this replica.
                loop.call_soon(self._release_deliveries, deliveries)
            else:
                self._wake_behind()

    def has_space(self) -> bool:
        """Whether the append of one entry need not wait."""
        return not self._waiting and self._has_space(1, 0)

    def put(self, entry: LogEntry, position: Position, size: int, deliveries: int) -> None:
        """Queue an entry whose arguments are ``size`` bytes long, and that is for so many connections."""
        self._queue.append((entry, position, size, deliveries))
        self._bytes += size
        self.deliveries += deliveries
        self._not_empty.set()

    def fail(self, error: Exception) -> None:
        """Let the listener raise an error of a delivery that it did not make itself."""
        self._failure = error
        self._not_empty.set()

    @property
    def is_idle(self) -> bool:
        """Whether everything was delivered: the listener waits for the next entry."""
        return self._listener_waits and not self._queue and self._failure is None

    async def wait_for_entry(self) -> None:
        """Return once there is an entry. Raises: the error given to ``fail``."""
        self._listener_waits = True
        try:
            while not self._queue and self._failure is None:
                self._not_empty.clear()
                await self._not_empty.wait()
        finally:
            self._listener_waits = False
        if self._failure is not None:
            raise self._failure

    def take(self) -> tuple[LogEntry, Position]:
        """Remove and return the oldest entry. Raises: IndexError if there is none."""
        entry, position, size, deliveries = self._queue.popleft()
        self._bytes -= size
        self.deliveries -= deliveries
        if self._behind:
            self._wake_behind()
        waiting = self._waiting
        if waiting and len(self._queue) + self._reserved + waiting[0][1].entries <= self._max_entries:
            self._wake()
        return entry, position

    def _has_space(self, entries: int, bytes_before_last: int) -> bool:
        return (
            len(self._queue) + self._reserved + entries <= self._max_entries
            and self._bytes + self._reserved_bytes + bytes_before_last < self._max_bytes
        )

    def _has_too_many(self, deliveries: int) -> bool:
        before = self.deliveries + self._granted
        return before > 0 and before + deliveries > self._max_deliveries

    def _wake_behind(self) -> None:
        """Continue the appends that have waited for the longest while the queue is not behind."""
        while self._behind:
            woken, deliveries = self._behind[0]
            if not woken.done() and self._has_too_many(deliveries):
                return
            self._behind.popleft()
            if not woken.done():
                self._granted += deliveries
                woken.set_result(None)

    def _release_deliveries(self, deliveries: int) -> None:
        self._granted -= deliveries
        self._wake_behind()

    def _wake(self) -> None:
        """Reserve what space there is for the appends that have waited for the longest."""
        while self._waiting:
            woken, space = self._waiting[0]
            if not woken.done() and not self._has_space(space.entries, space.bytes_before_last):
                return
            self._waiting.popleft()
            if not woken.done():
                self._reserved += space.entries
                self._reserved_bytes += space.bytes
                woken.set_result(None)

    def _release(self, space: _Space) -> None:
        self._reserved -= space.entries
        self._reserved_bytes -= space.bytes
        self._wake()
