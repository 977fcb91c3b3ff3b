"""Whether something lets others have their turns of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def with_turns(work: Coroutine[Any, Any, Result]) -> tuple[Result, int]:
    """What it answers, and how often others had their turn meanwhile."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    try:
        return await work, turns
    finally:
        others.cancel()
