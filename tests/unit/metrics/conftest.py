"""The first scrape of a real gateway with Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import Metric

from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.unit.metrics.scraping import families

WEBHOOK: dict[str, Any] = {
    "webhooks": "app=http://127.0.0.1:9/",
    "webhook_secrets": "app:whsec_ZXhhbXBsZS1ob29rLXNlY3JldC1vZi0zMi1ieXRlcyE=",
}


@pytest.fixture(scope="session")
def first_scrape() -> Iterator[dict[str, Metric]]:
    """Every metric family of a replica with Redis before the first client or push, by its name."""
    server = RedisServer()
    gateway = GatewayProcess(redis_url=server.url, namespaces="/,/events", **WEBHOOK)
    yield families(gateway)
    assert gateway.stop() == 0
    server.stop()
