"""Lost data and forged frames: nothing is delivered twice, and a loss is reported once."""

from __future__ import annotations

import asyncio

from gateway.domain.messages import Message
from gateway.state.redis.redis_keys import RedisKeys
from tests.contract.values import at, newest_position
from tests.integration.redis_state.replicas import PREFIX, Replica, append_until_accepted, ids, make, replicas
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import await_until

ROOM = RedisKeys(PREFIX).channel(at("room"))
MANY = 4_500
"""More entries than the ids that a replica remembers."""


async def push_many(a: Replica, number: int) -> list[Message]:
    news: list[Message] = []
    while len(news) < number:
        news += await asyncio.gather(*(a.push("room") for _ in range(min(500, number - len(news)))))
    await a.receives(*news)
    return news


async def test_loss_of_more_than_the_known_checkpoints_delivers_nothing_twice(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", timeout_seconds=30.0) as [a]:
        await a.subscribe("room")
        await a.push("later")  # before the room is subscribed here
        kept = await push_many(a, MANY)
        await a.subscribe("later")
        server.execute("SAVE")
        lost = await push_many(a, 200)
        server.restart()
        after = make("room", "later")
        await append_until_accepted(a, after)

        await a.receives(after)

        assert sorted(ids(a.received)) == sorted(ids([*kept, *lost, after]))
        assert a.gaps == ["data_lost"]


async def test_frames_of_the_far_future_do_not_displace_the_confirmed_position(server: RedisServer) -> None:
    async with replicas(server, "a", timeout_seconds=30.0) as [a]:
        await a.subscribe("room")
        await a.push("later")
        before = await push_many(a, MANY)
        await a.subscribe("later")
        forged = [make("room") for _ in range(200)]
        for number, entry in enumerate(forged):
            server.execute("PUBLISH", ROOM, b"9%014d-0\n" % number + a.state.codec.encode(entry))
        after = [await a.push("room") for _ in range(3)]

        await a.receives(*after)

        delivered = [id_ for id_ in ids(a.received) if id_ not in ids(forged)]
        assert sorted(delivered) == sorted(ids([*before, *after]))


async def test_entries_of_an_emptied_redis_with_its_clock_set_back_are_delivered(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        before = await a.push("room")
        await a.receives(before)
        server.execute("FLUSHALL")
        shift_clock(a.state, -3600)

        after = [await a.push("room") for _ in range(3)]

        await a.receives(*after)
        assert ids(a.received) == ids([before, *after])
        assert a.gaps == []


async def test_new_log_begins_beyond_the_positions_of_the_former_one(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        positions = []
        for _ in range(20):
            server.execute("FLUSHALL")
            positions += [(await a.state.broker.append(make("room"))).position for _ in range(2)]

        assert positions == sorted(set(positions), key=lambda each: tuple(map(int, each.split("-"))))


async def test_start_of_a_channel_is_that_of_its_first_subscriber(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        log_reader, generation = a.state.log_reader, a.state.log_reader.cursor.generation
        log_reader.channels.watch([ROOM])  # for two subscribers, of which the first sets the start
        log_reader.channels.set_start([ROOM], generation, await newest_position(a.state.broker))
        news = await a.push("room")
        log_reader.channels.set_start([ROOM], generation, await newest_position(a.state.broker))

        a.state.subscriber.reconnect()

        await a.receives(news)


async def test_large_messages_trimmed_before_they_were_fetched_are_one_gap(server: RedisServer) -> None:
    bounds = {"history_bytes": 1_000_000, "subscription_timeout_seconds": 30.0}
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a", url=proxy.redis_url, **bounds) as [a],
        replicas(server, "b", **bounds) as [b],
    ):
        await a.subscribe("room")
        proxy.pause_subscriptions()
        news = [await b.push("room", size=70_000) for _ in range(60)]

        proxy.resume_subscriptions()

        await a.receives(news[-1])
        await await_until(lambda: len(a.gaps) > 0, "the gap is reported")
        assert a.gaps == ["history_trimmed"]
