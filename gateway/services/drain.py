"""Disconnect all clients at an even pace, so that the replicas that they reconnect to can keep up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

Client = TypeVar("Client")

MIN_RATE: Final = 10.0
"""Clients disconnected each second at least. Ten connects a second cost a replica nothing: few clients drain fast."""
LATE_SECONDS: Final = 0.5
"""Clients that fall due within this time may be disconnected together: a busy event loop is always a little late."""
FASTEST: Final = 1.5
"""The fastest pace after a delay, as a multiple of the even pace."""


async def drain(clients: Sequence[Client], disconnect: Callable[[Client], None], *, seconds: float) -> None:
    """Disconnect each client within ``seconds``; return when all were disconnected.

    After the machine stood still it takes a little longer, rather than disconnect many clients at once.
    """
    loop = asyncio.get_running_loop()
    pacer = DrainPacer(len(clients), seconds)
    started_at = loop.time()
    remaining = iter(clients)
    while pacer.left:
        await asyncio.sleep(pacer.next_delay(loop.time() - started_at))
        for _ in range(pacer.take_due(loop.time() - started_at)):
            disconnect(next(remaining))


class DrainPacer:
    """Decides when each of ``count`` clients is disconnected, so that all are within ``seconds``.

    The time is cut into equal slots, one for each client. ``jitter`` (0 to 1) chooses the moment within the slot: so
    replicas that drain together do not act at the same moments, and the pace stays even.
    """

    def __init__(self, count: int, seconds: float, *, jitter: Callable[[], float] = random.random) -> None:
        self.left = count
        self._jitter = jitter
        self._seconds = min(seconds, count / MIN_RATE)
        self._min_slot_seconds = self._seconds / max(1, count) / FASTEST
        self._begin_slot(0.0, self._seconds / max(1, count))

    def next_delay(self, elapsed_seconds: float) -> float:
        """Return the seconds until the next client is due, ``elapsed_seconds`` after the drain began."""
        return max(0.0, self._due - elapsed_seconds)

    def take_due(self, elapsed_seconds: float) -> int:
        """Return how many clients are to be disconnected now."""
        if elapsed_seconds - self._due > LATE_SECONDS:
            self._replan(elapsed_seconds - LATE_SECONDS)
        taken = 0
        while self.left and self._due <= elapsed_seconds:
            taken += 1
            self.left -= 1
            self._begin_slot(self._slot_start + self._slot_seconds, self._slot_seconds)
        return taken

    def _replan(self, start: float) -> None:
        """Spread the remaining clients over the remaining time, instead of disconnecting all that are late at once."""
        self._begin_slot(start, max((self._seconds - start) / self.left, self._min_slot_seconds))

    def _begin_slot(self, start: float, seconds: float) -> None:
        self._slot_start, self._slot_seconds = start, seconds
        self._due = start + seconds * self._jitter()
