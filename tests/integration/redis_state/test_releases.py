"""Replicas of two releases side by side: the older one reads everything that is accepted."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.messages import Address, DisconnectCommand, LogEntry, RoomChange, new_id
from tests.integration.redis_state.replicas import (
    MANUAL_HEARTBEATS,
    Replica,
    ids,
    make,
    previous_release,
    replicas,
)
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import await_until


def writes(replica: Replica) -> bytes:
    """The number of the format that it writes now."""
    return replica.state.codec.encode(make("room"))[:1]


async def test_older_replica_cut_off_past_its_lease_reads_what_newer_ones_wrote_meanwhile(
    server: RedisServer,
) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "n", lease_seconds=1.0, recovery_seconds=0.5) as [n],
    ):
        older = Replica(
            server,
            "o",
            codec=previous_release(),
            url=proxy.redis_url,
            lease_seconds=1.0,
            recovery_seconds=0.5,
        )
        await older.start()
        await older.subscribe("room")
        server.execute("HSET", "t:sessions:o", "p", "a session")
        await await_until(lambda: writes(n) == b"4", "the newer one has noticed the older one")
        proxy.break_connections()
        await await_until(lambda: n.reaped == ["o"], "it is found dead")
        await await_until(lambda: server.execute("EXISTS", "t:sessions:o") == 0, "its sessions are removed")
        await n.state.membership.heartbeat()
        news = [await n.push("room") for _ in range(10)]

        proxy.accept_connections()

        await older.receives(*news)
        assert (older.gaps, older.decode_errors) == ([], 0)
        await older.stop()


async def test_older_replica_is_forgotten_once_the_log_holds_nothing_that_it_missed(
    server: RedisServer,
) -> None:
    times = {"lease_seconds": 1.0, "history_slack_seconds": 1.0, "recovery_seconds": 0.5}
    async with replicas(server, "n", **times) as [n]:
        older = Replica(server, "o", url=None, codec=previous_release(), **times)
        await older.start()
        await await_until(lambda: writes(n) == b"4", "the newer one has noticed the older one")

        await older.stop()

        await await_until(lambda: writes(n) == b"5", "no replica needs the older format")
        assert server.execute("HKEYS", "t:formats") == [b"n"]


@pytest.mark.parametrize("with_sessions", [False, True])
async def test_older_replica_that_shut_down_does_not_hold_back_the_format(
    server: RedisServer, with_sessions: bool
) -> None:
    async with replicas(server, "n") as [n]:
        older = Replica(server, "o", codec=previous_release())
        await older.start()
        await await_until(lambda: writes(n) == b"4", "the newer one has noticed the older one")
        if with_sessions:
            server.execute("HSET", "t:sessions:o", "p", "a session")

        await older.shut_down()
        await n.state.membership.heartbeat()

        assert writes(n) == b"5"


async def test_replica_that_starts_beside_newer_ones_receives_everything_from_then_on(
    server: RedisServer,
) -> None:
    async with replicas(server, "n") as [n]:
        assert writes(n) == b"5"
        async with replicas(server, "o", codec=previous_release()) as [older]:
            await older.subscribe("room")

            news = [await n.push("room") for _ in range(20)]

            await older.receives(*news)
            assert (ids(older.received), older.gaps, older.decode_errors) == (ids(news), [], 0)


async def test_replica_that_starts_beside_others_of_its_release_does_not_wait(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=60.0), asyncio.timeout(30):
        second = Replica(server, "b", lease_seconds=60.0)
        await second.start()
        await second.stop()


@pytest.mark.parametrize(
    "entry",
    [
        make("room")._replace(all_of=("other",)),
        make("room")._replace(reply_to="n"),
        make("room")._replace(attachments=("AA==",)),
        DisconnectCommand(new_id(), "", ("/",), 1_700_000_000.0, room="room"),
        DisconnectCommand(new_id(), "", ("/",), 1_700_000_000.0, token_id="t-1"),
        DisconnectCommand(new_id(), "ann", ("/",), 1_700_000_000.0, reply_to="n"),
        RoomChange(new_id(), "/", ("room",), ("other",), is_join=True),
    ],
    ids=lambda entry: type(entry).__name__,
)
async def test_entry_that_a_living_replica_cannot_read_is_rejected_until_that_has_left(
    server: RedisServer, entry: LogEntry
) -> None:
    async with replicas(server, "n") as [n]:
        await n.subscribe("room", "user:ann", None)
        older = Replica(server, "o", codec=previous_release())
        await older.start()
        await await_until(lambda: writes(n) == b"4", "the newer one has noticed the older one")

        with pytest.raises(BrokerUnavailable) as rejection:
            await n.state.broker.append(entry)
        assert rejection.value.code == "broker_unavailable"
        assert "previous release" in rejection.value.message
        marker = await n.push("room")
        await n.receives(marker)
        assert n.received == [marker]

        await older.shut_down()
        await await_until(lambda: writes(n) == b"5", "the older one has left")
        await n.state.broker.append(entry)
        await n.receives(entry)
        assert n.received == [marker, entry]


async def test_entry_in_an_unreadable_format_is_reported_as_a_gap(
    server: RedisServer,
) -> None:
    async with replicas(server, "n", **MANUAL_HEARTBEATS) as [n]:
        older = Replica(
            server, "o", codec=previous_release(), lease_seconds=0.1, subscription_timeout_seconds=300.0
        )
        await older.start()
        await older.subscribe("room")
        assert writes(n) == b"5"  # it has not noticed the older one

        await n.push("elsewhere")
        await n.push("room")

        await await_until(lambda: older.gaps == ["data_lost"], "the gap is reported")
        await n.state.membership.heartbeat()
        await older.receives(await n.push("room"))
        assert older.gaps == ["data_lost"]
        await older.stop()


async def test_message_with_a_ttl_is_rejected_while_an_older_replica_lives_and_nothing_of_it_is_kept(
    server: RedisServer,
) -> None:
    kept = make("user:ann")._replace(ttl_seconds=60)
    async with replicas(server, "n") as [n]:
        older = Replica(server, "o", codec=previous_release())
        await older.start()
        await await_until(lambda: writes(n) == b"4", "the newer one has noticed the older one")
        with pytest.raises(BrokerUnavailable):
            await n.state.broker.append(kept)
        with pytest.raises(BrokerUnavailable):
            await n.state.broker.append_all([make("room"), kept])
        assert server.execute("EXISTS", "t:log", "t:kept_bytes", "t:kept:/,user:ann") == 0

        await older.shut_down()
        await n.state.membership.heartbeat()

        await n.state.broker.append(kept)
        await n.state.broker.subscribe([Address("/", "~s")])
        assert await n.state.offline_queue.append_copies(Address("/", "user:ann"), "~s") is not None
