"""Leases: presence and sessions of living, dead and stopped replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from gateway.domain.positions import START, Position
from gateway.domain.sessions import RecoverySession, ResumedSession
from gateway.state.redis.membership import RELEASE_SECONDS
from tests.contract.session_resume import resume, resume_failure
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import Replica, await_answer, replicas
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until

LEASE_SECONDS = 1.5


def session(pid: str, owner: str) -> RecoverySession:
    return RecoverySession(pid, f"sid of {pid}", "ann", "/", owner, frozenset({"own"}), START)


async def count(replica: Replica, room: str | None) -> int:
    return await connections_at(replica.state.broker, at(room))


async def test_presence_covers_all_replicas(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.register("s1", "ann", "room")
        await b.register("s2", "ann", "room")
        await b.register("s3", "bob", "room")

        for each in (a, b):
            assert await count(each, "room") == 3
            assert await count(each, None) == 3
            found = await each.state.presence.of_user("ann")
            assert [(c.replica, c.sid) for c in found.connections] == [("a", "s1"), ("b", "s2")]


async def test_presence_of_many_users_is_one_read(server: RedisServer) -> None:
    async with replicas(server, "a", "b", lease_seconds=60.0, subscription_timeout_seconds=300.0) as [a, b]:
        for number in range(50):
            for replica in (a, b):
                await replica.register(f"{replica.name}{number}", f"user{number}")
        users = [f"user{number}" for number in range(100)]
        await a.state.presence.of_users(users)
        server.execute("CONFIG", "RESETSTAT")

        found = await a.state.presence.of_users(users)

        stats = server.execute("INFO", "commandstats")
        # The script reads once which replicas live and which have expired; no other script here does for 20 s.
        names = ("zrangebyscore", "hgetall", "zcount")
        assert [stats[f"cmdstat_{name}"]["calls"] for name in names] == [2, 101, 100]
        assert list(found) == users
        assert [each.is_online for each in found.values()] == [True] * 50 + [False] * 50
        assert [c.replica for c in found["user7"].connections] == ["a", "b"]


async def test_presence_of_users_with_thousands_of_connections_is_read_in_parts(server: RedisServer) -> None:
    async with replicas(server, "a", lease_seconds=60.0, subscription_timeout_seconds=300.0) as [a]:
        for number in range(3_000):
            await a.register(f"s{number}", f"user{number % 30}")
        users = [f"user{number}" for number in range(40)]
        await a.state.presence.of_users(users)
        server.execute("CONFIG", "RESETSTAT")

        found = await a.state.presence.of_users(users)

        stats = server.execute("INFO", "commandstats")
        assert [stats[f"cmdstat_{name}"]["calls"] for name in ("evalsha", "hgetall")] == [3, 43]
        assert [len(found[user].connections) for user in users] == [100] * 30 + [0] * 10


async def test_connections_of_a_killed_replica_do_not_count_after_its_lease_and_are_reaped_once(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", "c", lease_seconds=LEASE_SECONDS) as [a, b, c]:
        dead = Replica(server, "dead", lease_seconds=LEASE_SECONDS)
        await dead.start()
        for number in range(250):
            await dead.register(f"d{number}", "ann", "room")
        await b.register("s1", "bob", "room")
        assert await count(a, "room") == 251
        await dead.stop()

        await await_answer(lambda: count(b, "room"), 1, seconds=LEASE_SECONDS + 0.5)

        await await_until(lambda: server.execute("HLEN", "t:conns:dead") == 0, "it is reaped")
        await await_until(lambda: a.reaped + b.reaped + c.reaped == ["dead"], "once")
        ann = await a.state.presence.of_user("ann")
        assert (ann.is_online, ann.last_seen is not None) == (False, True)
        assert server.execute("HGETALL", "t:room:/,room") == {b"b": b"1"}
        assert server.execute("EXISTS", "t:room:/,d1") == 0


async def test_replica_suspended_past_its_lease_registers_its_connections_again(server: RedisServer) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        suspended = Replica(server, "suspended", lease_seconds=LEASE_SECONDS)
        await suspended.start()
        await suspended.register("s1", "ann", "room")
        await suspended.register("s2", "ann", "room")
        # As after SIGSTOP: its lease ends, and the others reap it.
        server.execute("ZADD", "t:leases", 1, "suspended")
        await a.state.membership.heartbeat()
        await a.state.membership.maintain(0)
        assert a.reaped == ["suspended"]
        assert await count(a, "room") == 0

        await suspended.state.presence.unregister("s2")

        await await_answer(lambda: count(a, "room"), 1, seconds=LEASE_SECONDS)
        assert [c.sid for c in (await a.state.presence.of_user("ann")).connections] == ["s1"]
        await suspended.stop()


async def test_session_is_not_changed_by_a_former_owner(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.state.sessions.save(session("p", "a/1"))
        resumed = await resume(b.state.sessions, "p", owner="b/1")
        assert resumed == ResumedSession(session("p", "a/1"), in_use=True)

        await a.state.sessions.park("p", owner="a/1")
        await a.state.sessions.delete("p", owner="a/1")
        await a.state.sessions.change(session("p", "a/1").with_rooms(["late"], START))

        again = await resume(a.state.sessions, "p", owner="a/2")
        assert again == ResumedSession(session("p", "b/1"), in_use=True)


async def test_late_change_by_a_former_owner_is_ignored_by_redis(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.state.sessions.save(session("p", "a/1"))
        await resume(b.state.sessions, "p", owner="b/1")
        changed = session("p", "b/1").with_rooms(["own", "new"], Position("1700000000500-0"))
        await b.state.sessions.change(changed)

        # Replica a does not know yet that it lost the session, so the change is sent to Redis.
        await a.state.sessions.change(session("p", "a/1").with_rooms(["late"], START))

        assert await resume(a.state.sessions, "p", owner="a/2") == ResumedSession(changed, in_use=True)


async def test_unsaved_session_that_was_taken_over_is_not_restored(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.state.sessions.save(session("p", "a/1"))
        await resume(b.state.sessions, "p", owner="b/1")

        a.state.sessions.mark_all_dirty()
        await a.state.sessions.flush()

        assert server.execute("EXISTS", "t:sessions:a") == 0
        await b.state.sessions.park("p", owner="b/1")
        a.state.sessions.mark_all_dirty()
        await a.state.sessions.flush()
        assert await resume(b.state.sessions, "p") == ResumedSession(session("p", "b/1"), in_use=False)


async def test_sessions_of_a_killed_replica_are_kept_for_the_recovery_window_after_its_lease(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS, recovery_seconds=2.0) as [a]:
        dead = Replica(server, "dead", lease_seconds=LEASE_SECONDS, recovery_seconds=2.0)
        await dead.start()
        for pid in ("soon", "late"):
            await dead.state.sessions.save(session(pid, "dead/1"))
        await dead.stop()
        await await_until(lambda: a.reaped == ["dead"], "it is found dead")

        # The session was in use, but no living replica can still have its connection.
        resumed = await resume(a.state.sessions, "soon", owner="a/1")
        assert resumed == ResumedSession(session("soon", "dead/1"), in_use=False)
        assert (await resume(a.state.sessions, "soon", owner="a/2")).in_use
        died_at = float(server.execute("HGET", "t:dead", "dead")) / 1000
        await await_until(lambda: time.time() > died_at + 2.1, "the recovery window has ended")
        assert await resume_failure(a.state.sessions, "late") == "session_expired"
        await await_until(
            lambda: server.execute("EXISTS", "t:sessions:dead") == 0, "the ended session is forgotten"
        )
        assert time.time() > died_at + 4.0
        assert await resume_failure(a.state.sessions, "late") == "unknown_session"
        await await_until(lambda: server.execute("EXISTS", "t:dead") == 0, "no key is left of it")


async def test_sessions_are_saved_again_in_an_emptied_redis_unless_taken_over(server: RedisServer) -> None:
    async with replicas(server, "a", "b", lease_seconds=LEASE_SECONDS) as [a, b]:
        await a.state.sessions.save(session("stays", "a/1"))
        await a.state.sessions.save(session("moves", "a/1"))
        server.execute("FLUSHALL")
        await b.state.sessions.save(session("moves", "b/1"))

        await await_answer(
            lambda: asyncio.to_thread(server.execute, "HKEYS", "t:sessions:a"),
            [b"stays"],
            seconds=LEASE_SECONDS,
        )

        for pid, owner in (("moves", "b/1"), ("stays", "a/1")):
            resumed = await resume(b.state.sessions, pid, owner="b/2")
            assert resumed == ResumedSession(session(pid, owner), in_use=True)


async def test_process_that_takes_the_name_of_a_dead_one_starts_without_its_connections(
    server: RedisServer,
) -> None:
    former = Replica(server, "a")
    await former.start()
    await former.register("s1", "ann", "room")
    await former.state.sessions.save(session("p", "a/1"))
    await former.stop()

    async with replicas(server, "a") as [a]:
        assert await count(a, "room") == 0
        assert not (await a.state.presence.of_user("ann")).is_online
        resumed = await resume(a.state.sessions, "p", owner="a/2")
        assert resumed == ResumedSession(session("p", "a/1"), in_use=False)


# --- replicas that leave ---


async def start_with_connections(server: RedisServer, name: str = "leaves", **options: Any) -> Replica:
    """Start a replica with a connection of ann and two sessions, as it has when a stop cuts off clients."""
    replica = Replica(server, name, lease_seconds=LEASE_SECONDS, **options)
    await replica.start()
    await replica.register("s1", "ann", "room")
    for pid in ("soon", "late"):
        await replica.state.sessions.save(session(pid, f"{name}/1"))
    return replica


async def test_replica_that_shuts_down_leaves_presence_at_once_and_is_not_reported_dead(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        leaves = await start_with_connections(server)
        assert await count(a, "room") == 1

        await leaves.shut_down()

        ann = await a.state.presence.of_user("ann")
        assert (ann.is_online, ann.last_seen is not None, await count(a, "room")) == (False, True, 0)
        assert server.execute("EXISTS", "t:conns:leaves", "t:room:/,room") == 0
        assert server.execute("ZRANGE", "t:leases", 0, -1) == [b"a"]
        later = Replica(server, "later", lease_seconds=LEASE_SECONDS)
        await later.start()
        await later.stop()
        await await_until(lambda: "later" in a.reaped, "the lease of a later replica has ended")
        assert a.reaped == ["later"]


async def test_rest_of_a_released_replica_is_reaped_by_others_without_a_report(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        leaves = await start_with_connections(server)
        await leaves.stop()
        # Only the first step of the release is executed; any replica may send it.
        await a.state.commands.call("release_lease", "leaves", leaves.state.membership.process)
        assert await count(a, "room") == 0

        await await_until(
            lambda: server.execute("EXISTS", "t:conns:leaves", "t:room:/,room") == 0,
            "its connections are removed",
        )

        assert a.reaped == []


async def test_sessions_of_a_replica_that_shut_down_are_kept_for_the_recovery_window(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS, recovery_seconds=2.0) as [a]:
        leaves = await start_with_connections(server, recovery_seconds=2.0)

        await leaves.shut_down()

        resumed = await resume(a.state.sessions, "soon", owner="a/1")
        assert resumed == ResumedSession(session("soon", "leaves/1"), in_use=False)
        left_at = float(server.execute("HGET", "t:dead", "leaves")) / 1000
        await await_until(lambda: time.time() > left_at + 2.1, "the recovery window has ended")
        assert await resume_failure(a.state.sessions, "late") == "session_expired"
        await await_until(
            lambda: server.execute("EXISTS", "t:sessions:leaves", "t:dead") == 0, "no key is left of it"
        )
        assert time.time() > left_at + 4.0
        assert await resume_failure(a.state.sessions, "late") == "unknown_session"
        assert server.execute("HKEYS", "t:formats") == [b"a"]


async def test_recovery_window_continues_when_a_process_takes_the_name_of_a_former_one(
    server: RedisServer,
) -> None:
    leaves = await start_with_connections(server, "a")
    shift_clock(leaves.state, -30.0)  # it shut down so long ago
    await leaves.shut_down()

    async with replicas(server, "a") as [a]:
        resumed = await resume(a.state.sessions, "late", owner="a/2")

    assert resumed == ResumedSession(session("late", "a/1"), in_use=False)


async def test_recovery_window_ends_although_a_process_took_the_name_of_a_former_one(
    server: RedisServer,
) -> None:
    leaves = await start_with_connections(server, "a")
    shift_clock(leaves.state, -90.0)
    await leaves.shut_down()

    async with replicas(server, "a") as [a]:
        assert await resume_failure(a.state.sessions, "late", owner="a/2") == "session_expired"
        shift_clock(a.state, 40.0)

        async def late() -> str:
            return await resume_failure(a.state.sessions, "late", owner="a/2")

        await await_answer(late, "unknown_session")
        with server.client() as client:
            assert {*client.scan_iter(match="t:sessions:*")} == set()
        assert server.execute("HKEYS", "t:formats") == [b"a"]


async def test_replica_without_connections_leaves_no_keys(server: RedisServer) -> None:
    async with replicas(server, "a") as [_]:
        leaves = Replica(server, "leaves")
        await leaves.start()

        await leaves.shut_down()

        with server.client() as client:
            names = {*client.scan_iter(match="*leaves*")}
        assert (names, server.execute("HKEYS", "t:formats"), server.execute("EXISTS", "t:dead")) == (
            set(),
            [b"a"],
            0,
        )


@pytest.mark.parametrize("breaks", [RedisServer.freeze, RedisServer.kill])
async def test_release_without_an_answer_takes_a_second_and_is_logged(
    server: RedisServer, breaks: Callable[[RedisServer], None]
) -> None:
    leaves = await start_with_connections(server)
    breaks(server)
    began = asyncio.get_running_loop().time()

    with structlog.testing.capture_logs() as logs:
        await leaves.state.close()

    assert asyncio.get_running_loop().time() - began < RELEASE_SECONDS + 0.5
    assert "lease.release_timeout" in [line["event"] for line in logs]
    await leaves.stop()


async def test_state_that_has_ended_is_not_released(server: RedisServer) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        fails = await start_with_connections(server, "fails")
        await fails.stop()

        await fails.shut_down()

        assert server.execute("ZRANGE", "t:leases", 0, -1) == [b"a", b"fails"]
        await await_until(lambda: a.reaped == ["fails"], "it is found dead")


async def test_heartbeat_costs_the_same_with_many_connections(server: RedisServer) -> None:
    async with replicas(server, "a", lease_seconds=60.0, timeout_seconds=30.0) as [a]:
        await asyncio.gather(*(a.register(f"s{number}", f"user{number}") for number in range(1_000)))
        server.execute("CONFIG", "RESETSTAT")

        await a.state.membership.heartbeat()

        calls = sum(each["calls"] for each in server.execute("INFO", "commandstats").values())
        assert calls < 60


async def test_every_key_has_a_ttl_and_the_prefix(server: RedisServer) -> None:
    async with replicas(server, "a", "b", history_length=50) as [a, b]:
        await a.subscribe("room")
        await a.register("s1", "ann", "room")
        await b.register("s2", "ann", "room")
        await b.state.presence.unregister("s2")
        await a.state.sessions.save(session("p", "a/1"))
        await a.state.sessions.save(session("q", "a/1"))
        await a.state.sessions.park("q", owner="a/1")
        for volatile in (False, True):
            await asyncio.gather(
                *(a.push("room", "other", size=1_000, volatile=volatile) for _ in range(200))
            )
        await a.push("room", size=100_000, volatile=True)
        for event in ("claimed", "kept", "released"):
            await a.state.acks.claim(event, "holder", user="ann", seconds=10)
        await a.state.acks.keep("kept", "holder", "[]", user="ann")
        await a.state.acks.release("released", "holder", user="ann")

        with server.client() as client:
            ttls = {key: client.pttl(key) for key in client.scan_iter()}

    assert len(ttls) > 15
    assert b"t:user_acks:ann" in ttls
    assert {key: ttl for key, ttl in ttls.items() if ttl < 0 or not key.startswith(b"t:")} == {}
