"""How long the machine stood still meanwhile: what comes in one go after that is not the doing of a gateway."""

from __future__ import annotations

import threading
import time
from types import TracebackType

LOOK_SECONDS = 0.05
LONG_SECONDS = 0.25
"""A shorter delay is that of any busy machine."""


class Standstills:
    """Looks at the clock all the time, in a thread; used as a context."""

    def __init__(self) -> None:
        self._found: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="standstills", daemon=True)

    def __enter__(self) -> Standstills:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def longest(self, *, since: float, until: float) -> float:
        """The seconds of the longest one that touches this time; moments are Unix seconds."""
        return max(
            (seconds for at, seconds in self._found if since <= at + seconds and at < until), default=0.0
        )

    def _look(self) -> None:
        while not self._over.is_set():
            at = time.time()
            self._over.wait(LOOK_SECONDS)
            late = time.time() - at - LOOK_SECONDS
            if late > LONG_SECONDS:
                self._found.append((at, late))
