"""A connection that is resumed at another replica, under its sid, while the former one may not know."""

from __future__ import annotations

from gateway.domain.errors import RecoveryFailed
from gateway.domain.positions import START
from gateway.domain.sessions import RecoverySession
from tests.contract.session_resume import resume
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import MANUAL_HEARTBEATS, PREFIX, Replica, await_answer, replicas
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until

LEASE_SECONDS = 1.5


async def session_takeover(a: Replica, b: Replica) -> None:
    """Connect at a in the rooms ``both`` and ``of a``, and resume at b in ``both`` and ``of b``."""
    await connect(a, "s1", "ann", "both", "of a", connected_at=1000.0)
    await connect(b, "s1", "ann", "both", "of b", connected_at=1001.0)


async def connect(replica: Replica, sid: str, user: str, *rooms: str, connected_at: float) -> None:
    """Connect, or resume if there is a session: the connection counts where its session is."""
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
    """All keys but those of sessions, which do not end here."""
    with server.client() as client:
        found = {*client.scan_iter(match=f"{PREFIX}:*", count=1_000)}
        return {key for key in found if not key.startswith(f"{PREFIX}:sessions:".encode())}


async def test_resumed_connection_counts_once_and_at_its_new_replica(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await session_takeover(a, b)

        await assert_only_at_b(a, b)
        assert server.execute("HGETALL", "t:room:/,both") == {b"b": b"1"}
        assert server.execute("EXISTS", "t:conns:a", "t:room:/,of a") == 0


async def test_other_connections_of_the_user_stay_where_they_are(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await a.register("s2", "ann", "both", connected_at=900.0)
        await session_takeover(a, b)

        assert await shown(a) == [("s2", "a", 900.0), ("s1", "b", 1001.0)]
        assert await counts(a, "both", "s2", "s1", None) == [2, 1, 1, 2]
        assert server.execute("HKEYS", "t:conns:a") == [b"s2"]

        await b.state.presence.unregister("s1")

        assert await shown(b) == [("s2", "a", 900.0)]
        assert await counts(b, "both", "s2", "s1", None) == [1, 1, 0, 1]


async def test_late_changes_by_the_former_replica_do_not_affect_the_connection(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await session_takeover(a, b)

        await a.state.presence.change_rooms("s1", ["of a", "late"])
        await a.state.presence.change_transport("s1", "polling")
        await assert_only_at_b(a, b)
        assert await counts(a, "late") == [0]
        await a.state.presence.unregister("s1")

        await assert_only_at_b(a, b)
        (connection,) = (await a.state.presence.of_user("ann")).connections
        assert connection.transport == "websocket"


async def test_repeated_registrations_by_the_former_replica_do_not_affect_the_connection(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await session_takeover(a, b)

        for _ in range(2):
            a.state.presence.mark_all_dirty()
            await a.state.presence.flush(0)
            await assert_only_at_b(a, b)
        await a.state.presence.reconcile()
        await a.state.presence.flush(0)
        await a.state.presence.unregister("s1")

        await assert_only_at_b(a, b)
        assert server.execute("EXISTS", "t:conns:a") == 0


async def test_repeated_registration_by_the_new_replica_changes_nothing(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await session_takeover(a, b)

        b.state.presence.mark_all_dirty()
        await b.state.presence.flush(0)

        await assert_only_at_b(a, b)


async def test_resumed_connection_is_at_its_new_replica_after_redis_was_emptied(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await session_takeover(a, b)
        server.execute("FLUSHALL")
        for each in (a, b):
            await each.state.membership.heartbeat()

        for each in (b, a):
            await each.state.membership.maintain(0)

        await assert_only_at_b(a, b)


async def test_resumed_connection_that_closes_leaves_no_keys(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        before = keys(server)
        await session_takeover(a, b)
        a.state.presence.mark_all_dirty()
        await a.state.presence.flush(0)

        await b.state.presence.unregister("s1")
        await a.state.presence.unregister("s1")

        ann = await a.state.presence.of_user("ann")
        assert (ann.is_online, ann.last_seen is not None) == (False, True)
        assert keys(server) - before == {b"t:user:ann", b"t:last_seen"}
        assert server.execute("HKEYS", "t:user:ann") == [b""]
        assert await counts(a, "both", "of a", "of b", "s1", None) == [0] * 5
        assert (len(a.state.presence), len(b.state.presence)) == (0, 0)


async def test_closed_connection_leaves_no_keys_once_the_former_replica_unregisters_it(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        before = keys(server)
        await session_takeover(a, b)
        await b.state.presence.unregister("s1")
        a.state.presence.mark_all_dirty()
        await a.state.presence.flush(0)

        await a.state.presence.unregister("s1")

        assert keys(server) - before == {b"t:user:ann", b"t:last_seen"}
        assert server.execute("HKEYS", "t:user:ann") == [b""]


async def test_connection_resumed_at_the_former_replica_again_is_there(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await session_takeover(a, b)
        await connect(a, "s1", "ann", "both", connected_at=1002.0)

        b.state.presence.mark_all_dirty()
        await b.state.presence.flush(0)
        await b.state.presence.unregister("s1")

        assert await shown(b) == [("s1", "a", 1002.0)]
        assert await counts(b, "both", "of a", "of b", "s1", None) == [1, 0, 0, 1, 1]
        assert server.execute("EXISTS", "t:conns:b") == 0


async def test_reaping_a_dead_replica_keeps_connections_resumed_elsewhere(
    server: RedisServer,
) -> None:
    async with replicas(server, "b", lease_seconds=LEASE_SECONDS) as [b]:
        a = Replica(server, "a", lease_seconds=LEASE_SECONDS)
        await a.start()
        await a.register("s2", "ann", "both")
        await session_takeover(a, b)
        await a.stop()

        await await_until(lambda: b.reaped == ["a"], "it is found dead")
        await await_until(lambda: server.execute("EXISTS", "t:conns:a") == 0, "it is reaped")

        await assert_only_at_b(b)
        assert server.execute("HGETALL", "t:room:/,both") == {b"b": b"1"}


async def test_connection_resumed_from_a_dead_replica_before_reaping_counts_once(
    server: RedisServer,
) -> None:
    async with replicas(server, "b", **MANUAL_HEARTBEATS) as [b]:
        a = Replica(server, "a", **MANUAL_HEARTBEATS)
        await a.start()
        await connect(a, "s1", "ann", "both", "of a", connected_at=1000.0)
        await a.stop()
        server.execute("ZADD", "t:leases", 1, "a")
        await connect(b, "s1", "ann", "both", "of b", connected_at=1001.0)
        await assert_only_at_b(b)

        await b.state.membership.heartbeat()
        await b.state.membership.maintain(0)

        assert b.reaped == ["a"]
        await assert_only_at_b(b)
        assert server.execute("HGETALL", "t:room:/,both") == {b"b": b"1"}


async def test_replica_reaped_while_suspended_keeps_connections_resumed_elsewhere(
    server: RedisServer,
) -> None:
    async with replicas(server, "b", lease_seconds=LEASE_SECONDS) as [b]:
        suspended = Replica(server, "a", lease_seconds=LEASE_SECONDS)
        await suspended.start()
        await connect(suspended, "s1", "ann", "both", "of a", connected_at=1000.0)
        await suspended.register("s2", "bob", "both", connected_at=1000.0)
        server.execute("ZADD", "t:leases", 1, "a")  # as after a SIGSTOP
        await b.state.membership.heartbeat()
        await b.state.membership.maintain(0)
        await connect(b, "s1", "ann", "both", "of b", connected_at=1001.0)

        await await_answer(lambda: counts(b, "both"), [2])

        assert await shown(b) == [("s1", "b", 1001.0)]
        assert await shown(b, "bob") == [("s2", "a", 1000.0)]
        assert await counts(b, "of a", "of b", "s1", "s2", None) == [0, 1, 1, 1, 2]
        await suspended.stop()


async def test_resumed_connection_counts_at_its_new_replica_even_with_an_earlier_clock(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await connect(a, "s1", "ann", "both", "of a", connected_at=1001.5)
        await connect(b, "s1", "ann", "both", "of b", connected_at=1001.0)
        await assert_only_at_b(a, b)

        a.state.presence.mark_all_dirty()
        await a.state.presence.flush(0)
        await a.state.presence.unregister("s1")

        await assert_only_at_b(a, b)


async def test_malformed_record_does_not_prevent_a_connection_from_being_resumed_or_closed(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        for garbage in (b"a", b"a ", b"a {", b"a []", b'a {"v":9}', b'a {"c":"x"}', b"\xff"):
            await connect(a, "s1", "ann", "both", "of a", connected_at=1000.0)
            server.execute("HSET", "t:user:ann", "s1", garbage)
            await connect(b, "s1", "ann", "both", "of b", connected_at=1001.0)
            assert await shown(b) == [("s1", "b", 1001.0)]
            server.execute("HSET", "t:user:ann", "s1", garbage)

            await b.state.presence.unregister("s1")
            await a.state.presence.unregister("s1")

            assert server.execute("EXISTS", "t:conns:b") == 0
            server.execute("DEL", "t:user:ann")
