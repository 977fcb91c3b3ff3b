"""The name of a replica and its lease belong to one process; each lease that is taken is another one."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from gateway.domain.errors import BrokerUnavailable, StateMisconfigured
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import MANUAL_HEARTBEATS, Replica, await_answer, replicas
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import TIMEOUT_SECONDS, await_until


async def test_reaped_replica_notices_it_even_after_a_lost_answer(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await b.register("s1", "ann", "room")
        server.execute("ZADD", "t:leases", 1, "b")  # it was suspended past its lease, and then
        await a.state.membership.heartbeat()
        await a.state.membership.maintain(0)
        assert await connections_at(a.state.broker, at("room")) == 0
        # sent a heartbeat whose answer was lost
        membership = b.state.membership
        await a.state.commands.call(
            "heartbeat", "b", membership.codec.newest, membership.process, 0, 0, "1.0 1.0"
        )

        await membership.heartbeat()
        await membership.maintain(0)

        assert await connections_at(a.state.broker, at("room")) == 1
        assert (await a.state.presence.of_user("ann")).is_online


async def test_replica_with_timely_heartbeats_has_nothing_dirty(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await a.register("s1", "ann", "room")

        for _ in range(3):
            await a.state.membership.heartbeat()

        assert a.state.presence.dirty == set()


async def test_second_process_of_a_name_does_not_start_and_does_not_disturb_the_first(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.register("s1", "ann", "room")

        with pytest.raises(StateMisconfigured, match="another process that lives is named 'a'"):
            await Replica(server, "a").start()

        assert await connections_at(b.state.broker, at("room")) == 1
        assert a.state.presence.dirty == set()
        assert (b.reaped, a.gaps) == ([], [])


async def test_process_with_the_name_of_a_killed_one_starts_before_the_lease_ends(
    server: RedisServer,
) -> None:
    former = Replica(server, "a", lease_seconds=60.0)
    await former.start()
    await former.register("s1", "ann", "room")
    await former.stop()
    await await_until(lambda: server.numsub(b"t:replica:a") == 0, "its connections are closed")

    async with asyncio.timeout(30), replicas(server, "a", lease_seconds=60.0) as [a]:
        assert await connections_at(a.state.broker, at("room")) == 0


async def test_process_with_the_name_of_a_suspended_one_waits_for_the_end_of_its_lease(
    server: RedisServer,
) -> None:
    async with TcpProxy(server.port) as proxy:
        former = Replica(server, "a", url=proxy.redis_url, lease_seconds=1.0)
        await former.start()
        proxy.pause()  # its connections stay open

        with structlog.testing.capture_logs() as logs:
            async with replicas(server, "a") as [a]:
                await a.register("s1", "ann", "room")
                assert await connections_at(a.state.broker, at("room")) == 1

        assert "lease.conflict" in [line["event"] for line in logs]
        await former.stop()


async def test_process_whose_name_was_taken_ends_without_disturbing_the_other(
    server: RedisServer,
) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "b") as [b]:
        former = Replica(server, "a", url=proxy.redis_url)
        await former.start()
        await former.register("s1", "ann", "room")
        proxy.break_connections()
        await await_until(lambda: server.numsub(b"t:replica:a") == 0, "its connections are closed")
        async with replicas(server, "a") as [a]:
            await a.register("s2", "bob", "room")

            proxy.accept_connections()
            run, _ = former._tasks
            with pytest.raises(StateMisconfigured, match="another process that lives"):
                await asyncio.wait_for(run, TIMEOUT_SECONDS)

            assert await connections_at(b.state.broker, at("room")) == 1
            assert (await b.state.presence.of_user("bob")).is_online
            await former.stop()


async def test_process_that_lost_its_name_cannot_release_the_lease_of_the_other(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        server.execute("HSET", "t:holders", "a", "another 1.5")
        with pytest.raises(BrokerUnavailable):
            await a.state.membership.heartbeat()

        await a.state.close()

        assert server.execute("ZRANGE", "t:leases", 0, -1) == [b"a"]


async def test_lease_of_an_earlier_process_is_taken_over_once_it_has_ended(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.register("s1", "ann", "room")
        # Another primary knows only the process that had the name before.
        server.execute("HSET", "t:holders", "a", "former 1.5")

        await await_answer(
            lambda: asyncio.to_thread(lambda: server.execute("HGET", "t:holders", "a") != b"former 1.5"), True
        )

        await await_answer(lambda: connections_at(b.state.broker, at("room")), 1)
        await await_until(lambda: a.state.membership.sizes.replicas == 2, "both live")
