"""Count how often a coroutine yields to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def with_turns(work: Coroutine[Any, Any, Result]) -> tuple[Result, int]:
    """Run ``work``; return its result, and how many turns of the event loop another task had meanwhile."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    try:
        return await work, turns
    finally:
        other.cancel()
