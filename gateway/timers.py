"""The clock, and the timers of the whole process: one heap on one timer of the event loop.

Ten thousand heartbeats as timers of the loop would be ten thousand handles to create and cancel. Here a timer is a
small entry of the heap, and cancelling it only empties the entry.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import count
from typing import Final

import structlog

_COMPACT_FROM: Final = 1024

log = structlog.get_logger(__name__)


class SystemClock:
    """The clocks of the machine; satisfies ``gateway.interfaces.Clock``."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class TimerEntry:
    """An action that is due at some time; satisfies ``gateway.interfaces.Timer``."""

    __slots__ = ("_heap", "action")

    def __init__(self, heap: TimerHeap, action: Callable[[], None]) -> None:
        self._heap = heap
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Drop the action; does nothing once it has run."""
        if self.action is not None:
            self.action = None
            self._heap.entry_cancelled()


class TimerHeap:
    """Timers on one event loop; satisfies ``gateway.interfaces.Schedule``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, TimerEntry]] = []
        self._tiebreak = count()
        self._cancelled = 0
        self._handle: asyncio.TimerHandle | None = None
        self._wakes_at = float("inf")

    def __len__(self) -> int:
        """How many actions are due later."""
        return len(self._heap) - self._cancelled

    def after(self, delay_seconds: float, action: Callable[[], None]) -> TimerEntry:
        """Call ``action`` after ``delay_seconds``. If it raises, the exception is logged and other timers still run."""
        entry = TimerEntry(self, action)
        due = self._loop.time() + delay_seconds
        heapq.heappush(self._heap, (due, next(self._tiebreak), entry))
        if due < self._wakes_at:
            self._wake_at(due)
        return entry

    def entry_cancelled(self) -> None:
        """Remove the empty entries once they are most of the heap, so that they do not hold memory for long."""
        self._cancelled += 1
        if self._cancelled > _COMPACT_FROM and self._cancelled * 2 > len(self._heap):
            self._heap = [item for item in self._heap if item[2].action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def close(self) -> None:
        """Drop every action."""
        for _, _, entry in self._heap:
            entry.action = None
        self._heap.clear()
        self._cancelled = 0
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._wakes_at = None, float("inf")

    def _wake_at(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._wakes_at = due
        self._handle = self._loop.call_at(due, self._run_due)

    def _run_due(self) -> None:
        self._handle, self._wakes_at = None, float("inf")
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)[2]
            action, entry.action = entry.action, None
            if action is None:
                self._cancelled -= 1
                continue
            try:
                action()
            except Exception:
                log.exception("timer.action_failed")
        if self._heap and self._heap[0][0] < self._wakes_at:
            self._wake_at(self._heap[0][0])
