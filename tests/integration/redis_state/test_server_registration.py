"""A server that may have lost nonces takes no request that was signed before it was met."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, NonceReplayed
from tests.integration.redis_state.replicas import append, make, replicas, until
from tests.support.redis_server import RedisServer


def signed(nonce: str, *, seconds_ahead: float = 0.0) -> DedupKey:
    signed_at = float(int(time.time() + seconds_ahead))
    return DedupKey("shop", nonce, signed_at + 300, signed_at=signed_at)


async def test_a_request_is_not_taken_again_by_a_redis_that_came_back_with_older_data(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        await asyncio.sleep(1.1)  # requests carry whole seconds: this one was signed after the memory began
        server.ask("SAVE")
        used = signed("used")
        await a.state.broker.append(make("room"), used)
        server.restart()

        async with asyncio.timeout(15):
            while True:
                try:
                    await a.state.broker.append(make("room"), used)
                except (BrokerUnavailable, BrokerTimeout) as error:
                    if "sign it anew" in error.message:
                        break
                else:
                    pytest.fail("it was taken twice")
                await asyncio.sleep(0.05)
        await append(a, make("room"), signed("new", seconds_ahead=2))


async def test_a_new_connection_to_the_same_server_leaves_the_memory_as_it_is(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        began_at = a.state.dedup.began_at
        used = signed("used", seconds_ahead=2)
        await a.state.dedup.consume_nonce(used)
        await asyncio.sleep(1.1)
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: not a.state.commands.is_connected, "the loss is noticed")
        await until(lambda: a.state.commands.is_connected, "it is connected again")
        await a.state.membership.heartbeat()

        assert a.state.dedup.began_at == began_at
        with pytest.raises(NonceReplayed):
            await a.state.dedup.consume_nonce(used)
