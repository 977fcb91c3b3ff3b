"""A connection that is resumed at another replica, under its sid, while the former one may not know."""

from __future__ import annotations

from typing import Any

from gateway.domain.errors import RecoveryFailed
from gateway.domain.positions import START
from gateway.domain.sessions import RecoverySession
from tests.contract.session_resume import resume
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import PREFIX, Replica, replicas, until, until_redis_says
from tests.support.redis_server import RedisServer

LEASE_SECONDS = 1.5
CALM: dict[str, Any] = {"lease_seconds": 60.0, "subscription_timeout_seconds": 300.0}
"""No sign of life but those that a test asks for."""


async def session_takeover(a: Replica, b: Replica) -> None:
    """What was at A in the rooms ``both`` and ``of a`` is at B now, in ``both`` and ``of b``."""
    await come(a, "s1", "ann", "both", "of a", connected_at=1000.0)
    await come(b, "s1", "ann", "both", "of b", connected_at=1001.0)


async def come(replica: Replica, sid: str, user: str, *rooms: str, connected_at: float) -> None:
    """Somebody connects, or is resumed if he was connected before: he counts where his session is."""
    owner = f"{replica.name}.{connected_at}"
    try:
        await resume(replica.state.sessions, f"pid of {sid}", user=user, owner=owner)
    except RecoveryFailed:
        session = RecoverySession(f"pid of {sid}", sid, user, "/", owner, frozenset(rooms), START)
        await replica.state.sessions.save(session)
    await replica.register(sid, user, *rooms, connected_at=connected_at)


async def counts(replica: Replica, *rooms: str | None) -> list[int]:
    return [await connections_at(replica.state.broker, at(room)) for room in rooms]


async def shown(replica: Replica, user: str = "ann") -> list[tuple[str, str, float]]:
    found = await replica.state.presence.of_user(user)
    return [(each.sid, each.replica, each.connected_at) for each in found.connections]


async def assert_only_at_b(*replicas: Replica) -> None:
    for each in replicas:
        assert await counts(each, "both", "of a", "of b", "s1", None) == [1, 0, 1, 1, 1]
        assert await shown(each) == [("s1", "b", 1001.0)]


def keys(server: RedisServer) -> set[bytes]:
    """All but those of sessions, which nobody ends here."""
    with server.client() as client:
        found = {*client.scan_iter(match=f"{PREFIX}:*", count=1_000)}
        return {key for key in found if not key.startswith(f"{PREFIX}:sessions:".encode())}


async def test_a_connection_that_moved_counts_once_and_is_shown_where_it_is(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **CALM) as [a, b]:
        await session_takeover(a, b)

        await assert_only_at_b(a, b)
        assert server.ask("HGETALL", "t:room:/,both") == {b"b": b"1"}
        assert server.ask("EXISTS", "t:conns:a", "t:room:/,of a") == 0


async def test_others_of_the_same_user_are_left_where_they_are(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **CALM) as [a, b]:
        await a.register("s2", "ann", "both", connected_at=900.0)
        await session_takeover(a, b)

        assert await shown(a) == [("s2", "a", 900.0), ("s1", "b", 1001.0)]
        assert await counts(a, "both", "s2", "s1", None) == [2, 1, 1, 2]
        assert server.ask("HKEYS", "t:conns:a") == [b"s2"]

        await b.state.presence.unregister("s1")

        assert await shown(b) == [("s2", "a", 900.0)]
        assert await counts(b, "both", "s2", "s1", None) == [1, 1, 0, 1]


async def test_what_the_former_replica_tells_late_leaves_it_alone(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **CALM) as [a, b]:
        await session_takeover(a, b)

        await a.state.presence.change_rooms("s1", ["of a", "late"])
        await a.state.presence.change_transport("s1", "polling")
        await assert_only_at_b(a, b)
        assert await counts(a, "late") == [0]
        await a.state.presence.unregister("s1")

        await assert_only_at_b(a, b)
        (connection,) = (await a.state.presence.of_user("ann")).connections
        assert connection.transport == "websocket"


async def test_what_the_former_replica_tells_again_leaves_it_alone(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **CALM) as [a, b]:
        await session_takeover(a, b)

        for _ in range(2):
            a.state.presence.mark_all_dirty()
            await a.state.presence.flush(0)
            await assert_only_at_b(a, b)
        await a.state.presence.reconcile()
        await a.state.presence.flush(0)
        await a.state.presence.unregister("s1")

        await assert_only_at_b(a, b)
        assert server.ask("EXISTS", "t:conns:a") == 0


async def test_telling_again_where_it_is_changes_nothing(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **CALM) as [a, b]:
        await session_takeover(a, b)

        b.state.presence.mark_all_dirty()
        await b.state.presence.flush(0)

        await assert_only_at_b(a, b)


async def test_after_an_emptied_redis_it_is_where_it_moved_to(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **CALM) as [a, b]:
        await session_takeover(a, b)
        server.ask("FLUSHALL")
        for each in (a, b):
            await each.state.membership.heartbeat()

        for each in (b, a):
            await each.state.membership.maintain(0)

        await assert_only_at_b(a, b)


