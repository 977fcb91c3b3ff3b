"""The part of shared work that this replica does, and steps that are repeated whatever the state answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Final, TypeVar

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.interfaces import Partitions, Schedule, sleep

CLAIM_SECONDS: Final = 1.0
FAILURE_SECONDS: Final = 1.0
"""The pause after a step that failed, so that a state that answers again is not used by all at once."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


class SharedWork:
    """The partitions of one work that this replica owns."""

    def __init__(self, partitions: Partitions, work: str, number: int) -> None:
        self._partitions = partitions
        self._work = work
        self._number = number
        self._owned: frozenset[int] = frozenset()
        self._takes_part = False

    def owned(self) -> frozenset[int]:
        """Return the partitions to work on: none unless the lease of this replica certainly holds."""
        return self._owned if self._owned and self._partitions.holds_lease() else frozenset()

    async def claim(self, is_busy: Callable[[int], bool] = lambda _: False) -> None:
        """Claim a share of the partitions, and release what is too much once it is not busy.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        former = self._owned
        self._takes_part = True
        claim = await self._partitions.claim(self._work, self._number)
        self._owned = claim.owned - claim.surplus
        # Work that began before may last a moment: the partition is released with the next claim at the earliest.
        idle = [each for each in claim.surplus if each not in former and not is_busy(each)]
        if idle:
            await self._partitions.release(self._work, idle)

    async def leave(self) -> None:
        """Give all partitions up, so that other replicas take them at once. Raises nothing.

        If the state does not answer, they take them once the lease of this replica has expired.
        """
        self._owned = frozenset()
        if self._takes_part:
            with suppress(BrokerUnavailable, BrokerTimeout):
                await self._partitions.leave(self._work)
                self._takes_part = False


class Steps:
    """Runs steps again and again while ``active`` is set. A step that the state failed is run again later.

    The first failure of a step is logged, and the next one after a success.
    """

    def __init__(self, active: asyncio.Event, schedule: Schedule, *, work: str) -> None:
        self._active = active
        self._schedule = schedule
        self._work = work
        self._failing: set[str] = set()

    async def repeat(
        self,
        name: str,
        step: Callable[[], Awaitable[object]],
        *,
        seconds: float,
        wake: asyncio.Event | None = None,
    ) -> None:
        """Run a step each ``seconds``, or as soon as ``wake`` is set, until cancelled."""
        while True:
            await self._active.wait()
            if not await self.run(name, step):
                await sleep(self._schedule, FAILURE_SECONDS)
            elif wake is None:
                await sleep(self._schedule, seconds)
            else:
                await self.sleep_until(wake, seconds)

    async def run(self, name: str, step: Callable[[], Awaitable[object]]) -> bool:
        """Run a step once; return whether it succeeded."""
        try:
            await step()
        except (BrokerUnavailable, BrokerTimeout) as error:
            if name not in self._failing:
                log.warning("shared_work.failed", work=self._work, step=name, reason=error.message)
            self._failing.add(name)
            return False
        self._failing.discard(name)
        return True

    async def sleep_until(self, wake: asyncio.Event, seconds: float) -> None:
        """Return after some seconds, or as soon as ``wake`` is set, which is cleared."""
        timer = self._schedule.after(seconds, wake.set)
        try:
            await wake.wait()
        finally:
            timer.cancel()
            wake.clear()


def batches_of(items: Collection[T], size: int) -> list[list[T]]:
    """Return the items in parts of at most ``size``."""
    listed = list(items)
    return [listed[begin : begin + size] for begin in range(0, len(listed), size)]
