"""Fixtures of the transport tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from tests.support.clock import FakeSchedule
from tests.unit.transport.recording import RecordingObserver

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
def schedule() -> FakeSchedule:
    return FakeSchedule()


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, LoopFactory]:
    """Run the asynchronous tests on the loop of production and on Python's own."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
