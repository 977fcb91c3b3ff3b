"""Tasks for coroutines that mostly end without waiting. A module of its own, because it goes away with Python 3.11."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

if sys.version_info >= (3, 12):

    def start_eager_task(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start a task that runs at once until it first waits."""
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True, name=name)

else:

    def start_eager_task(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start a task that runs in the next turn of the loop: Python has eager tasks from 3.12 on."""
        return asyncio.Task(work, loop=asyncio.get_running_loop(), name=name)
