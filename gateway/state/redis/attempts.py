"""Trying again until it works: ever more slowly, and without saying the same each time."""

from __future__ import annotations

import asyncio
from typing import Final

AGAIN_SECONDS: Final = 0.05
MAX_BACKOFF_SECONDS: Final = 1.0


class Attempts:
    """Those since the last one that worked."""

    def __init__(self) -> None:
        self._pause_seconds = AGAIN_SECONDS
        self._reason = ""

    def worked(self) -> None:
        """What fails from now on is something new."""
        self._pause_seconds, self._reason = AGAIN_SECONDS, ""

    def failed(self, reason: str) -> bool:
        """One did not work; whether for another reason than the one before, and so worth a line."""
        is_new, self._reason = reason != self._reason, reason
        return is_new

    async def pause(self) -> None:
        """Wait until it is time for the next."""
        await asyncio.sleep(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, MAX_BACKOFF_SECONDS)
