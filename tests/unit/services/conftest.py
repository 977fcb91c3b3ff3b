"""The fixtures ``services`` and ``setup``."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.unit.services.harness import Services
from tests.unit.services.senders import Setup


@pytest_asyncio.fixture
async def services() -> AsyncIterator[Services]:
    services = Services()
    yield services
    await services.close()


@pytest_asyncio.fixture
async def setup() -> AsyncIterator[Setup]:
    made = Setup()
    yield made
    await made.services.client_events.close()
    await made.services.close()
