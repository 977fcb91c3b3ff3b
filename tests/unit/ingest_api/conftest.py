from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from tests.unit.ingest_api import harness
from tests.unit.ingest_api.harness import LONG, SHORT, Door, running


@pytest.fixture(autouse=True, params=[LONG, SHORT])
def way(request: pytest.FixtureRequest) -> None:
    """Everything holds for both ways that requests take."""
    harness.way = request.param


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """A door with one key that may do everything."""
    async with running() as door:
        yield door


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged meanwhile."""
    with structlog.testing.capture_logs() as captured:
        yield captured
