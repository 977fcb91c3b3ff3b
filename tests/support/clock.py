"""A clock and timers that a test moves: the only fakes of time."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count


class FakeClock:
    """Satisfies ``Clock``. ``wall`` is in seconds since 1970, ``ticks`` is the monotonic time.

    It stands still between two calls of ``advance``, unless ``running``: then real time passes as well.
    """

    def __init__(self, wall: float = 1_700_000_000.0, ticks: float = 0.0, *, running: bool = False) -> None:
        self.wall = wall
        self.ticks = ticks
        self._running = running
        self._started = time.monotonic()

    def now(self) -> float:
        return self.wall + self._passed()

    def monotonic(self) -> float:
        return self.ticks + self._passed()

    def advance(self, seconds: float) -> None:
        """Move both times."""
        self.wall += seconds
        self.ticks += seconds

    def set_back(self, seconds: float) -> None:
        """Move the wall clock to an earlier time."""
        self.wall -= seconds

    def _passed(self) -> float:
        return time.monotonic() - self._started if self._running else 0.0


class FakeTimer:
    """Satisfies ``Timer``."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class FakeSchedule:
    """Satisfies ``Schedule`` on the time of ``clock``; its length is the number of timers that are due later."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self._heap: list[tuple[float, int, FakeTimer]] = []
        self._tiebreak = count()

    def __len__(self) -> int:
        return sum(timer.action is not None for _, _, timer in self._heap)

    def after(self, delay_seconds: float, action: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(action)
        heapq.heappush(self._heap, (self.clock.ticks + delay_seconds, next(self._tiebreak), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move the clock, and run each action when the clock shows its time."""
        end = self.clock.ticks + seconds
        while self._heap and self._heap[0][0] <= end:
            due, _, timer = heapq.heappop(self._heap)
            self.clock.advance(due - self.clock.ticks)
            action, timer.action = timer.action, None
            if action is not None:
                action()
        self.clock.advance(end - self.clock.ticks)
