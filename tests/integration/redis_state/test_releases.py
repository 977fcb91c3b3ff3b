"""Replicas of two releases side by side: the older one reads whatever was accepted."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.messages import Message
from gateway.domain.traces import Trace
from tests.integration.redis_state.replicas import Replica, ids, make, previous_release, replicas, until
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

CALM = {"lease_seconds": 60.0, "subscription_timeout_seconds": 300.0}
"""No sign of life but those that a test asks for."""
TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1)


def writes(replica: Replica) -> bytes:
    """The format that it writes now."""
    return replica.state.codec.encode(make("room"))[:1]


async def test_who_was_cut_off_past_its_lease_reads_what_newer_releases_wrote_meanwhile(
    server: RedisServer,
) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "n", recovery_seconds=0.5) as [n],
    ):
        older = Replica(server, "o", codec=previous_release(), url=proxy.redis_url, recovery_seconds=0.5)
        await older.start()
        await older.subscribe("room")
        server.ask("HSET", "t:sessions:o", "p", "left behind")
        await until(lambda: writes(n) == b"1", "the newer one has noticed")
        proxy.break_connections()
        await until(lambda: n.cleaned == ["o"], "it is taken for dead")
        await until(lambda: server.ask("EXISTS", "t:sessions:o") == 0, "what it left is cleaned up")
        await n.state.membership.heartbeat()
        news = [await n.push("room") for _ in range(10)]

        proxy.accept_connections()

        await older.hears(*news)
        assert (older.gaps, older.unreadable) == ([], 0)
        await older.stop()


async def test_once_the_log_holds_nothing_that_it_missed_who_was_cut_off_is_forgotten(
    server: RedisServer,
) -> None:
    async with replicas(server, "n", history_slack_seconds=2.0, recovery_seconds=0.5) as [n]:
        older = Replica(
            server, "o", codec=previous_release(), history_slack_seconds=2.0, recovery_seconds=0.5
        )
        await older.start()
        await until(lambda: writes(n) == b"1", "the newer one has noticed")

        await older.stop()

        await until(lambda: writes(n) == b"2", "nobody is left who reads less")
        assert server.ask("HKEYS", "t:formats") == [b"n"]


@pytest.mark.parametrize("with_sessions", [False, True])
async def test_an_older_replica_that_left_is_waited_for_by_nobody(
    server: RedisServer, with_sessions: bool
) -> None:
    async with replicas(server, "n") as [n]:
        older = Replica(server, "o", codec=previous_release())
        await older.start()
        await until(lambda: writes(n) == b"1", "the newer one has noticed")
        if with_sessions:
            server.ask("HSET", "t:sessions:o", "p", "left behind")

        await older.leave()
        await n.state.membership.heartbeat()

        assert writes(n) == b"2"


async def test_a_replica_that_starts_beside_newer_ones_hears_everything_from_then_on(
    server: RedisServer,
) -> None:
    async with replicas(server, "n") as [n]:
        assert writes(n) == b"2"
        async with replicas(server, "o", codec=previous_release()) as [older]:
            await older.subscribe("room")

            news = [await n.push("room") for _ in range(20)]

            await older.hears(*news)
            assert (ids(older.heard), older.gaps, older.unreadable) == (ids(news), [], 0)


async def test_a_replica_that_starts_beside_others_of_its_release_waits_for_nobody(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=60.0), asyncio.timeout(5):
        second = Replica(server, "b", lease_seconds=60.0)
        await second.start()
        await second.stop()


async def test_what_was_accepted_in_a_format_that_nobody_here_reads_is_told_as_a_gap(
    server: RedisServer,
) -> None:
    async with replicas(server, "n", **CALM) as [n]:
        older = Replica(
            server, "o", codec=previous_release(), lease_seconds=0.1, subscription_timeout_seconds=300.0
        )
        await older.start()
        await older.subscribe("room")
        assert writes(n) == b"2"  # it has not noticed

        await n.push("elsewhere")
        await n.push("room")

        await until(lambda: older.gaps == ["data_lost"], "it is told")
        await n.state.membership.heartbeat()
        await older.hears(await n.push("room"))
        assert older.gaps == ["data_lost"]
        await older.stop()


async def test_beside_an_older_replica_every_message_arrives_and_its_trace_is_missing(
    server: RedisServer,
) -> None:
    async with replicas(server, "n") as [n], replicas(server, "o", codec=previous_release()) as [older]:
        await until(lambda: writes(n) == b"1", "the newer one has noticed")
        for each in (n, older):
            await each.subscribe("room")

        news = [
            await n.push("room", trace=TRACE),
            await older.push("room"),
            await n.push("room", trace=TRACE),
        ]

        for each in (n, older):
            await each.hears(*news)
            assert (ids(each.heard), each.gaps, each.unreadable) == (ids(news), [], 0)
            assert traces(each) == [None, None, None]


async def test_once_the_older_replica_has_left_traces_are_carried(server: RedisServer) -> None:
    async with replicas(server, "n", "m") as [n, m]:
        older = Replica(server, "o", codec=previous_release())
        await older.start()
        await m.subscribe("room")
        await until(lambda: writes(n) == b"1", "the newer one has noticed")
        await older.leave()
        await until(lambda: writes(n) == b"2", "nobody is left who reads less")

        await m.hears(await n.push("room", trace=TRACE))

        assert traces(m) == [TRACE]


def traces(replica: Replica) -> list[Trace | None]:
    """Of the messages that were handed over there."""
    return [entry.trace for entry in replica.heard if isinstance(entry, Message)]
