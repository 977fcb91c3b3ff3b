"""What Redis or somebody on its channels takes from a replica: nothing comes twice, and what is lost is told once."""

from __future__ import annotations

import asyncio

from gateway.domain.messages import Message
from gateway.state.redis.redis_keys import RedisKeys
from tests.contract.values import at, newest_position
from tests.integration.redis_state.replicas import PREFIX, Replica, append, ids, make, replicas, until
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

ROOM = RedisKeys(PREFIX).channel(at("room"))
MANY = 4_500
"""More than the ids that a replica remembers."""


async def push_many(a: Replica, number: int) -> list[Message]:
    news: list[Message] = []
    while len(news) < number:
        news += await asyncio.gather(*(a.push("room") for _ in range(min(500, number - len(news)))))
    await a.hears(*news)
    return news


async def test_a_redis_that_lost_more_than_the_places_known_hands_nothing_over_twice(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        await a.push("later")  # before anybody here is in that room
        kept = await push_many(a, MANY)
        await a.subscribe("later")
        server.ask("SAVE")
        lost = await push_many(a, 200)
        server.restart()
        after = make("room", "later")
        await append(a, after)

        await a.hears(after)

        assert sorted(ids(a.heard)) == sorted(ids([*kept, *lost, after]))
        assert a.gaps == ["data_lost"]


async def test_frames_of_the_far_future_do_not_make_it_forget_how_far_it_got(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        await a.push("later")
        before = await push_many(a, MANY)
        await a.subscribe("later")
        forged = [make("room") for _ in range(200)]
        for number, entry in enumerate(forged):
            server.ask("PUBLISH", ROOM, b"9%014d-0\n" % number + a.state.codec.encode(entry))
        after = [await a.push("room") for _ in range(3)]

        await a.hears(*after)

        heard = [id_ for id_ in ids(a.heard) if id_ not in ids(forged)]
        assert sorted(heard) == sorted(ids([*before, *after]))


async def test_what_an_emptied_redis_took_is_heard_though_its_clock_was_set_back(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        before = await a.push("room")
        await a.hears(before)
        server.ask("FLUSHALL")
        shift_clock(a.state, -3600)

        after = [await a.push("room") for _ in range(3)]

        await a.hears(*after)
        assert ids(a.heard) == ids([before, *after])
        assert a.gaps == []


async def test_a_new_log_begins_beyond_what_the_former_one_handed_out(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        positions = []
        for _ in range(20):
            server.ask("FLUSHALL")
            positions += [(await a.state.broker.append(make("room"))).position for _ in range(2)]

        assert positions == sorted(set(positions), key=lambda each: tuple(map(int, each.split("-"))))


async def test_who_came_first_to_a_room_is_served_from_there_whoever_comes_later(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        listening, generation = a.state.log_reader, a.state.log_reader.cursor.generation
        listening.watch([ROOM])  # for two, of which the first knows where it begins
        listening.set_start([ROOM], generation, await newest_position(a.state.broker))
        news = await a.push("room")
        listening.set_start([ROOM], generation, await newest_position(a.state.broker))

        a.state.subscriber.reconnect()

        await a.hears(news)


async def test_large_messages_that_went_before_they_could_be_fetched_are_one_gap(server: RedisServer) -> None:
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

        await a.hears(news[-1])
        await until(lambda: len(a.gaps) > 0, "it is told")
        assert a.gaps == ["history_trimmed"]
