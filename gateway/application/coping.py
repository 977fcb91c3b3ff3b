"""What this replica does while the shared state fails it, and what clients are told of what was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from gateway.domain.condition import Condition
from gateway.domain.endings import DEAF, Ending
from gateway.domain.errors import DATA_LOST
from gateway.hub import Hub
from gateway.ports import Clock, Schedule, Timer

log = structlog.get_logger(__name__)

GAP_EVENT: Final = "recovery:failed"


class Coping:
    """Follows the condition of this replica."""

    def __init__(
        self,
        *,
        hub: Hub,
        schedule: Schedule,
        clock: Clock,
        send_away: Callable[[Ending], None],
        deaf_patience_seconds: float,
        condition: Condition = Condition.HEARING,
    ) -> None:
        """``send_away`` closes every client in the way of an ending; they come back to another replica. A deaf replica
        keeps them for ``deaf_patience_seconds``, since it may hear again. ``condition`` is how it begins.
        """
        self._hub = hub
        self._schedule = schedule
        self._clock = clock
        self._send_away = send_away
        self._deaf_patience_seconds = deaf_patience_seconds
        self._patience: Timer | None = None
        self._gaps: asyncio.Queue[str] = asyncio.Queue()
        self._untold: set[str] = set()
        """What is in the queue: as many as there are codes."""
        self.condition = condition
        self.since = clock.now()

    def became(self, condition: Condition) -> None:
        """The condition is another one from now on."""
        self.condition, self.since = condition, self._clock.now()
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if condition is Condition.DEAF:
            self._patience = self._schedule.after(self._deaf_patience_seconds, self._give_up)

    def gap_found(self, code: str) -> None:
        """Messages to somebody here are missing for good, and ``code`` says why. Of gaps that are found before anybody
        could be told, clients are told once."""
        if code == DATA_LOST:
            self._hub.forget_positions()
        if code not in self._untold:
            self._untold.add(code)
            self._gaps.put_nowait(code)

    async def run(self) -> None:
        """Tell clients of gaps, until cancelled."""
        while True:
            code = await self._gaps.get()
            # One that is found from here on is told again: some have been told already.
            self._untold.discard(code)
            await self._hub.tell_everyone(GAP_EVENT, {"code": code})
            self._gaps.task_done()

    async def settled(self) -> None:
        """Wait until everybody was told of every gap so far."""
        await self._gaps.join()

    def _give_up(self) -> None:
        self._patience = None
        log.error("gateway.deaf", reason="nothing that is published arrives here; clients are sent elsewhere")
        self._send_away(DEAF)
