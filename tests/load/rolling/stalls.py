"""Measure for how long the machine did not run this process: clients that reconnect at once after that are not the
gateway's fault."""

from __future__ import annotations

import threading
import time
from types import TracebackType

INTERVAL_SECONDS = 0.05
STALL_SECONDS = 0.25
"""A shorter delay occurs on any busy machine."""


class StallMonitor:
    """Reads the clock every 50 ms in a thread and records each delay; used as a context."""

    def __init__(self) -> None:
        self._stalls: list[tuple[float, float]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stalls", daemon=True)

    def __enter__(self) -> StallMonitor:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def longest(self, *, since: float, until: float) -> float:
        """Return the seconds of the longest stall that overlaps this interval of Unix seconds."""
        return max(
            (seconds for at, seconds in self._stalls if since <= at + seconds and at < until), default=0.0
        )

    def _run(self) -> None:
        while not self._stopped.is_set():
            at = time.time()
            self._stopped.wait(INTERVAL_SECONDS)
            late = time.time() - at - INTERVAL_SECONDS
            if late > STALL_SECONDS:
                self._stalls.append((at, late))
