"""A push to one user costs only the replicas that hold that user."""

from __future__ import annotations

import asyncio
from itertools import count

from gateway.state.redis.redis_keys import RedisKeys
from tests.contract.values import at
from tests.integration.redis_state.replicas import PREFIX, ids, replicas, until
from tests.support.redis_server import RedisServer

CHANNEL = RedisKeys(PREFIX).channel(at("user:ann"))


async def test_only_the_replica_that_holds_a_user_hears_of_it(server: RedisServer) -> None:
    async with replicas(server, "a", "b", "c") as [a, b, c]:
        await b.subscribe("user:ann")

        assert server.numsub(CHANNEL) == 1
        news = [await a.push("user:ann") for _ in range(20)]
        await b.hears(*news)

        assert (ids(a.heard), ids(c.heard)) == ([], [])
        deliveries = [replica.state.log_reader.messages_received for replica in (a, c)]
        assert deliveries == [0, 0]


async def test_a_channel_is_left_a_little_after_the_last_one_here(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("user:ann")
        await a.state.broker.unsubscribe([at("user:ann")])
        assert server.numsub(CHANNEL) == 1

        await until(lambda: server.numsub(CHANNEL) == 0, "it is left")


async def test_who_comes_back_at_once_finds_the_channel_still_there(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("user:ann", "user:bob")
        await a.state.broker.unsubscribe([at("user:ann"), at("user:bob")])
        await a.subscribe("user:ann")

        await until(
            lambda: server.numsub(RedisKeys(PREFIX).channel(at("user:bob"))) == 0, "the other is left"
        )

        assert server.numsub(CHANNEL) == 1
        await a.hears(await a.push("user:ann"))


async def test_many_subscriptions_at_once_are_all_confirmed(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        rooms = [f"room{number}" for number in range(3_000)]
        await a.subscribe(*rooms)

        assert server.numsub(RedisKeys(PREFIX).channel(at("room2999"))) == 1
        a.state.subscriber.reconnect()
        await a.hears(await a.push("room0"), await a.push("room2999"))


async def test_a_new_connection_is_heard_although_clients_keep_coming(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room")

        async def keep_coming() -> None:
            for number in count():
                await b.subscribe(f"of client {number}")

        coming = [asyncio.create_task(keep_coming()) for _ in range(5)]
        for _ in range(5):
            b.state.subscriber.reconnect()
            await b.hears(await a.push("room"))

        for task in coming:
            task.cancel()
        await asyncio.wait(coming)
        assert len(b.heard) == 5


async def test_who_gives_up_entering_a_room_leaves_it_to_who_does_not(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        first = asyncio.create_task(a.subscribe("room"))
        second = asyncio.create_task(a.subscribe("room"))
        await asyncio.sleep(0)
        first.cancel()

        await second

        await a.hears(await a.push("room"))
