"""A clock that stands still until a test moves it, and states that are told the time by it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.state.memory import MemoryState


class StoppedClock:
    """Both times stand still; ``advance`` moves both."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.25
        self.ticks = 5_000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def make_memory(clock: StoppedClock):
    def make(**limits: Any) -> MemoryState:
        given = {"history_length": 1_000, "history_bytes": 1_000_000, "recovery_seconds": 100.0}
        return MemoryState(clock=clock, replica="replica-1", **{**given, **limits})

    return make
