"""Asks everybody to leave at an even pace, so that those who take them over can keep up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

Client = TypeVar("Client")

MIN_RATE: Final = 10.0
"""Guests asked each second at least. Ten more each second are nothing to any replica, so a few need no long drain."""
LATE_SECONDS: Final = 0.5
"""Who falls due in this time may be asked at once. A busy event loop is always late, and must not slow the pace."""
FASTEST: Final = 1.5
"""Never more than so many times the even pace, however late it is."""


async def drain(clients: Sequence[Client], disconnect: Callable[[Client], None], *, seconds: float) -> None:
    """Ask each of them to leave, within ``seconds``; returns when all were asked.

    Where the machine stood still meanwhile, it takes a little longer rather than send many off at once.
    """
    loop = asyncio.get_running_loop()
    pace = DrainPacer(len(clients), seconds)
    begun = loop.time()
    waiting = iter(clients)
    while pace.left:
        await asyncio.sleep(pace.next_delay(loop.time() - begun))
        for _ in range(pace.take_due(loop.time() - begun)):
            disconnect(next(waiting))


class DrainPacer:
    """When each of ``count`` guests is asked, so that all are asked within ``seconds``.

    The time is cut into equal shares, and each is asked at a moment of a share of its own that ``jitter`` (0 to 1)
    chooses: so replicas that drain side by side do not fall into step, and the pace stays even all the same.
    """

    def __init__(self, count: int, seconds: float, *, jitter: Callable[[], float] = random.random) -> None:
        self.left = count
        self._jitter = jitter
        self._seconds = min(seconds, count / MIN_RATE)
        self._shortest = self._seconds / max(1, count) / FASTEST
        self._begin_share(0.0, self._seconds / max(1, count))

    def next_delay(self, elapsed_seconds: float) -> float:
        """Seconds until the next one is due; ``gone_by`` since the drain began."""
        return max(0.0, self._due - elapsed_seconds)

    def take_due(self, elapsed_seconds: float) -> int:
        """How many are asked now."""
        if elapsed_seconds - self._due > LATE_SECONDS:
            self._replan(elapsed_seconds - LATE_SECONDS)
        taken = 0
        while self.left and self._due <= elapsed_seconds:
            taken += 1
            self.left -= 1
            self._begin_share(self._share_begins + self._share, self._share)
        return taken

    def _replan(self, begin: float) -> None:
        """Share what is left of the time among those who are left, instead of asking all who are late at once."""
        self._begin_share(begin, max((self._seconds - begin) / self.left, self._shortest))

    def _begin_share(self, begin: float, seconds: float) -> None:
        self._share_begins, self._share = begin, seconds
        self._due = begin + seconds * self._jitter()
