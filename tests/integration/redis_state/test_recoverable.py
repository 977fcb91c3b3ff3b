"""Connections that are gone and may be resumed, over several replicas: counted once, at every moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.domain.errors import TooManyConnections
from gateway.domain.presence import PresentConnection
from gateway.state.redis.codec import decode_publish_result
from tests.integration.redis_state.replicas import (
    MANUAL_HEARTBEATS,
    PREFIX,
    Replica,
    await_answer,
    make,
    replicas,
)
from tests.integration.redis_state.test_session_takeover import connect
from tests.support.redis_server import RedisServer


async def counted(replica: Replica, room: str) -> tuple[int, int]:
    """Return connections and recoverable ones, as a push reports them."""
    result = await replica.state.broker.append(make(room))
    return result.connections, result.recoverable


async def test_connection_of_a_killed_replica_counts_until_its_window_ends(server: RedisServer) -> None:
    options: dict[str, Any] = {"lease_seconds": 1.0, "recovery_seconds": 3.0}
    async with replicas(server, "a", **options) as [a]:
        killed = Replica(server, "b", **options)
        await killed.start()
        await connect(killed, "~s1", "ann", "room", connected_at=1.0)
        await killed.register("~s2", "ann", "declined")
        await killed.stop()

        seen: list[tuple[int, int]] = []
        users: list[int] = []
        async with asyncio.timeout(60):
            while not seen or seen[-1] != (0, 0):
                seen.append(await counted(a, "room"))
                users.append((await a.state.presence.of_user("ann")).recoverable)
                await asyncio.sleep(0.02)

        assert a.reaped == ["b"]
        assert list(dict.fromkeys(seen)) == [(1, 0), (0, 1), (0, 0)]
        assert users[-1] == 0
        assert 1 in users
        assert await counted(a, "declined") == (0, 0)


async def test_window_of_a_reaped_connection_begins_with_the_end_of_the_lease(server: RedisServer) -> None:
    options: dict[str, Any] = {"lease_seconds": 1.0, "recovery_seconds": 60.0}
    async with replicas(server, "a", **options) as [a]:
        killed = Replica(server, "b", **options)
        await killed.start()
        await connect(killed, "~s1", "ann", "room", connected_at=1.0)
        await killed.stop()
        lease_end = int(server.execute("ZSCORE", f"{PREFIX}:leases", "b"))

        await await_answer(lambda: counted(a, "room"), (0, 1))
        await await_answer(
            lambda: asyncio.to_thread(server.execute, "ZSCORE", f"{PREFIX}:parked:/,room", "~s1"),
            float(lease_end + 60_000),
        )


async def test_connection_that_another_replica_resumed_is_not_recoverable(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await connect(a, "~s1", "ann", "room", connected_at=1.0)
        await connect(b, "~s1", "ann", "room", connected_at=2.0)

        await a.state.presence.unregister("~s1", is_parked=True)  # the former replica notices later

        assert await counted(b, "room") == (1, 0)
        assert (await b.state.presence.of_user("ann")).recoverable == 0


async def test_connection_lost_at_one_replica_is_resumed_at_another_in_one_step(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await connect(a, "~s1", "ann", "room", connected_at=1.0)
        await a.state.presence.unregister("~s1", is_parked=True)
        assert await counted(b, "room") == (0, 1)

        await b.register("~s1", "ann", "room", connected_at=2.0)

        assert await counted(a, "room") == (1, 0)
        assert server.execute("KEYS", f"{PREFIX}:parked*") == []


async def test_lost_connection_whose_end_redis_did_not_take_is_counted_later(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS, timeout_seconds=1.0) as [a, b]:
        await connect(a, "~s1", "ann", "room", connected_at=1.0)
        a.state.presence.dirty.clear()
        a.state.presence._here.pop("~s1")  # as after a write that failed
        a.state.presence._parked.add("~s1")
        a.state.presence.dirty.add("~s1")

        await a.state.membership.maintain(0)

        assert await counted(b, "room") == (0, 1)


async def test_every_index_of_recoverable_connections_ends_by_itself(server: RedisServer) -> None:
    async with replicas(server, "a", recovery_seconds=60.0, **MANUAL_HEARTBEATS) as [a]:
        await connect(a, "~s1", "ann", "room", connected_at=1.0)
        await a.state.presence.unregister("~s1", is_parked=True)

        keys = server.execute("KEYS", f"{PREFIX}:parked*")

        assert len(keys) == 5  # the namespace, the room, the room of the sid, the user, and where they are
        assert all(0 < server.execute("PTTL", key) <= 60_000 for key in keys)


def test_result_with_recoverable_connections_is_not_exact_for_a_former_release() -> None:
    kept = b"id 1-0 0 1+2 0"

    assert decode_publish_result(kept)[2:6] == (0, True, False, 2)
    assert kept.split(b" ")[3] != b"1"  # what a former release compares


async def test_limit_of_a_user_counts_over_replicas_but_not_those_whose_lease_has_expired(
    server: RedisServer,
) -> None:
    options: dict[str, Any] = {"lease_seconds": 1.0, "recovery_seconds": 60.0}
    async with replicas(server, "a", "b", **options) as [a, b]:
        killed = Replica(server, "c", **options)
        await killed.start()
        for replica, sid in ((a, "~s1"), (b, "~s2"), (killed, "~s3")):
            await replica.state.presence.register(present(replica, sid), ["room"], max_of_user=3)
        with pytest.raises(TooManyConnections):
            await a.state.presence.register(present(a, "~s4"), ["room"], max_of_user=3)

        await a.state.presence.register(present(a, "~s2"), ["room"], max_of_user=3)  # resumed here
        await killed.stop()
        await await_answer(lambda: registers(a, "~s4"), True)

        with pytest.raises(TooManyConnections):
            await b.state.presence.register(present(b, "~s3"), ["room"], max_of_user=3)


def present(replica: Replica, sid: str) -> PresentConnection:
    return PresentConnection(sid, "ann", "/", replica.name, "websocket", 1000.0)


async def registers(replica: Replica, sid: str) -> bool:
    """Return whether a connection is registered that is one of at most three of its user."""
    try:
        await replica.state.presence.register(present(replica, sid), ["room"], max_of_user=3)
    except TooManyConnections:
        return False
    return True


async def test_rejected_connection_leaves_nothing_to_write_later(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await a.state.presence.register(present(a, "~s1"), ["room"], max_of_user=1)

        with pytest.raises(TooManyConnections):
            await b.state.presence.register(present(b, "~s2"), ["room"], max_of_user=1)

        assert (len(b.state.presence), b.state.presence.dirty) == (0, set())
        assert await counted(b, "room") == (1, 0)
