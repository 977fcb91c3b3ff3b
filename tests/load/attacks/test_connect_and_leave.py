"""A user who connects and leaves in a loop makes no queue, and no closed connection is counted."""

from __future__ import annotations

import asyncio

from tests.load.attacks.connect_and_leave import SOCKETS, USER, attack
from tests.load.attacks.measures import under_attack
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import await_until

ROUND_TRIP_SECONDS = 0.01
MAX_PARKED = 400
"""Four times MAX_CONNECTIONS_PER_USER."""
ATTACK_SECONDS = 8.0


def counted(gateway: GatewayProcess) -> int:
    """Return how many connections of the attacker a push counts."""
    return int(gateway.push_user(USER, "news", volatile=True)["connections"])


async def test_disconnects_are_recorded_as_fast_as_one_user_leaves(redis_server: RedisServer) -> None:
    with TcpProxy(redis_server.port) as proxy:
        proxy.answer_delay_seconds = ROUND_TRIP_SECONDS
        gateway = GatewayProcess(redis_url=proxy.redis_url, max_connections_per_user=100)
        try:
            async with under_attack(attack, gateway):
                samples = []
                for _ in range(int(ATTACK_SECONDS)):
                    await asyncio.sleep(1)
                    samples.append(await asyncio.to_thread(counted, gateway))
            assert max(samples) <= 2 * SOCKETS, samples
            assert len(redis_server.execute("KEYS", "sio-gateway:left:*")) <= MAX_PARKED

            await await_until(lambda: counted(gateway) == 0, "no closed connection is counted")
        finally:
            gateway.stop()
