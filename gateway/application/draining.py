"""Asks everybody to leave at an even pace, so that those who take them over can keep up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

Guest = TypeVar("Guest")

SLOWEST_PACE: Final = 10.0
"""Guests asked each second at least. Ten more each second are nothing to any replica, so a few need no long drain."""


async def ask_one_by_one(guests: Sequence[Guest], ask: Callable[[Guest], None], *, seconds: float) -> None:
    """Ask each of them to leave, within ``seconds`` at most; returns when all were asked."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for guest, moment in zip(guests, moments(len(guests), seconds), strict=True):
        await asyncio.sleep(max(0.0, begun + moment - loop.time()))
        ask(guest)


def moments(count: int, seconds: float, jitter: Callable[[], float] = random.random) -> Iterator[float]:
    """When each of ``count`` guests is asked, in seconds from now, rising.

    The time is cut into as many shares, and each is asked at a moment of its own share that ``jitter`` (0 to 1)
    chooses: replicas that drain side by side do not fall into step, and the pace is even all the same.
    """
    share = min(seconds, count / SLOWEST_PACE) / max(1, count)
    return ((number + jitter()) * share for number in range(count))
