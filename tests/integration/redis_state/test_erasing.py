"""Erased messages are gone for every replica, and no replica takes them for lost ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.domain import positions
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.positions import START, Position
from gateway.domain.presence import PresentConnection
from gateway.domain.sessions import RecoverySession
from gateway.state.redis.codec import Codec
from tests.contract.recording_listener import BlockedListener
from tests.contract.values import at, newest_position
from tests.integration.redis_state.replicas import (
    MANUAL_HEARTBEATS,
    Replica,
    append_until_accepted,
    former_release,
    ids,
    make,
    previous_release,
    replicas,
)
from tests.integration.redis_state.test_split_brain import two_servers
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import await_until

LATER = Position("9999999999999-0")
MOST_COMMANDS = 300
"""How many commands a script may execute; the script counts 250 and ends what it has begun."""


async def erase(replica: Replica, room: str | None, upto: Position = LATER) -> int:
    return await replica.state.logged_messages.erase(at(room), upto)


async def resynced(replica: Replica) -> None:
    """Let the replica read the log before it delivers a further message, and wait until it has."""
    replica.state.log_reader.mark_stale()
    await replica.subscribe("later")
    await replica.receives(await replica.push("later"))


async def test_replica_whose_newest_message_was_erased_resyncs_without_a_gap(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a", **MANUAL_HEARTBEATS) as [a],
        replicas(server, "b", url=proxy.redis_url, **MANUAL_HEARTBEATS) as [b],
    ):
        await b.subscribe("room")
        kept = [await a.push("room") for _ in range(3)]
        seen = [await a.push("room", "secret") for _ in range(200)]
        await b.receives(*kept, *seen)
        proxy.break_connections()
        await await_until(lambda: not b.state.commands.is_connected, "the loss is noticed")
        missed = [await a.push("room", "secret") for _ in range(5)]

        assert await erase(a, "secret") == 205
        after = [await a.push("room") for _ in range(3)]
        proxy.accept_connections()

        await b.receives(*after)
        assert ids(b.received) == ids([*kept, *seen, *after])
        assert set(ids(missed)).isdisjoint(ids(b.received))
        assert (a.gaps, b.gaps) == ([], [])


async def test_erasure_that_loses_redis_in_the_middle_has_an_unknown_outcome_and_is_repeated(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "a", url=proxy.redis_url, **MANUAL_HEARTBEATS) as [a],
    ):
        for _ in range(300):
            await a.push("secret")
        logged_messages = a.state.logged_messages
        remove = logged_messages._remove

        async def remove_and_lose_redis(messages: Any) -> int:
            removed = await remove(messages)
            proxy.break_connections()
            await await_until(lambda: not a.state.commands.is_connected, "the loss is noticed")
            return removed

        with monkeypatch.context() as patch:
            patch.setattr(logged_messages, "_remove", remove_and_lose_redis)
            with pytest.raises(BrokerTimeout):
                await erase(a, "secret")
        proxy.accept_connections()
        await await_until(lambda: a.state.commands.is_connected, "Redis is there again")

        assert 0 < await erase(a, "secret") < 300
        assert await erase(a, "secret") == 0


async def test_log_whose_every_message_was_erased_is_no_loss(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.subscribe("room")
        await b.subscribe("room")
        seen = [await a.push("room") for _ in range(100)]
        await b.receives(*seen)

        assert await erase(b, "room") == 100
        for replica in (a, b):
            await resynced(replica)
        await asyncio.to_thread(server.execute, "CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.to_thread(server.execute, "CLIENT", "KILL", "TYPE", "normal")
        after = make("room")
        await append_until_accepted(a, after)

        await a.receives(after)
        await b.receives(after)
        assert (a.gaps, b.gaps) == ([], [])
        assert server.execute("EXISTS", "t:index:!") == 0


async def test_accepted_message_that_was_erased_is_not_marked_as_lost_after_a_failover(
    server: RedisServer,
) -> None:
    async with two_servers(server, 2) as (servers, [a, b]):
        await a.subscribe("room")
        await b.subscribe("room")
        last = await a.push("room")
        await a.receives(last)
        await b.receives(last)
        assert await erase(a, "room") == 1
        other = await b.push("other")
        await b.subscribe("other")
        assert server.execute("WAIT", 1, 5_000) >= 1, other

        servers.promote_second(0, 1)
        after = make("room")
        await append_until_accepted(a, after)

        await a.receives(after)
        await b.receives(after)
        await await_until(lambda: a.state._losses._to_verify is None, "what was accepted is looked for")
        assert (a.gaps, b.gaps) == ([], [])
        assert servers.second.execute("EXISTS", "t:index:!") == 0


async def test_lost_message_is_reported_although_others_were_erased(server: RedisServer) -> None:
    async with replicas(server, "a", timeout_seconds=30.0) as [a]:
        await a.subscribe("room")
        seen = [await a.push("room", "secret") for _ in range(10)]
        await a.receives(*seen)
        assert await erase(a, "secret") == 10
        server.execute("SAVE")
        await a.receives(await a.push("room"))

        server.restart()
        await append_until_accepted(a, make("room"))

        await await_until(lambda: a.gaps == ["data_lost"], "the loss is reported")


async def test_session_parked_at_an_erased_message_is_resumed(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.subscribe("room")
        session = RecoverySession("p", "~s1", "ann", "/", "a/1", frozenset({"room"}), START)
        await a.state.sessions.save(session)
        await a.state.presence.register(
            PresentConnection("~s1", "ann", "/", "a", "websocket", 1000.0), {"room"}
        )
        last = await a.push("room")
        await a.receives(last)
        await a.state.sessions.park("p", owner="a/1")
        position = a.listener.received[-1][0]
        assert await erase(b, "room") == 1
        await b.push("elsewhere")

        resumed = await b.state.sessions.resume("p", user="ann", namespace="/", owner="b/1")

        assert resumed.session.sid == "~s1"
        page = await b.state.broker.history(position, [at("room")], max_entries=10, max_bytes=10_000)
        assert (page.entries, page.gap) == ((), None)


async def test_large_message_that_is_erased_before_it_was_fetched_is_no_gap(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        blocked = Replica(server, "b", **MANUAL_HEARTBEATS)
        listener = blocked.listener = BlockedListener(blocked.state.broker)
        await blocked.start()
        await blocked.subscribe("room")
        first = await a.push("room")
        await listener.entered.wait()
        large = [await a.push("room", "secret", size=100_000) for _ in range(3)]
        after = await a.push("room")

        assert await erase(a, "secret") == 3
        listener.released.set()

        await blocked.receives(after)
        assert ids(blocked.received) == ids([first, after]), large
        assert blocked.gaps == []
        await blocked.stop()


async def test_erased_positions_are_forgotten_once_the_log_is_trimmed_beyond_them(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", history_length=100, **MANUAL_HEARTBEATS) as [a]:
        for _ in range(20):
            await asyncio.gather(*(a.push("room") for _ in range(50)))
            await erase(a, "room")
            assert server.execute("ZCARD", "t:erased") <= 150
        assert server.execute("PTTL", "t:erased") > 0

        await asyncio.gather(*(a.push("room") for _ in range(300)))

        assert server.execute("ZCARD", "t:erased") <= 1


async def test_removed_messages_are_no_longer_in_the_log_or_in_an_index(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await a.push("other")
        for _ in range(50):
            await a.push("room", "other")

        assert await erase(a, "room") == 50

        assert server.execute("XLEN", "t:log") == 1
        assert server.execute("EXISTS", "t:index:/,room") == 0
        assert len(set(server.execute("LRANGE", "t:index:/,other", 0, -1))) == 1


async def test_without_a_recovery_window_messages_are_erased_from_the_log(server: RedisServer) -> None:
    async with replicas(server, "a", recovery_seconds=0.0, **MANUAL_HEARTBEATS) as [a]:
        for _ in range(300):
            await a.push("room", size=1_000)
            await a.push("other")

        assert await erase(a, "room") == 300
        assert server.execute("XLEN", "t:log") == 300


@pytest.mark.parametrize("release", [former_release, previous_release])
async def test_nothing_is_erased_beside_a_replica_of_a_former_release(
    server: RedisServer, release: Callable[[], Codec]
) -> None:
    async with replicas(server, "n") as [n], replicas(server, "o", codec=release()) as [o]:
        await o.subscribe("room")
        await n.state.membership.heartbeat()
        await o.receives(await n.push("room"))

        with pytest.raises(BrokerUnavailable, match="previous release"):
            await erase(n, "room")

        assert server.execute("XLEN", "t:log") == 1
        assert o.gaps == []


async def test_erasing_holds_up_nothing_else_for_long(server: RedisServer) -> None:
    options: dict[str, Any] = {"history_length": 50_000, "history_bytes": 200_000_000}
    async with replicas(server, "a", **options, **MANUAL_HEARTBEATS) as [a]:
        for _ in range(100):
            await asyncio.gather(*(a.push("room", *(f"r{n % 40}" for n in range(k % 5))) for k in range(100)))
        await newest_position(a.state.broker)
        server.execute("CONFIG", "RESETSTAT")

        assert await erase(a, "r1") == 20 * 300
        assert await erase(a, "room") == 20 * 200

        calls = {name: each["calls"] for name, each in server.execute("INFO", "commandstats").items()}
        scripts = calls["cmdstat_evalsha"]
        assert sum(calls.values()) / scripts < MOST_COMMANDS, calls


async def test_messages_are_accepted_while_others_are_erased(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        for _ in range(20):
            await asyncio.gather(*(a.push("room") for _ in range(100)))

        erased = asyncio.create_task(erase(a, "room"))
        pushed = [await a.push("room") for _ in range(100)]

        removed = await erased
        assert removed >= 2000
        assert removed + await erase(a, "room") == 2000 + len(pushed)


async def test_pushes_and_erasures_of_two_replicas_leave_a_consistent_history(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        for replica in (a, b):
            await replica.subscribe("room", "other")
        kept: list[str] = []

        async def push(replica: Replica) -> None:
            for number in range(300):
                if number % 3:
                    await replica.push("room", "other")
                else:
                    kept.append((await replica.push("other")).id)

        pushing = [asyncio.create_task(push(replica)) for replica in (a, b)]
        removed = 0
        while not all(each.done() for each in pushing):
            removed += sum(await asyncio.gather(erase(a, "room"), erase(b, "room")))
        removed += await erase(a, "room")

        assert removed == 400
        page = await a.state.broker.history(
            START, [at("room"), at("other")], max_entries=1_000, max_bytes=10_000_000
        )
        assert sorted(ids(entry for _, entry in page.entries)) == sorted(kept)
        for replica in (a, b):
            await resynced(replica)
            orders = [positions.order(position) for position, _ in replica.listener.received]
            assert (orders, replica.gaps) == (sorted(orders), [])
