"""Wait, with a time limit, for a condition that nothing announces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

TIMEOUT_SECONDS = 60.0
"""Only a test that fails waits so long. On a busy machine everything takes ten times what it takes on an idle one."""
LOOK_SECONDS = 0.02


def wait_until(holds: Callable[[], bool], description: str, *, seconds: float = TIMEOUT_SECONDS) -> None:
    """Return when the condition holds.

    Raises:
        AssertionError: it does not within ``seconds``; the message has the description.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.1f} s: {description}"
        time.sleep(LOOK_SECONDS)


async def await_until(
    holds: Callable[[], bool],
    description: str,
    *,
    seconds: float = TIMEOUT_SECONDS,
    pause_seconds: float = LOOK_SECONDS,
) -> None:
    """Return when the condition holds, and let the event loop run meanwhile.

    It looks again after ``pause_seconds``; with 0, in each turn of the event loop.

    Raises:
        AssertionError: it does not within ``seconds``; the message has the description.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.1f} s: {description}"
        await asyncio.sleep(pause_seconds)


async def finished(handling: Coroutine[Any, Any, None] | None) -> None:
    """Return when a message of a client is handled (``gateway.transport.session.Handling``)."""
    if handling is not None:
        await handling
