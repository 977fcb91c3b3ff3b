"""Tasks for what mostly needs none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

if sys.version_info >= (3, 12):

    def start_eager_task(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """A task that runs at once as far as it comes."""
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True, name=name)

else:

    def start_eager_task(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """A task that runs in the next turn of the loop; Python can do better from 3.12 on."""
        return asyncio.Task(work, loop=asyncio.get_running_loop(), name=name)
