"""A gateway at rest, with Redis, as Prometheus sees it first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import Metric

from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.unit.metrics.scraping import families


@pytest.fixture(scope="session")
def first_scrape() -> Iterator[dict[str, Metric]]:
    """Every family that a replica with Redis shows before anything has happened, by its name."""
    server = RedisServer()
    gateway = GatewayProcess(redis_url=server.url, namespaces="/,/events")
    yield families(gateway)
    assert gateway.stop() == 0
    server.stop()
