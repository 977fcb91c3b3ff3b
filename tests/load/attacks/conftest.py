"""Servers that the tests of attacks need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.redis_server import RedisServer


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis server of one test."""
    server = RedisServer()
    yield server
    server.stop()
