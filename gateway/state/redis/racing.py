"""Tasks that end together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def until_one_ends(**coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all of them, each a task of its name, until the first ends; raise what it raised.

    A task group would do the same, but before Python 3.13 it swallows a cancellation that comes while it ends because
    of an error (cpython#116720), and whoever goes on after errors would then never end.
    """
    tasks = [asyncio.create_task(each, name=f"redis {name}") for name, each in coroutines.items()]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
