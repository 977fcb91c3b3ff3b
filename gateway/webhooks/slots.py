"""The requests of one webhook that may be in flight, and those that wait for one of them to end."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.domain.errors import CallDropped, ClientEventRejected

WAITING_PER_REQUEST: Final = 4
"""How many requests may wait, for each that may be in flight."""

_Waiting = OrderedDict[asyncio.Future[bool], tuple[int, Callable[[], bool]]]
"""Requests that wait, with the number of their turn and whether they are still wanted."""


class Slots:
    """A fixed number of slots, taken in turn. A request that is no longer wanted gets none.

    Unwanted requests leave when their turn comes, or sooner where their place is needed. Deliveries have at most half
    of the slots, so that those that hang leave the other half to calls. The only slot of a webhook is for both.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._max_deliveries = max(1, number // 2)
        self._deliveries = 0
        self.in_flight = 0
        self._turns = 0
        self._waiting: _Waiting = OrderedDict()
        self._waiting_deliveries: _Waiting = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether no request is in flight and none waits."""
        return not self.in_flight and not self._waiting and not self._waiting_deliveries

    def check(self) -> None:
        """Raise ClientEventRejected (``busy``) if a call could neither be sent now nor wait."""
        if self.in_flight < self._number or self.waiting < WAITING_PER_REQUEST * self._number:
            return
        self._drop_unwanted()
        if self.waiting >= WAITING_PER_REQUEST * self._number:
            raise ClientEventRejected("busy", "too many events wait for the backend", retry_after_seconds=1)

    async def take(self, is_wanted: Callable[[], bool]) -> None:
        """Wait for the slot of a call. The caller releases it.

        Raises: CallDropped, and has no slot then.
        """
        if self.in_flight < self._number:
            self.in_flight += 1
        else:
            await self._wait(self._waiting, is_wanted, self.release)
        if not is_wanted():
            self.release()
            raise CallDropped

    async def take_for_delivery(self, is_wanted: Callable[[], bool]) -> None:
        """Wait for the slot of a delivery, however many requests wait. The caller releases it.

        Raises: CallDropped, and has no slot then.
        """
        if self.in_flight < self._number and self._deliveries < self._max_deliveries:
            self.in_flight += 1
            self._deliveries += 1
        else:
            await self._wait(self._waiting_deliveries, is_wanted, self.release_delivery)
        if not is_wanted():
            self.release_delivery()
            raise CallDropped

    def release(self) -> None:
        """Pass the slot of a call to the wanted request that has waited for the longest, if there is one."""
        self.in_flight -= 1
        self._pass_on()

    def release_delivery(self) -> None:
        """Pass the slot of a delivery on, as ``release`` does."""
        self._deliveries -= 1
        self.release()

    def _pass_on(self) -> None:
        while self.in_flight < self._number:
            queue = self._next_queue()
            if queue is None:
                return
            turn, (_, is_wanted) = queue.popitem(last=False)
            if turn.done():
                continue
            is_taken = is_wanted()
            if is_taken:
                self.in_flight += 1
                self._deliveries += queue is self._waiting_deliveries
            turn.set_result(is_taken)

    def _next_queue(self) -> _Waiting | None:
        """Return the queue whose first request has waited for longer, of those that may have a slot."""
        calls, deliveries = self._waiting, self._waiting_deliveries
        if not deliveries or self._deliveries >= self._max_deliveries:
            return calls or None
        if not calls:
            return deliveries
        return min(calls, deliveries, key=_first_turn)

    async def _wait(
        self, queue: _Waiting, is_wanted: Callable[[], bool], release: Callable[[], None]
    ) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._turns += 1
        queue[turn] = (self._turns, is_wanted)
        try:
            has_slot = await turn
        except asyncio.CancelledError:
            queue.pop(turn, None)
            if not turn.cancelled() and turn.result():
                release()
            raise
        if not has_slot:
            raise CallDropped

    def _drop_unwanted(self) -> None:
        for turn in [turn for turn, (_, is_wanted) in self._waiting.items() if not is_wanted()]:
            del self._waiting[turn]
            if not turn.done():
                turn.set_result(False)


def _first_turn(queue: _Waiting) -> int:
    number, _ = next(iter(queue.values()))
    return number