async def test_of_one_that_left_after_it_moved_nothing_is_left(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **CALM) as [a, b]:
        before = keys(server)
        await session_takeover(a, b)
        a.state.presence.mark_all_dirty()
        await a.state.presence.flush(0)

        await b.state.presence.unregister("s1")
        await a.state.presence.unregister("s1")

        ann = await a.state.presence.of_user("ann")
        assert (ann.online, ann.last_seen is not None) == (False, True)
        assert keys(server) - before == {b"t:user:ann"}
        assert server.ask("HKEYS", "t:user:ann") == [b""]
        assert await counts(a, "both", "of a", "of b", "s1", None) == [0] * 5
        assert (len(a.state.presence), len(b.state.presence)) == (0, 0)


async def test_of_one_that_its_former_replica_still_believes_in_nothing_is_left_once_that_knows(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", **CALM) as [a, b]:
        before = keys(server)
        await session_takeover(a, b)
        await b.state.presence.unregister("s1")
        a.state.presence.mark_all_dirty()
        await a.state.presence.flush(0)

        await a.state.presence.unregister("s1")

        assert keys(server) - before == {b"t:user:ann"}
        assert server.ask("HKEYS", "t:user:ann") == [b""]


async def test_one_that_moves_back_is_where_it_was_last(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **CALM) as [a, b]:
        await session_takeover(a, b)
        await come(a, "s1", "ann", "both", connected_at=1002.0)

        b.state.presence.mark_all_dirty()
        await b.state.presence.flush(0)
        await b.state.presence.unregister("s1")

        assert await shown(b) == [("s1", "a", 1002.0)]
        assert await counts(b, "both", "of a", "of b", "s1", None) == [1, 0, 0, 1, 1]
        assert server.ask("EXISTS", "t:conns:b") == 0


async def test_what_a_dead_replica_left_is_taken_out_without_what_moved_away_from_it(
    server: RedisServer,
) -> None:
    async with replicas(server, "b", lease_seconds=LEASE_SECONDS) as [b]:
        a = Replica(server, "a", lease_seconds=LEASE_SECONDS)
        await a.start()
        await a.register("s2", "ann", "both")
        await session_takeover(a, b)
        await a.stop()

        await until(lambda: b.cleaned == ["a"], "it is dead")
        await until(lambda: server.ask("EXISTS", "t:conns:a") == 0, "it is cleaned up")

        await assert_only_at_b(b)
        assert server.ask("HGETALL", "t:room:/,both") == {b"b": b"1"}


async def test_one_that_moves_away_from_a_dead_replica_before_that_is_cleaned_up_counts_once(
    server: RedisServer,
) -> None:
    async with replicas(server, "b", **CALM) as [b]:
        a = Replica(server, "a", **CALM)
        await a.start()
        await come(a, "s1", "ann", "both", "of a", connected_at=1000.0)
        await a.stop()
        server.ask("ZADD", "t:leases", 1, "a")
        await come(b, "s1", "ann", "both", "of b", connected_at=1001.0)
        await assert_only_at_b(b)

        await b.state.membership.heartbeat()
        await b.state.membership.maintain(0)

        assert b.cleaned == ["a"]
        await assert_only_at_b(b)
        assert server.ask("HGETALL", "t:room:/,both") == {b"b": b"1"}


async def test_a_replica_that_was_held_dead_and_lives_leaves_alone_what_moved_meanwhile(
    server: RedisServer,
) -> None:
    async with replicas(server, "b", lease_seconds=LEASE_SECONDS) as [b]:
        sleeper = Replica(server, "a", lease_seconds=LEASE_SECONDS)
        await sleeper.start()
        await come(sleeper, "s1", "ann", "both", "of a", connected_at=1000.0)
        await sleeper.register("s2", "bob", "both", connected_at=1000.0)
        server.ask("ZADD", "t:leases", 1, "a")  # as after a SIGSTOP
        await b.state.membership.heartbeat()
        await b.state.membership.maintain(0)
        await come(b, "s1", "ann", "both", "of b", connected_at=1001.0)

        await until_redis_says(lambda: counts(b, "both"), [2])

        assert await shown(b) == [("s1", "b", 1001.0)]
        assert await shown(b, "bob") == [("s2", "a", 1000.0)]
        assert await counts(b, "of a", "of b", "s1", "s2", None) == [0, 1, 1, 1, 2]
        await sleeper.stop()


async def test_one_counts_where_it_moved_to_even_if_the_clock_there_is_behind(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **CALM) as [a, b]:
        await come(a, "s1", "ann", "both", "of a", connected_at=1001.5)
        await come(b, "s1", "ann", "both", "of b", connected_at=1001.0)
        await assert_only_at_b(a, b)

        a.state.presence.mark_all_dirty()
        await a.state.presence.flush(0)
        await a.state.presence.unregister("s1")

        await assert_only_at_b(a, b)


async def test_what_anybody_wrote_of_a_connection_does_not_keep_it_from_moving_or_leaving(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", **CALM) as [a, b]:
        for rubbish in (b"a", b"a ", b"a {", b"a []", b'a {"v":9}', b'a {"c":"x"}', b"\xff"):
            await come(a, "s1", "ann", "both", "of a", connected_at=1000.0)
            server.ask("HSET", "t:user:ann", "s1", rubbish)
            await come(b, "s1", "ann", "both", "of b", connected_at=1001.0)
            assert await shown(b) == [("s1", "b", 1001.0)]
            server.ask("HSET", "t:user:ann", "s1", rubbish)

            await b.state.presence.unregister("s1")
            await a.state.presence.unregister("s1")

            assert server.ask("EXISTS", "t:conns:b") == 0
            server.ask("DEL", "t:user:ann")
