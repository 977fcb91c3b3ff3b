"""The fixture ``services``."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.unit.services.harness import Services


@pytest_asyncio.fixture
async def services() -> AsyncIterator[Services]:
    services = Services()
    yield services
    await services.close()
