from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from tests.unit.ingest_api import harness
from tests.unit.ingest_api.harness import AIOHTTP, FAST_PATH, RestApiServer, run_rest_api


@pytest.fixture(autouse=True, params=[AIOHTTP, FAST_PATH])
def code_path(request: pytest.FixtureRequest) -> None:
    """Run each test with both code paths that a request can take to the REST API."""
    harness.code_path = request.param


@pytest.fixture
async def server() -> AsyncIterator[RestApiServer]:
    """A server with one ingest key that has every scope."""
    async with run_rest_api() as server:
        yield server


@pytest.fixture
def log_lines() -> Iterator[list[Any]]:
    """The log lines that are written during the test."""
    with structlog.testing.capture_logs() as captured:
        yield captured
