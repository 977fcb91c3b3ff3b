"""Half-sent requests take a bounded amount of memory, and backends are served meanwhile."""

from __future__ import annotations

import asyncio
import http.client

import pytest

from tests.load.attacks.half_sent_requests import attack
from tests.load.attacks.measures import MIB, peak_rss_bytes, push_latency, rss_bytes, under_attack
from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import TIMEOUT_SECONDS

pytestmark = pytest.mark.timeout(120)

SECONDS = 14.0
"""Longer than the default of REQUEST_TIMEOUT_SECONDS, so that the connections are opened a second time."""
GROWTH = 256 * MIB


def health(gateway: GatewayProcess) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.ports[0], timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status
    finally:
        connection.close()


async def test_half_sent_requests_are_bounded() -> None:
    gateway = GatewayProcess()
    await push_latency(gateway, seconds=1.0)
    before = rss_bytes(gateway.pid)

    async with under_attack(attack, gateway):
        await asyncio.sleep(SECONDS)

        assert await asyncio.to_thread(health, gateway) == 200
        assert (await push_latency(gateway, seconds=1.0)).statuses.keys() == {200}
        assert peak_rss_bytes(gateway.pid) - before < GROWTH

    assert gateway.stop() == 0
    assert gateway.failures() == []
