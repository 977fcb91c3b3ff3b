"""After any interruption everything that is still there arrives: in order, once, before what is new."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain import positions
from gateway.domain.messages import Message
from gateway.state.redis.redis_keys import RedisKeys
from tests.contract.recording_listener import BlockedListener
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import (
    PREFIX,
    Replica,
    append,
    ids,
    make,
    replicas,
    until,
    until_redis_says,
)
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy


async def push_steadily(replica: Replica, *rooms: str, number: int) -> list[Message]:
    """So many messages, each repeated until it is taken, a little apart."""
    news = []
    for _ in range(number):
        message = make(*rooms)
        await append(replica, message)
        news.append(message)
        await asyncio.sleep(0.002)
    return news


def assert_rising(replica: Replica) -> None:
    orders = [positions.order(position) for position, _ in replica.ear.received]
    assert orders == sorted(orders)


async def test_nothing_is_lost_when_channels_are_cut_again_and_again(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room", "other")
        pushing = asyncio.create_task(push_steadily(a, "room", "other", number=500))
        while not pushing.done():
            await asyncio.sleep(0.1)
            await asyncio.to_thread(server.ask, "CLIENT", "KILL", "TYPE", "pubsub")

        news = await pushing

        await b.hears(*news)
        assert ids(b.heard) == ids(news)
        assert_rising(b)
        assert b.gaps == []


async def test_a_replica_whose_link_was_cut_misses_nothing(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a") as [a],
        replicas(server, "b", url=proxy.redis_url) as [b],
    ):
        await b.subscribe("room")
        before = await push_steadily(a, "room", number=20)
        proxy.break_connections()
        missed = await push_steadily(a, "room", number=100)
        await until(lambda: not b.state.commands.is_connected, "the cut is noticed")
        proxy.accept_connections()
        after = await push_steadily(a, "room", number=20)

        await b.hears(*after)

        assert ids(b.heard) == ids([*before, *missed, *after])
        assert b.gaps == []


async def test_a_replica_whose_link_went_silent_misses_nothing(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a") as [a],
        replicas(server, "b", url=proxy.redis_url) as [b],
    ):
        await b.subscribe("room")
        before = await push_steadily(a, "room", number=20)
        proxy.pause()
        missed = await push_steadily(a, "room", number=300)
        await until(lambda: not b.state.commands.is_connected, "the silence is noticed")
        proxy.resume()
        proxy.break_connections()
        proxy.accept_connections()
        after = await push_steadily(a, "room", number=20)

        await b.hears(*after)

        assert ids(b.heard) == ids([*before, *missed, *after])


async def test_a_frozen_redis_loses_nothing(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room")
        before = await push_steadily(a, "room", number=20)
        server.freeze()
        asyncio.get_running_loop().call_later(3.0, server.thaw)
        after = await push_steadily(a, "room", number=20)

        await b.hears(*after)

        assert ids(b.heard) == ids([*before, *after])
        assert (a.gaps, b.gaps) == ([], [])


async def test_a_redis_that_comes_back_empty_is_told_as_lost_data_and_all_goes_on(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room")
        before = await push_steadily(a, "room", number=20)
        await b.hears(*before)
        server.restart()
        after = await push_steadily(a, "room", number=20)

        await b.hears(*after)

        assert ids(b.heard) == ids([*before, *after])
        assert_rising(b)
        assert set(b.gaps) == {"data_lost"}


async def test_a_log_that_begins_after_the_loss_was_told_is_no_second_loss(server: RedisServer) -> None:
    async with replicas(server, "a", "b", subscription_timeout_seconds=30.0, lease_seconds=30.0) as [a, b]:
        await b.subscribe("room")
        await b.hears(await a.push("room"))
        server.ask("FLUSHALL")
        b.state.subscriber.reconnect()
        await until(lambda: b.gaps == ["data_lost"], "it is told")

        anew = await a.push("room")
        b.state.subscriber.reconnect()
        await b.hears(anew, await a.push("room"))
        b.state.subscriber.reconnect()
        last = await a.push("room")
        await b.hears(last)

        assert len(ids(b.heard)) == len(set(ids(b.heard))) == 4
        assert b.gaps == ["data_lost"]


async def test_an_emptied_redis_that_stayed_connected_loses_nothing_for_who_is_connected(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room")
        await b.register("s1", "ann", "room")
        before = await push_steadily(a, "room", number=5)
        server.ask("FLUSHALL")
        after = await push_steadily(a, "room", number=5)

        await b.hears(*after)

        assert ids(b.heard) == ids([*before, *after])
        await until(lambda: b.state.membership.sizes.replicas == 2, "both registered anew")
        await until_redis_says(
            lambda: connections_at(a.state.broker, at("room")), 1, seconds=b.state.lease_seconds
        )


async def test_what_was_trimmed_meanwhile_is_told_as_such(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a", history_length=20) as [a],
        replicas(server, "b", url=proxy.redis_url, history_length=20) as [b],
    ):
        await b.subscribe("room")
        before = await push_steadily(a, "room", number=5)
        await b.hears(*before)
        proxy.break_connections()
        missed = await push_steadily(a, "room", number=100)
        proxy.accept_connections()

        await b.hears(missed[-1])

        assert set(b.gaps) == {"history_trimmed"}
        heard = ids(b.heard)[5:]
        assert 20 <= len(heard) <= 40
        assert heard == ids(missed)[-len(heard) :]


async def test_a_primary_that_lost_its_last_writes_is_noticed_and_nothing_comes_twice(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room")
        before = await push_steadily(a, "room", number=20)
        server.ask("SAVE")
        lost = await push_steadily(a, "room", number=20)
        await b.hears(*lost)
        server.restart()
        after = await push_steadily(a, "room", number=20)

        await b.hears(*after)

        assert ids(b.heard) == ids([*before, *lost, *after])
        assert set(b.gaps) == {"data_lost"}


async def test_catching_up_hands_over_nothing_from_before_the_subscription(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await push_steadily(a, "room", number=10)
        await b.subscribe("room")
        after = await push_steadily(a, "room", number=5)
        b.state.subscriber.reconnect()
        later = await push_steadily(a, "room", number=5)

        await b.hears(*later)

        assert ids(b.heard) == ids([*after, *later])


async def test_a_listener_that_falls_behind_reads_the_rest_from_the_log(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        slow = Replica(server, "slow", receive_buffer_entries=50)
        slow.ear = closed = BlockedListener(slow.state.broker)
        await slow.start()
        await slow.subscribe("room")
        news = await push_steadily(a, "room", number=500)
        await closed.entered.wait()
        closed.released.set()

        await slow.hears(*news)

        assert ids(slow.heard) == ids(news)
        assert slow.gaps == []
        await slow.stop()


@pytest.mark.parametrize("volatile", [False, True])
async def test_what_is_too_large_for_a_channel_arrives_all_the_same(
    server: RedisServer, volatile: bool
) -> None:
    rooms = [f"room{number}" for number in range(100)]
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe(*rooms)
        news = [
            await a.push("room1", size=500_000, volatile=volatile),
            await a.push(*rooms, size=1_000, volatile=volatile),
            await a.push("room1"),
        ]

        await b.hears(*news)

        assert b.heard == news


async def test_no_message_brings_more_than_its_bound_to_a_subscriber(server: RedisServer) -> None:
    rooms = [f"room{number}" for number in range(100)]
    async with replicas(server, "a") as [a]:
        channels = [RedisKeys(PREFIX).channel(at(room)) for room in rooms]
        with server.client() as client, client.pubsub() as listener:
            listener.subscribe(*channels)
            for size in (10, 600, 5_000, 1_000_000):
                await a.push(*rooms, size=size)
            await a.push("room1", size=1_000_000)
            frames = []
            while message := listener.get_message(timeout=0.3):
                if message["type"] == "message":
                    frames.append(message["data"])

    assert len(frames) == 401
    assert max(sum(map(len, frames[start : start + 100])) for start in range(0, 400, 100)) < 100_000


async def test_a_frame_that_lies_about_its_position_silences_nobody_for_long(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        before = await a.push("room")
        await a.hears(before)
        forged = a.state.codec.encode(make("room"))
        server.ask("PUBLISH", RedisKeys(PREFIX).channel(at("room")), b"9999999999999-0\n" + forged)
        after = [await a.push("room") for _ in range(3)]

        await a.hears(*after)

        assert ids(entry for entry in a.heard if entry in [before, *after]) == ids([before, *after])
