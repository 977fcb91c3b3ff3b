"""A clock that a test advances, and memory states with that clock."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.state.memory import MemoryState
from tests.support.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=1_700_000_000.25, ticks=5_000.0)


@pytest.fixture
def make_memory(clock: FakeClock):
    def make(**limits: Any) -> MemoryState:
        given = {"history_length": 1_000, "history_bytes": 1_000_000, "recovery_seconds": 100.0}
        return MemoryState(clock=clock, replica="replica-1", **{**given, **limits})

    return make
