"""Pushes to rooms that had none do not grow Redis beyond what HISTORY_BYTES allows."""

from __future__ import annotations

import asyncio

from tests.load.attacks.fresh_rooms import attack
from tests.load.attacks.measures import MIB, under_attack
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until

HISTORY_BYTES = 4 * MIB
REST_BYTES = 4 * MIB
"""Results by message id and nonces."""
ATTACK_SECONDS = 8


def used(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("memory")["used_memory"])


def pushes(server: RedisServer) -> int:
    return int(server.execute("GET", "sio-gateway:head").split()[4])


async def test_redis_stays_below_its_bound_under_pushes_to_fresh_rooms(redis_server: RedisServer) -> None:
    gateway = GatewayProcess(redis_url=redis_server.url, history_bytes=HISTORY_BYTES)
    try:
        before = used(redis_server)
        samples: list[int] = []
        async with under_attack(attack, gateway):
            await await_until(
                lambda: int(redis_server.execute("XLEN", "sio-gateway:log") or 0) > 20, "pushes are accepted"
            )
            # The attack is large enough to reach the bound.
            while len(samples) < ATTACK_SECONDS or pushes(redis_server) <= 2 * HISTORY_BYTES / 100_000:
                await asyncio.sleep(1)
                samples.append(used(redis_server) - before)
        assert max(samples) < 1.5 * HISTORY_BYTES + REST_BYTES, samples
    finally:
        gateway.stop()
