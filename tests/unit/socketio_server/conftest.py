"""A doorway for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.unit.socketio_server.harness import Doorway


@pytest_asyncio.fixture
async def doorway() -> AsyncIterator[Doorway]:
    doorway = Doorway()
    yield doorway
    await doorway.house.close()
