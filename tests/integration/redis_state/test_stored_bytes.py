"""What Redis holds is bounded: the log with its indexes by HISTORY_BYTES, and what is kept of users by numbers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.domain.errors import BrokerUnavailable, RecoveryFailed
from gateway.domain.messages import DisconnectCommand, new_id
from gateway.domain.positions import Position
from gateway.domain.presence import ClosedConnection
from gateway.domain.rate_limit import Rate
from gateway.domain.sessions import RecoverySession
from tests.contract.values import at, revoke_token
from tests.integration.redis_state.replicas import MANUAL_HEARTBEATS, Replica, former_release, replicas
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer

HISTORY_BYTES = 2_000_000
LONG = "x" * 280


def used(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("memory")["used_memory"])


async def push_to_fresh_rooms(replica: Replica, pushes: int, *, first: int = 0, rooms: int = 100) -> None:
    for number in range(first, first + pushes):
        await replica.push(*(f"{number}:{each}:{LONG}" for each in range(rooms)))


async def connect(replica: Replica, sid: str, user: str, *rooms: str) -> None:
    await replica.register(sid, user, *rooms)
    position = Position("1-0")
    session = RecoverySession(f"p{sid}", sid, user, "/", "first", frozenset(rooms), position)
    await replica.state.sessions.save(session)


async def close(replica: Replica, *sids: str) -> None:
    closed = [ClosedConnection(sid, pid=f"p{sid}", owner="first", is_parked=True) for sid in sids]
    await replica.state.disconnects.record(closed)


async def resume(replica: Replica, sid: str, user: str) -> str:
    """Resume a session; return the code of the rejection, or nothing."""
    try:
        await replica.state.sessions.resume(f"p{sid}", user=user, namespace="/", owner="second")
    except RecoveryFailed as failed:
        return failed.code
    return ""


async def test_log_and_indexes_of_fresh_rooms_take_no_more_than_their_bound(server: RedisServer) -> None:
    async with replicas(server, "a", history_bytes=HISTORY_BYTES, **MANUAL_HEARTBEATS) as [a]:
        before = used(server)
        sizes = []
        for part in range(5):
            await push_to_fresh_rooms(a, 60, first=60 * part)
            sizes.append(used(server) - before)

        assert max(sizes) < 1.5 * HISTORY_BYTES, sizes
        await a.state.membership.heartbeat()
        assert HISTORY_BYTES / 2 < a.state.sizes()["history_bytes"] < 1.5 * HISTORY_BYTES
        assert a.state.sizes()["history_entries"] > 5


async def test_counted_bytes_are_what_redis_takes(server: RedisServer) -> None:
    async with replicas(server, "a", history_bytes=50 * HISTORY_BYTES, **MANUAL_HEARTBEATS) as [a]:
        before = used(server)

        await push_to_fresh_rooms(a, 60)
        await push_to_fresh_rooms(a, 2_000, first=100, rooms=1)
        for _ in range(2_000):
            await a.push("room", size=400)

        await a.state.membership.heartbeat()
        counted = a.state.sizes()["history_bytes"]
        assert (used(server) - before) / 1.15 < counted < (used(server) - before) * 1.5


async def test_index_that_was_removed_early_is_a_gap_for_the_client_that_misses_it(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", history_bytes=HISTORY_BYTES, **MANUAL_HEARTBEATS) as [a]:
        await a.subscribe("room")
        start = await a.state.broker.subscribe([at("room")])
        await a.push("room")
        await push_to_fresh_rooms(a, 100)
        assert server.execute("EXISTS", "t:index:/,room") == 0

        page = await a.state.broker.history(start, [at("room")], max_entries=10, max_bytes=10_000)
        assert page.gap == "history_trimmed"
        newest = await a.state.broker.subscribe([at("room")])
        news = await a.push("room")
        page = await a.state.broker.history(newest, [at("room")], max_entries=10, max_bytes=10_000)
        assert (page.gap, [entry.id for _, entry in page.entries]) == (None, [news.id])


async def test_indexes_are_removed_once_all_their_positions_are_old(server: RedisServer) -> None:
    times: dict[str, Any] = {"recovery_seconds": 10.0, "history_slack_seconds": 1.0}
    async with replicas(server, "a", **times, **MANUAL_HEARTBEATS) as [a]:
        await push_to_fresh_rooms(a, 10)
        assert server.execute("ZCARD", "t:indexed") == 1_000

        shift_clock(a.state, 12)
        for _ in range(600):
            await a.push("room")

        assert server.execute("ZRANGE", "t:indexed", 0, -1) == [b"/,room"]
        assert int(server.execute("GET", "t:index_state").split()[0]) < 1_000


async def test_no_index_is_removed_early_while_a_former_release_may_read_it(server: RedisServer) -> None:
    async with (
        replicas(server, "n", history_bytes=HISTORY_BYTES, **MANUAL_HEARTBEATS) as [n],
        replicas(server, "o", codec=former_release(), **MANUAL_HEARTBEATS) as [o],
    ):
        start = await o.state.broker.subscribe([at("room")])
        await o.push("room")
        await push_to_fresh_rooms(n, 60)

        assert server.execute("EXISTS", "t:index:/,room") == 1
        page = await o.state.broker.history(start, [at("room")], max_entries=10, max_bytes=10_000)
        assert page.gap == "history_trimmed"


async def test_oldest_parked_session_of_a_user_is_removed_beyond_the_limit(server: RedisServer) -> None:
    async with replicas(server, "a", max_parked_of_user=3, **MANUAL_HEARTBEATS) as [a]:
        await connect(a, "other", "bob", "user:bob")
        await close(a, "other")
        for number in range(6):
            await connect(a, f"s{number}", "ann", "user:ann")
            await close(a, f"s{number}")

        assert (await a.state.presence.of_user("ann")).recoverable == 3
        assert server.execute("ZCARD", "t:left_of:ann") == 3
        codes = [await resume(a, f"s{number}", "ann") for number in range(6)]
        assert codes == ["unknown_session"] * 3 + [""] * 3
        assert await resume(a, "other", "bob") == ""
        assert server.execute("KEYS", "t:left*") == [b"t:left_bytes"]
        assert server.execute("GET", "t:left_bytes") == b"0"


async def test_parked_sessions_of_all_users_take_no_more_than_their_bound(server: RedisServer) -> None:
    limits: dict[str, Any] = {"max_parked_bytes": 500_000, "last_seen_users": 100}
    async with replicas(server, "a", **limits, **MANUAL_HEARTBEATS) as [a]:
        before, sizes = used(server), []
        for part in range(4):
            for number in range(100 * part, 100 * part + 100):
                rooms = [f"{number}:{each}:{LONG}" for each in range(10)]
                await connect(a, f"s{number}", f"user {number}", *rooms)
                await close(a, f"s{number}")
            sizes.append(used(server) - before)

        assert max(sizes) < 2 * 500_000, sizes
        await a.state.membership.heartbeat()
        assert a.state.membership.sizes.parked_bytes <= 500_000
        assert 20 < a.state.sizes()["parked_sessions"] < 100
        assert await resume(a, "s399", "user 399") == ""
        assert await resume(a, "s0", "user 0") == "unknown_session"


async def test_session_that_a_former_release_resumed_is_forgotten(server: RedisServer) -> None:
    async with replicas(server, "a", max_parked_of_user=2, recovery_seconds=10.0, **MANUAL_HEARTBEATS) as [a]:
        await connect(a, "s0", "ann")
        await close(a, "s0")
        server.execute("DEL", "t:left:ps0")  # as the script of a former release does
        shift_clock(a.state, 21)

        for number in (1, 2):
            await connect(a, f"s{number}", "ann")
            await close(a, f"s{number}")

        assert [await resume(a, f"s{number}", "ann") for number in (1, 2)] == ["", ""]
        assert server.execute("GET", "t:left_bytes") == b"0"


async def test_oldest_last_seen_is_removed_beyond_the_limit(server: RedisServer) -> None:
    async with replicas(server, "a", last_seen_users=2, **MANUAL_HEARTBEATS) as [a]:
        for user in ("ann", "bob", "cid"):
            await a.register(f"~{user}", user)
            await a.state.presence.unregister(f"~{user}")
            await asyncio.sleep(0.002)  # the next one ends in another millisecond

        seen = [
            (await a.state.presence.of_user(user)).last_seen is not None for user in ("ann", "bob", "cid")
        ]
        assert seen == [False, True, True]


async def test_revocation_over_the_limit_is_rejected_and_none_is_removed(server: RedisServer) -> None:
    def revoke(user: str) -> DisconnectCommand:
        return DisconnectCommand(new_id(), user, ("/",), at=1000.0, revoke=True)

    async with replicas(server, "a", revoked_users=2, revocation_seconds=100.0, **MANUAL_HEARTBEATS) as [a]:
        for user in ("ann", "bob", "ann"):
            await a.state.broker.append(revoke(user))

        with pytest.raises(BrokerUnavailable, match="revoked"):
            await a.state.broker.append(revoke("cid"))
        assert (await a.state.revocations.read("ann")).user_revoked_at == 1000.0
        shift_clock(a.state, 101)
        await a.state.broker.append(revoke("cid"))


async def test_revocation_of_a_token_over_the_limit_is_rejected_until_others_have_ended(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", revoked_tokens=2, revocation_seconds=100.0, **MANUAL_HEARTBEATS) as [a]:
        for token, kept_seconds in ((" t-1", 10), (" t-2", 50), (" t-1", 20)):
            await a.state.broker.append(revoke_token(token, kept_seconds=kept_seconds))

        with pytest.raises(BrokerUnavailable, match="revoked"):
            await a.state.broker.append(revoke_token(" t-3"))
        assert server.execute("EXISTS", "t:revoked_token: t-3") == 0
        assert 0 < server.execute("PTTL", "t:revoked_token: t-1") <= 20_000
        assert 50_000 < server.execute("PTTL", "t:revoked_tokens") <= 100_000
        await a.state.membership.heartbeat()
        assert a.state.sizes()["revoked_tokens"] == 2
        shift_clock(a.state, 21)
        await a.state.broker.append(revoke_token(" t-3"))
        assert server.execute("ZRANGE", "t:revoked_tokens", 0, -1) == [b" t-2", b" t-3"]


async def test_rate_limiters_are_bounded(server: RedisServer) -> None:
    async with replicas(server, "a", rate_buckets=10, **MANUAL_HEARTBEATS) as [a]:
        for number in range(100):
            assert (await a.state.rates.consume(f"key {number}", Rate(1.0, 1))).allowed

        assert server.execute("ZCARD", "t:rates") == 10
        assert not (await a.state.rates.consume("key 99", Rate(1.0, 1))).allowed
