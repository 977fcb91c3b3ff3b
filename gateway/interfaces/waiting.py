"""Waiting by the schedule of the process, so that tests decide how time passes."""

from __future__ import annotations

import asyncio

from gateway.domain.clocks import Schedule


async def sleep(schedule: Schedule, seconds: float) -> None:
    """Return after the delay. A wait that is cancelled leaves no timer."""
    woken = asyncio.Event()
    timer = schedule.after(seconds, woken.set)
    try:
        await woken.wait()
    finally:
        timer.cancel()
