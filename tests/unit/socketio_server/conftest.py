"""A harness for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.unit.socketio_server.harness import ServerHarness


@pytest_asyncio.fixture
async def harness() -> AsyncIterator[ServerHarness]:
    harness = ServerHarness()
    yield harness
    await harness.services.close()
