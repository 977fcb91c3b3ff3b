"""Who may read the history next, so that no user takes the time of others by reconnecting."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from itertools import count
from typing import Final

from gateway.domain import positions
from gateway.domain.messages import json_bytes
from gateway.domain.positions import Position
from gateway.interfaces import Clock, Page, Schedule, sleep
from gateway.metrics import MetricFactory

BYTES_PER_SECOND: Final = 8 * 1024 * 1024
"""What the pages of one user may cost in the long run: three to five percent of the time of a replica."""
BURST_BYTES: Final = 64 * 1024 * 1024
"""What they may cost at once: that of some 27 000 small messages, on all connections of the user together."""
ENTRY_BYTES: Final = 2048
"""What an entry costs beside its arguments, sent or not: its name, its frame and the overhead of the loop."""
_STEP_BYTES: Final = 256
"""What it costs to find an entry in the index of one address more."""
_ADDRESS_BYTES: Final = 2048
"""What it costs to search the index of one address."""
_PAGE_BYTES: Final = 64 * 1024
"""What an empty page costs."""
_MAX_CONCURRENT_PAGES: Final = 4
"""Pages that one replica reads at a time, so that pushes and heartbeats get through while many clients reconnect."""


class ReplayBudget:
    """The turns of users at the history of this replica.

    A user reads one page at a time, and has one place in the queue for the _MAX_CONCURRENT_PAGES that are read at once:
    so users take turns, however many connections they have. Pages cost what reading and sending them takes, in bytes. A
    user that has spent BURST_BYTES waits until that is paid, at BYTES_PER_SECOND.

    Of the connections of one user those that connect read first, because their clients wait for the answer, then the
    one that has least left to read. It goes live soon and costs no more. If all read in turn, a user with many
    connections and many messages could fall behind for good: while each waits, all of them miss more than a page.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        schedule: Schedule,
        metrics: MetricFactory,
        bytes_per_second: float = BYTES_PER_SECOND,
        burst_bytes: float = BURST_BYTES,
    ) -> None:
        self._clock = clock
        self._schedule = schedule
        self._bytes_per_second = bytes_per_second
        self._burst_seconds = burst_bytes / bytes_per_second
        self._shares: OrderedDict[str, _Share] = OrderedDict()
        """The users that wait or have not paid yet; those that read last are at the end."""
        self._reading = asyncio.Semaphore(_MAX_CONCURRENT_PAGES)
        self._waiting = 0
        self._delayed = metrics.counter(
            "replay_pages_delayed",
            "Pages of the history that waited because their user had read much before.",
        )
        metrics.callback_gauge(
            "replays_waiting",
            "Connections that wait for their turn to read the history.",
            read=lambda: self._waiting,
        )

    def __len__(self) -> int:
        return len(self._shares)

    @asynccontextmanager
    async def turn(self, user: str, *, after: Position | None = None) -> AsyncIterator[None]:
        """Wait until the user may read a page; the turn ends with the context.

        ``after`` is up to where a connection has read; None for one that connects.
        """
        share = self._shares.setdefault(user, _Share())
        share.turns += 1
        self._waiting += 1
        is_waiting = True
        try:
            await share.begin(after)
            try:
                await self._wait_paid(share)
                async with self._reading:
                    self._waiting -= 1
                    is_waiting = False
                    yield
            finally:
                share.end()
        finally:
            self._waiting -= is_waiting
            share.turns -= 1
            self._forget_paid()

    def charge(self, user: str, page: Page | None = None, *, addresses: int = 0) -> None:
        """Charge a read to its user within ``turn``: of a page for which ``addresses`` were searched, or of another."""
        entries = () if page is None else page.entries
        cost = _PAGE_BYTES + _ADDRESS_BYTES * addresses + ENTRY_BYTES * len(entries)
        cost += sum([json_bytes(entry) + _STEP_BYTES * len(entry.addresses) for _, entry in entries])
        share = self._shares[user]
        share.paid_at = max(share.paid_at, self._clock.monotonic()) + cost / self._bytes_per_second
        self._shares.move_to_end(user)

    async def _wait_paid(self, share: _Share) -> None:
        delay_seconds = share.paid_at - self._burst_seconds - self._clock.monotonic()
        if delay_seconds <= 0:
            return
        self._delayed.count(())
        await sleep(self._schedule, delay_seconds)

    def _forget_paid(self) -> None:
        now = self._clock.monotonic()
        while self._shares:
            user, share = next(iter(self._shares.items()))
            if share.turns or share.paid_at > now:
                return
            del self._shares[user]


class _Share:
    """What one user does: ``turns`` are those that wait or run, ``paid_at`` when everything it read is paid."""

    __slots__ = ("_is_reading", "_numbers", "_queue", "paid_at", "turns")

    def __init__(self) -> None:
        self.paid_at = 0.0
        self.turns = 0
        self._is_reading = False
        self._numbers = count()
        self._queue: list[tuple[tuple[int, int, int], int, asyncio.Future[None]]] = []
        """A heap of those that wait to read, each with its place: connects first, then newer positions."""

    async def begin(self, after: Position | None) -> None:
        """Wait until no other connection of the user reads, and none with a better place waits."""
        if not self._is_reading:
            self._is_reading = True
            return
        turn = asyncio.get_running_loop().create_future()
        heappush(self._queue, (_place(after), next(self._numbers), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.end()  # It was its turn already.
            raise

    def end(self) -> None:
        """Let the next one read."""
        while self._queue:
            _, _, turn = heappop(self._queue)
            if not turn.done():
                turn.set_result(None)
                return
        self._is_reading = False


def _place(after: Position | None) -> tuple[int, int, int]:
    if after is None:
        return 0, 0, 0
    milliseconds, sequence = positions.order(after)
    return 1, -milliseconds, -sequence
