"""However a user connects, it has no more connections than one user may have, and its other sessions can be resumed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.load.attacks import parked_connections
from tests.load.attacks.measures import under_attack
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket, http_session
from tests.support.redis_server import RedisServer

LIMIT = parked_connections.CONNECTIONS
SECONDS = 10.0


@pytest.fixture(params=["memory", "redis"])
def gateway(request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    redis = RedisServer() if request.param == "redis" else None
    process = GatewayProcess(redis_url=None if redis is None else redis.url, max_connections_per_user=LIMIT)
    yield process
    process.stop()
    if redis is not None:
        redis.stop()


async def test_user_that_resumes_parked_connections_stays_within_its_limit(gateway: GatewayProcess) -> None:
    live: list[int] = []
    async with under_attack(parked_connections.attack, gateway):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            presence = await asyncio.to_thread(gateway.backend.presence, parked_connections.USER)
            live.append(len(presence["connections"]))
            await asyncio.sleep(0.05)
        async with http_session() as http:
            other = await RawSocket.open(http, gateway.url)
            await other.join(gateway.token("neighbour"))

    assert 0 < max(live) <= LIMIT
    assert gateway.failures() == []
