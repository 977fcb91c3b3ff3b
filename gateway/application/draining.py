"""Asks everybody to leave at an even pace, so that those who take them over can keep up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

Guest = TypeVar("Guest")

SLOWEST_PACE: Final = 10.0
"""Guests asked each second at least. Ten more each second are nothing to any replica, so a few need no long drain."""
LATE_SECONDS: Final = 0.1
"""Who is late by less is asked at once. A busy event loop is always a little late, and must not slow the pace down."""
FASTEST: Final = 1.5
"""Never more than so many times the even pace, however late it is."""


async def ask_one_by_one(guests: Sequence[Guest], ask: Callable[[Guest], None], *, seconds: float) -> None:
    """Ask each of them to leave, within ``seconds``; returns when all were asked.

    Where the machine stood still meanwhile, it takes a little longer rather than send many off at once.
    """
    loop = asyncio.get_running_loop()
    pace = Pace(len(guests), seconds)
    begun = loop.time()
    for guest in guests:
        await asyncio.sleep(pace.next_pause(loop.time() - begun))
        ask(guest)


class Pace:
    """How long to wait before each of ``count`` guests is asked, so that all are asked within ``seconds``.

    The time is cut into equal shares, and each is asked at a moment of a share of its own that ``jitter`` (0 to 1)
    chooses: so replicas that drain side by side do not fall into step, and the pace stays even all the same.
    """

    def __init__(self, count: int, seconds: float, *, jitter: Callable[[], float] = random.random) -> None:
        self._left = count
        self._seconds = min(seconds, count / SLOWEST_PACE)
        self._share = self._seconds / max(1, count)
        self._shortest = self._share / FASTEST
        self._share_begins = 0.0
        self._jitter = jitter

    def next_pause(self, gone_by: float) -> float:
        """Seconds until the next one is asked; ``gone_by`` since the drain began."""
        if gone_by - self._share_begins > LATE_SECONDS:
            self._cut_anew(gone_by)
        due = self._share_begins + self._share * self._jitter()
        self._share_begins += self._share
        self._left -= 1
        return max(0.0, due - gone_by)

    def _cut_anew(self, gone_by: float) -> None:
        """Share what is left of the time among those who are left, instead of asking all who are late at once."""
        self._share_begins = gone_by
        self._share = max((self._seconds - gone_by) / self._left, self._shortest)
