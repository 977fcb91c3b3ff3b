"""A lease is one process's, and another one each time that it is taken."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from gateway.domain.errors import BrokerUnavailable, StateMisconfigured
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import Replica, replicas, until, until_redis_says
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

NO_BEATS = {"lease_seconds": 60.0, "subscription_timeout_seconds": 300.0}
"""With these nothing is said but by the test."""


async def test_who_was_taken_out_learns_it_though_an_answer_was_lost(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **NO_BEATS) as [a, b]:
        await b.register("s1", "ann", "room")
        server.ask("ZADD", "t:leases", 1, "b")  # it stood still past its lease, and then
        await a.state.membership.heartbeat()
        await a.state.membership.maintain(0)
        assert await connections_at(a.state.broker, at("room")) == 0
        # gave a sign of life that Redis heard; its answer did not arrive
        leases = b.state.membership
        await a.state.commands.call("heartbeat", "b", leases.codec.newest, leases.process, 0)

        await leases.heartbeat()
        await leases.maintain(0)

        assert await connections_at(a.state.broker, at("room")) == 1
        assert (await a.state.presence.of_user("ann")).online


async def test_who_gives_signs_of_life_in_time_owes_nothing(server: RedisServer) -> None:
    async with replicas(server, "a", **NO_BEATS) as [a]:
        await a.register("s1", "ann", "room")

        for _ in range(3):
            await a.state.membership.heartbeat()

        assert a.state.presence.dirty == set()


async def test_a_second_process_of_a_name_does_not_start_and_the_first_goes_on(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.register("s1", "ann", "room")

        with pytest.raises(StateMisconfigured, match="another process that lives is named 'a'"):
            await Replica(server, "a").start()

        assert await connections_at(b.state.broker, at("room")) == 1
        assert a.state.presence.dirty == set()
        assert (b.cleaned, a.gaps) == ([], [])


async def test_a_process_of_the_name_of_a_killed_one_starts_before_its_lease_ends(
    server: RedisServer,
) -> None:
    former = Replica(server, "a", lease_seconds=60.0)
    await former.start()
    await former.register("s1", "ann", "room")
    await former.stop()
    await until(lambda: server.numsub(b"t:replica:a") == 0, "its connections are closed")

    async with asyncio.timeout(5), replicas(server, "a", lease_seconds=60.0) as [a]:
        assert await connections_at(a.state.broker, at("room")) == 0


async def test_a_process_of_the_name_of_one_that_stands_still_waits_for_the_end_of_its_lease(
    server: RedisServer,
) -> None:
    async with TcpProxy(server.port) as proxy:
        former = Replica(server, "a", url=proxy.redis_url, lease_seconds=1.0)
        await former.start()
        proxy.pause()  # its connections stay

        with structlog.testing.capture_logs() as logs:
            async with replicas(server, "a") as [a]:
                await a.register("s1", "ann", "room")
                assert await connections_at(a.state.broker, at("room")) == 1

        assert "lease.conflict" in [line["event"] for line in logs]
        await former.stop()


async def test_a_process_whose_name_was_taken_while_it_was_away_ends_and_disturbs_nobody(
    server: RedisServer,
) -> None:
    async with TcpProxy(server.port) as proxy, replicas(server, "b") as [b]:
        former = Replica(server, "a", url=proxy.redis_url)
        await former.start()
        await former.register("s1", "ann", "room")
        proxy.break_connections()
        await until(lambda: server.numsub(b"t:replica:a") == 0, "it is cut off")
        async with replicas(server, "a") as [a]:
            await a.register("s2", "bob", "room")

            proxy.accept_connections()
            run, _ = former._tasks
            with pytest.raises(StateMisconfigured, match="another process that lives"):
                await asyncio.wait_for(run, 15)

            assert await connections_at(b.state.broker, at("room")) == 1
            assert (await b.state.presence.of_user("bob")).online
            await former.stop()


async def test_who_lost_its_name_cannot_give_up_the_lease_of_the_other(server: RedisServer) -> None:
    async with replicas(server, "a", **NO_BEATS) as [a]:
        server.ask("HSET", "t:holders", "a", "another 1.5")
        with pytest.raises(BrokerUnavailable):
            await a.state.membership.heartbeat()

        await a.state.close()

        assert server.ask("ZRANGE", "t:leases", 0, -1) == [b"a"]


async def test_what_an_earlier_process_held_is_taken_over_once_it_has_ended(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.register("s1", "ann", "room")
        # Another primary knows only the process that had the name before.
        server.ask("HSET", "t:holders", "a", "former 1.5")

        await until_redis_says(
            lambda: asyncio.to_thread(lambda: server.ask("HGET", "t:holders", "a") != b"former 1.5"), True
        )

        await until_redis_says(lambda: connections_at(b.state.broker, at("room")), 1)
        await until(lambda: a.state.membership.sizes.replicas == 2, "both live")
