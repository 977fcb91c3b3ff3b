"""The requests of one webhook that may be in flight, and those that wait for one of them to end."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.domain.errors import CallDropped, ClientEventRejected

WAITING_PER_REQUEST: Final = 4
"""How many requests may wait, for each that may be in flight."""


class Slots:
    """A fixed number of slots, taken in turn. A request that is no longer wanted gets none.

    Unwanted requests leave when their turn comes, or sooner where their place is needed.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self.in_flight = 0
        self._waiting: OrderedDict[asyncio.Future[bool], Callable[[], bool]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def check(self) -> None:
        """Raise ClientEventRejected (``busy``) if a request could neither be sent now nor wait."""
        if self.in_flight < self._number or self.waiting < WAITING_PER_REQUEST * self._number:
            return
        self._drop_unwanted()
        if self.waiting >= WAITING_PER_REQUEST * self._number:
            raise ClientEventRejected("busy", "too many events wait for the backend", retry_after_seconds=1)

    async def take(self, is_wanted: Callable[[], bool]) -> None:
        """Wait for a slot. The caller releases it.

        Raises: CallDropped, and has no slot then.
        """
        if self.in_flight < self._number:
            self.in_flight += 1
        else:
            await self._wait(is_wanted)
        if not is_wanted():
            self.release()
            raise CallDropped

    def release(self) -> None:
        """Pass a slot to the wanted request that has waited for the longest, if there is one."""
        while self._waiting:
            turn, is_wanted = self._waiting.popitem(last=False)
            if turn.done():
                continue
            turn.set_result(is_wanted())
            if turn.result():
                return
        self.in_flight -= 1

    async def _wait(self, is_wanted: Callable[[], bool]) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = is_wanted
        try:
            has_slot = await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled() and turn.result():
                self.release()
            raise
        if not has_slot:
            raise CallDropped

    def _drop_unwanted(self) -> None:
        for turn in [turn for turn, is_wanted in self._waiting.items() if not is_wanted()]:
            del self._waiting[turn]
            if not turn.done():
                turn.set_result(False)
