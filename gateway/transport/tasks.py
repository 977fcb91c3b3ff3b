"""Tasks for what mostly needs none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any


def start_soon(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    """A task that runs at once as far as it comes, where Python can (3.12), else in the next turn of the loop."""
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True, name=name)
    return loop.create_task(work, name=name)
