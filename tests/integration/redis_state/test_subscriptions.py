"""A message to one user costs only the replicas with connections of that user."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from gateway.domain.errors import BrokerUnavailable
from gateway.state.redis.redis_keys import RedisKeys
from tests.contract.values import at
from tests.integration.redis_state.replicas import PREFIX, ids, replicas
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until

CHANNEL = RedisKeys(PREFIX).channel(at("user:ann"))


async def test_message_for_a_user_reaches_only_the_replica_with_that_user(server: RedisServer) -> None:
    async with replicas(server, "a", "b", "c") as [a, b, c]:
        await b.subscribe("user:ann")

        assert server.numsub(CHANNEL) == 1
        news = [await a.push("user:ann") for _ in range(20)]
        await b.receives(*news)

        assert (ids(a.received), ids(c.received)) == ([], [])
        deliveries = [replica.state.log_reader.messages_received for replica in (a, c)]
        assert deliveries == [0, 0]


async def test_channel_is_unsubscribed_after_a_delay(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("user:ann")
        await a.state.broker.unsubscribe([at("user:ann")])
        assert server.numsub(CHANNEL) == 1

        await await_until(lambda: server.numsub(CHANNEL) == 0, "it is unsubscribed")


async def test_channel_subscribed_again_within_the_delay_stays_subscribed(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("user:ann", "user:bob")
        await a.state.broker.unsubscribe([at("user:ann"), at("user:bob")])
        await a.subscribe("user:ann")

        await await_until(
            lambda: server.numsub(RedisKeys(PREFIX).channel(at("user:bob"))) == 0,
            "the other one is unsubscribed",
        )

        assert server.numsub(CHANNEL) == 1
        await a.receives(await a.push("user:ann"))


async def test_subscribing_fails_at_once_while_redis_is_known_to_be_unavailable(server: RedisServer) -> None:
    async with replicas(server, "a", timeout_seconds=1.0) as [a]:
        await a.subscribe("user:ann")
        server.kill()
        await await_until(lambda: a.state.commands.is_unavailable, "it is known")

        async with asyncio.timeout(a.state.timeout_seconds):
            for number in range(1_000):
                with pytest.raises(BrokerUnavailable):
                    await a.subscribe(f"room{number}")
        server.start()
        await await_until(lambda: a.state.subscriber.is_connected, "the channels are subscribed again")
        await await_until(lambda: server.numsub(CHANNEL) == 1, "the room that is needed is subscribed")
        assert server.numsub(RedisKeys(PREFIX).channel(at("room999"))) == 0


async def test_many_subscriptions_in_one_call_are_all_confirmed(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        rooms = [f"room{number}" for number in range(3_000)]
        await a.subscribe(*rooms)

        assert server.numsub(RedisKeys(PREFIX).channel(at("room2999"))) == 1
        a.state.subscriber.reconnect()
        await a.receives(await a.push("room0"), await a.push("room2999"))


async def test_new_channel_connection_delivers_while_subscriptions_continue(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room")

        async def keep_subscribing() -> None:
            for number in count():
                await b.subscribe(f"of client {number}")

        subscribing = [asyncio.create_task(keep_subscribing()) for _ in range(5)]
        for _ in range(5):
            b.state.subscriber.reconnect()
            await b.receives(await a.push("room"))

        for task in subscribing:
            task.cancel()
        await asyncio.wait(subscribing)
        assert len(b.received) == 5


async def test_cancelled_subscription_does_not_affect_a_concurrent_one(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        first = asyncio.create_task(a.subscribe("room"))
        second = asyncio.create_task(a.subscribe("room"))
        await asyncio.sleep(0)
        first.cancel()

        await second

        await a.receives(await a.push("room"))
