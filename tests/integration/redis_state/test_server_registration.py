"""A server that may have lost nonces accepts no request that was signed before it was registered."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, NonceReplayed
from tests.integration.redis_state.replicas import append_until_accepted, make, nonces_have_begun, replicas
from tests.support.redis_server import RedisServer
from tests.support.waiter import TIMEOUT_SECONDS, await_until


def signed(nonce: str) -> DedupKey:
    signed_at = float(int(time.time()))
    return DedupKey("shop", nonce, signed_at + 300, signed_at=signed_at)


async def test_request_is_not_accepted_twice_by_a_redis_restarted_with_older_data(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        await await_until(lambda: time.time() > a.state.dedup.began_at, "the memory of nonces has begun")
        server.execute("SAVE")
        used = signed("used")
        await a.state.broker.append(make("room"), used)
        server.restart()

        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                try:
                    await a.state.broker.append(make("room"), used)
                except (BrokerUnavailable, BrokerTimeout) as error:
                    if "sign it anew" in error.message:
                        break
                else:
                    pytest.fail("it was accepted twice")
                await asyncio.sleep(0.05)
        await append_until_accepted(a, make("room"), lambda: signed("new"))


async def test_new_connection_to_the_same_server_keeps_the_memory_of_nonces(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        began_at = a.state.dedup.began_at
        await nonces_have_begun(a)
        used = signed("used")
        await a.state.dedup.consume_nonce(used)
        await await_until(lambda: time.time() > began_at + 1, "a memory that began now would begin later")
        server.execute("CLIENT", "KILL", "TYPE", "normal")
        await await_until(lambda: not a.state.commands.is_connected, "the loss is noticed")
        await await_until(lambda: a.state.commands.is_connected, "it is connected again")
        await a.state.membership.heartbeat()

        assert a.state.dedup.began_at == began_at
        with pytest.raises(NonceReplayed):
            await a.state.dedup.consume_nonce(used)
