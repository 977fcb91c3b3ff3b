"""After an interruption every entry that the log still holds is delivered: in order, once, before newer ones."""

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
    append_until_accepted,
    await_answer,
    ids,
    make,
    replicas,
)
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import await_until


async def push_steadily(replica: Replica, *rooms: str, number: int) -> list[Message]:
    """Append messages a little apart, each until it is accepted."""
    news = []
    for _ in range(number):
        message = make(*rooms)
        await append_until_accepted(replica, message)
        news.append(message)
        await asyncio.sleep(0.002)
    return news


def assert_rising(replica: Replica) -> None:
    orders = [positions.order(position) for position, _ in replica.listener.received]
    assert orders == sorted(orders)


async def test_messages_survive_repeated_loss_of_the_channel_connection(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room", "other")
        pushing = asyncio.create_task(push_steadily(a, "room", "other", number=500))
        while not pushing.done():
            await asyncio.sleep(0.1)
            await asyncio.to_thread(server.execute, "CLIENT", "KILL", "TYPE", "pubsub")

        news = await pushing

        await b.receives(*news)
        assert ids(b.received) == ids(news)
        assert_rising(b)
        assert b.gaps == []


async def test_replica_whose_connections_were_reset_misses_nothing(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a") as [a],
        replicas(server, "b", url=proxy.redis_url) as [b],
    ):
        await b.subscribe("room")
        before = await push_steadily(a, "room", number=20)
        proxy.break_connections()
        missed = await push_steadily(a, "room", number=100)
        await await_until(lambda: not b.state.commands.is_connected, "the loss is noticed")
        proxy.accept_connections()
        after = await push_steadily(a, "room", number=20)

        await b.receives(*after)

        assert ids(b.received) == ids([*before, *missed, *after])
        assert b.gaps == []


async def test_replica_whose_connections_were_silent_misses_nothing(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a") as [a],
        replicas(server, "b", url=proxy.redis_url) as [b],
    ):
        await b.subscribe("room")
        before = await push_steadily(a, "room", number=20)
        proxy.pause()
        missed = await push_steadily(a, "room", number=300)
        await await_until(lambda: not b.state.commands.is_connected, "the silence is noticed")
        proxy.resume()
        proxy.break_connections()
        proxy.accept_connections()
        after = await push_steadily(a, "room", number=20)

        await b.receives(*after)

        assert ids(b.received) == ids([*before, *missed, *after])


async def test_frozen_redis_loses_nothing(server: RedisServer) -> None:
    async with replicas(server, "a", "b", timeout_seconds=0.5, subscription_timeout_seconds=1.0) as [a, b]:
        await b.subscribe("room")
        before = await push_steadily(a, "room", number=20)
        server.freeze()
        asyncio.get_running_loop().call_later(1.5, server.thaw)  # longer than both timeouts
        after = await push_steadily(a, "room", number=20)

        await b.receives(*after)

        assert ids(b.received) == ids([*before, *after])
        assert (a.gaps, b.gaps) == ([], [])


async def test_redis_that_restarts_empty_is_reported_as_lost_data_and_delivery_continues(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room")
        before = await push_steadily(a, "room", number=20)
        await b.receives(*before)
        server.restart()
        after = await push_steadily(a, "room", number=20)

        await b.receives(*after)

        assert ids(b.received) == ids([*before, *after])
        assert_rising(b)
        assert set(b.gaps) == {"data_lost"}


async def test_log_that_begins_after_a_reported_loss_is_not_a_second_loss(server: RedisServer) -> None:
    async with replicas(server, "a", "b", subscription_timeout_seconds=30.0, lease_seconds=30.0) as [a, b]:
        await b.subscribe("room")
        await b.receives(await a.push("room"))
        server.execute("FLUSHALL")
        b.state.subscriber.reconnect()
        await await_until(lambda: b.gaps == ["data_lost"], "the loss is reported")

        anew = await a.push("room")
        b.state.subscriber.reconnect()
        await b.receives(anew, await a.push("room"))
        b.state.subscriber.reconnect()
        last = await a.push("room")
        await b.receives(last)

        assert len(ids(b.received)) == len(set(ids(b.received))) == 4
        assert b.gaps == ["data_lost"]


async def test_emptied_redis_that_stayed_connected_loses_nothing_for_connected_clients(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room")
        await b.register("s1", "ann", "room")
        before = await push_steadily(a, "room", number=5)
        server.execute("FLUSHALL")
        after = await push_steadily(a, "room", number=5)

        await b.receives(*after)

        assert ids(b.received) == ids([*before, *after])
        await await_until(lambda: b.state.membership.sizes.replicas == 2, "both have registered again")
        await await_answer(
            lambda: connections_at(a.state.broker, at("room")), 1, seconds=b.state.lease_seconds
        )


async def test_entries_trimmed_meanwhile_are_reported_as_trimmed(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a", history_length=20) as [a],
        replicas(server, "b", url=proxy.redis_url, history_length=20) as [b],
    ):
        await b.subscribe("room")
        before = await push_steadily(a, "room", number=5)
        await b.receives(*before)
        proxy.break_connections()
        missed = await push_steadily(a, "room", number=100)
        proxy.accept_connections()

        await b.receives(missed[-1])

        assert set(b.gaps) == {"history_trimmed"}
        received = ids(b.received)[5:]
        assert 20 <= len(received) <= 40
        assert received == ids(missed)[-len(received) :]


async def test_primary_that_lost_its_last_writes_is_reported_and_delivers_nothing_twice(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe("room")
        before = await push_steadily(a, "room", number=20)
        server.execute("SAVE")
        lost = await push_steadily(a, "room", number=20)
        await b.receives(*lost)
        server.restart()
        after = await push_steadily(a, "room", number=20)

        await b.receives(*after)

        assert ids(b.received) == ids([*before, *lost, *after])
        assert set(b.gaps) == {"data_lost"}


async def test_resync_delivers_nothing_from_before_the_subscription(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await push_steadily(a, "room", number=10)
        await b.subscribe("room")
        after = await push_steadily(a, "room", number=5)
        b.state.subscriber.reconnect()
        later = await push_steadily(a, "room", number=5)

        await b.receives(*later)

        assert ids(b.received) == ids([*after, *later])


async def test_slow_listener_receives_the_rest_from_the_log(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        slow = Replica(server, "slow", receive_buffer_entries=50)
        slow.listener = blocked = BlockedListener(slow.state.broker)
        await slow.start()
        await slow.subscribe("room")
        news = await push_steadily(a, "room", number=500)
        await blocked.entered.wait()
        blocked.released.set()

        await slow.receives(*news)

        assert ids(slow.received) == ids(news)
        assert slow.gaps == []
        await slow.stop()


@pytest.mark.parametrize("volatile", [False, True])
async def test_message_too_large_for_a_channel_is_delivered(server: RedisServer, volatile: bool) -> None:
    rooms = [f"room{number}" for number in range(100)]
    async with replicas(server, "a", "b") as [a, b]:
        await b.subscribe(*rooms)
        news = [
            await a.push("room1", size=500_000, volatile=volatile),
            await a.push(*rooms, size=1_000, volatile=volatile),
            await a.push("room1"),
        ]

        await b.receives(*news)

        assert b.received == news


async def test_message_puts_at_most_its_bound_on_the_channels(server: RedisServer) -> None:
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


async def test_frame_with_a_forged_position_does_not_stop_delivery(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        before = await a.push("room")
        await a.receives(before)
        forged = a.state.codec.encode(make("room"))
        server.execute("PUBLISH", RedisKeys(PREFIX).channel(at("room")), b"9999999999999-0\n" + forged)
        after = [await a.push("room") for _ in range(3)]

        await a.receives(*after)

        assert ids(entry for entry in a.received if entry in [before, *after]) == ids([before, *after])
