"""Changes of presence over replicas that are killed, suspended and stopped, and over a Redis that loses data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.notifications import PRESENCE_PARTITIONS
from gateway.domain.presence import (
    ClosedConnection,
    PresenceChange,
    PresenceConsumer,
    PresenceRules,
    PresentConnection,
)
from gateway.state.redis.presence_events import (
    MAX_REMEMBERED_ADDRESSES,
    MAX_REMEMBERED_USERS,
    PresenceRecording,
)
from tests.contract.values import at
from tests.integration.redis_state.replicas import MANUAL_HEARTBEATS, PREFIX, Replica, replicas
from tests.support.redis_clock import read_shift_from, shift_clock_offset
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import await_until, wait_until

ALL = range(PRESENCE_PARTITIONS)
WEBHOOK, CLIENTS = PresenceConsumer.WEBHOOK, PresenceConsumer.CLIENTS
OFFLINE_AFTER = 10.0
RULES = PresenceRules(OFFLINE_AFTER, frozenset({WEBHOOK}))
SHIFT = "shift"
LEASE_SECONDS = 60.0
QUICK = PresenceRules(1.0, frozenset({WEBHOOK}))
"""Rules for tests in which time really passes."""
SWEEP_SECONDS = 0.1


def configure(*made: Replica, rules: PresenceRules | None = RULES) -> None:
    for replica in made:
        replica.state.presence_events.configure(rules)


class Time:
    """The clock of all replicas of a test, which send heartbeats and sweep while it is moved."""

    def __init__(self, server: RedisServer, *made: Replica) -> None:
        self._server = server
        self._living = list(made)
        self._shift_ms = 0
        for replica in made:
            read_shift_from(replica.state, SHIFT)

    def killed(self, replica: Replica) -> None:
        self._living.remove(replica)

    async def pass_by(self, seconds: float, *, suspended: Replica | None = None) -> None:
        """Let time pass in steps of four seconds, or set the clock back in one. A suspended replica does nothing
        meanwhile."""
        while seconds:
            stride = min(seconds, 4.0)
            seconds -= stride
            self._shift_ms += int(stride * 1000)
            self._server.execute("SET", SHIFT, self._shift_ms)
            for replica in self._living:
                shift_clock_offset(replica.state.commands, stride)
                if replica is not suspended:
                    await replica.state.membership.heartbeat()
                    await replica.state.membership.maintain(0)
                    await sweep(replica)


async def sweep(replica: Replica) -> int:
    return await replica.state.presence_events.sweep(ALL, limit=1_000)


async def audit(replica: Replica) -> int:
    return await replica.state.presence_events.audit(ALL, limit=1_000)


async def deliver(replica: Replica, consumer: PresenceConsumer = WEBHOOK) -> list[tuple[str, bool]]:
    """Notify a consumer of everything; return the users and whether they are online."""
    return [(each.user, each.is_online) for each in await deliver_changes(replica, consumer)]


async def deliver_changes(
    replica: Replica, consumer: PresenceConsumer = WEBHOOK
) -> tuple[PresenceChange, ...]:
    changes = await replica.state.presence_events.undelivered(consumer, ALL, limit=1_000)
    await replica.state.presence_events.delivered(consumer, changes)
    return changes


async def leave(replica: Replica, *sids: str) -> None:
    await replica.state.disconnects.record([ClosedConnection(sid) for sid in sids])


async def register_listed(replica: Replica, sid: str, user: str) -> None:
    connection = PresentConnection(sid, user, "/", replica.name, "websocket", 1000.0)
    await replica.state.presence.register(connection, [], listed=f'"{user}"')


class Backend:
    """A consumer that is notified by one replica, as the gateway does it, while time really passes."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.changes: list[PresenceChange] = []
        self.longest_pause = 0.0
        """The longest time between two sweeps."""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            with suppress(BrokerTimeout, BrokerUnavailable):
                await sweep(self._replica)
                self.longest_pause = max(self.longest_pause, loop.time() - last)
                last = loop.time()
                await audit(self._replica)
                self.changes += await deliver_changes(self._replica)
            await asyncio.sleep(SWEEP_SECONDS)

    @property
    def online(self) -> set[str]:
        """The users that are online, as a backend knows that ignores what is not above its version."""
        return {each.user for each in self._newest.values() if each.is_online}

    @property
    def _newest(self) -> dict[str, PresenceChange]:
        newest: dict[str, PresenceChange] = {}
        for change in self.changes:
            known = newest.get(change.user)
            if known is None or change.version > known.version:
                newest[change.user] = change
        return newest

    def of(self, user: str) -> list[bool]:
        return [each.is_online for each in self.changes if each.user == user]


@asynccontextmanager
async def backend_of(replica: Replica) -> AsyncIterator[Backend]:
    backend = Backend(replica)
    running = asyncio.create_task(backend.run())
    yield backend
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])


# --- replicas that are killed, suspended, stopped ---


async def test_users_of_a_killed_replica_are_offline_since_the_end_of_its_lease(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        configure(a, b)
        for user in ("ann", "bob", "cid"):
            await b.register(f"~{user}", user, "room")
        await a.register("~cid2", "cid")
        await deliver(a)
        lease_end = float(server.execute("ZSCORE", f"{PREFIX}:leases", "b")) / 1000
        await b.stop()
        time.killed(b)
        await time.pass_by(20.0)
        await a.register("~bob2", "bob")
        await time.pass_by(LEASE_SECONDS - 20.0 + OFFLINE_AFTER - 2.0)
        assert a.reaped == ["b"]
        assert await deliver(a) == []

        await time.pass_by(3.0)

        (ann,) = await deliver_changes(a)
        assert (ann.user, ann.is_online, ann.connections) == ("ann", False, 0)
        assert set(ann.addresses) == {at(None), at("room")}
        assert abs(ann.since - lease_end) < 0.01
        await time.pass_by(100.0)
        assert await deliver(a) == []


async def test_lease_is_found_expired_by_a_sweep_of_any_replica(server: RedisServer) -> None:
    async with replicas(server, "a", "b", "c", **MANUAL_HEARTBEATS) as [a, b, c]:
        time = Time(server, a, b, c)
        configure(a, b, c)
        await c.register("~1", "ann")
        server.execute("ZADD", f"{PREFIX}:leases", 1, "c")
        await time.pass_by(1.0, suspended=c)

        await sweep(b)

        assert (a.reaped + b.reaped, server.execute("HLEN", f"{PREFIX}:conns:c")) == (["c"], 0)


async def test_users_of_a_killed_replica_are_offline_once_and_in_time(server: RedisServer) -> None:
    users = [f"user-{number}" for number in range(300)]
    lease_seconds = 6.0
    async with replicas(server, "a", "b", lease_seconds=lease_seconds) as [a, b]:
        configure(a, b, rules=QUICK)
        async with backend_of(a) as backend:
            for user in users:
                await b.register(f"~{user}", user)
            await await_until(lambda: backend.online == {*users}, "all are online")
            await b.stop()
            lease_end = float(server.execute("ZSCORE", f"{PREFIX}:leases", "b"))
            for user in users[:60]:
                await a.register(f"~{user}-2", user)

            await await_until(lambda: backend.online == {*users[:60]}, "those who did not connect elsewhere")
            await asyncio.sleep(2.0)

        assert [backend.of(user) for user in users] == [[True]] * 60 + [[True, False]] * 240
        late = max(each.version for each in backend.changes) - lease_end
        print(f"offline {late:.0f} ms after the lease, with pauses of {backend.longest_pause:.2f} s")
        assert late <= 1000 * (QUICK.offline_after_seconds + 1.0 + backend.longest_pause)


async def test_users_of_a_suspended_replica_are_offline_and_then_online_again(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        configure(a, b)
        await b.register("~1", "ann")
        online = await deliver_changes(a)
        await time.pass_by(LEASE_SECONDS + OFFLINE_AFTER + 4.0, suspended=b)
        offline = await deliver_changes(a)

        await time.pass_by(4.0)

        again = await deliver_changes(a)
        assert [each.is_online for each in (*online, *offline, *again)] == [True, False, True]
        assert online[0].version < offline[0].version < again[0].version


async def test_replica_suspended_for_less_than_its_lease_changes_nothing(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        configure(a, b)
        await b.register("~1", "ann")
        await deliver(a)

        await time.pass_by(LEASE_SECONDS - 5.0, suspended=b)
        await time.pass_by(30.0)

        assert await deliver(a) == []


async def test_users_of_a_stopped_replica_are_offline_unless_they_connect_elsewhere(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        configure(a, b)
        for user in ("ann", "bob"):
            await b.register(f"~{user}", user)
        await deliver(a)
        await b.state.close()
        await b.stop()
        time.killed(b)
        await a.register("~bob2", "bob")
        await time.pass_by(OFFLINE_AFTER - 2.0)
        assert await deliver(a) == []

        await time.pass_by(4.0)

        assert await deliver(a) == [("ann", False)]
        assert a.reaped == []


async def test_reloads_of_many_pages_change_nothing(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        configure(a, b)
        pages = [(f"~{number}", f"user-{number}") for number in range(200)]
        for sid, user in pages:
            await a.register(sid, user)
        assert len(await deliver(a)) == 200

        for round_ in range(20):
            here, there = (a, b) if round_ % 2 else (b, a)
            for first in range(0, 200, 50):
                await leave(there, *(sid for sid, _ in pages[first : first + 50]))
            await time.pass_by(3.0)
            for sid, user in pages:
                await here.register(sid, user)

        await time.pass_by(30.0)
        assert await deliver(a) == []


async def test_connection_taken_over_by_another_replica_changes_nothing_but_addresses(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        configure(a, b)
        await a.register("~1", "ann", "red")
        await deliver(a)
        server.execute("ZADD", f"{PREFIX}:leases", 1, "a")  # so that b may take it
        await b.register("~1", "ann", "blue")
        await a.state.membership.heartbeat()
        await leave(a, "~1")
        await time.pass_by(30.0)
        assert await deliver(a) == []

        await leave(b, "~1")
        await time.pass_by(20.0)

        (change,) = await deliver_changes(b)
        assert (change.is_online, set(change.addresses)) == (False, {at(None), at("red"), at("blue")})


# --- a clock that is set back ---


async def test_clock_that_is_set_back_delays_nothing(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        configure(a, b)
        for number in range(40):
            await b.register(f"~{number}", f"user-{number}")
        await time.pass_by(4.0)
        await deliver(a)
        await b.register("~late", "late")
        await leave(b, *(f"~{number}" for number in range(20, 30)))
        server.execute("DEL", *(f"{PREFIX}:absent:{each}" for each in ALL))  # an audit finds them
        await leave(b, *(f"~{number}" for number in range(30, 40)))

        await time.pass_by(-3600.0)
        offline = set()
        for _ in range(20):
            await a.state.presence_events.audit(ALL, limit=10)
            await time.pass_by(1.0)
            offline |= set(await deliver(a))

        assert offline == {("late", True), *((f"user-{number}", False) for number in range(20, 40))}


# --- a Redis that is away, or loses data ---


async def test_users_of_living_replicas_stay_online_while_redis_is_away(server: RedisServer) -> None:
    lease_seconds = 3.0
    async with replicas(server, "a", "b", lease_seconds=lease_seconds, timeout_seconds=1.0) as [a, b]:
        configure(a, b, rules=QUICK)
        async with backend_of(a) as backend:
            for number in range(20):
                await b.register(f"~{number}", f"user-{number}")
            await await_until(lambda: len(backend.online) == 20, "all are online")
            server.freeze()
            await asyncio.sleep(lease_seconds + QUICK.offline_after_seconds + 2.0)
            server.thaw()
            await await_until(lambda: a.state.commands.is_connected, "Redis is reached again")
            await asyncio.sleep(2 * lease_seconds)

            await b.register("~last", "last")
            await await_until(lambda: "last" in backend.online, "changes are delivered again")

        assert {tuple(backend.of(f"user-{number}")) for number in range(20)} == {(True,)}


async def test_emptied_redis_is_made_up_for(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        configure(a, b)
        for user in ("stays", "leaves", "left", "gone"):
            await b.register(f"~{user}", user, "room")
        await leave(b, "~gone")
        await time.pass_by(20.0)
        before = {each.user: each for each in await deliver_changes(a)}
        await leave(b, "~left")

        server.execute("FLUSHALL")
        await leave(b, "~leaves")
        await time.pass_by(LEASE_SECONDS + 20.0)

        after = {each.user: each for each in await deliver_changes(a)}
        assert {user: each.is_online for user, each in after.items()} == {
            "stays": True, "leaves": False, "left": False, "gone": False,
        }  # fmt: skip
        assert all(after[user].version > before[user].version for user in before)
        assert set(after["left"].addresses) == {at(None), at("room")}
        await time.pass_by(60.0)
        assert await deliver(a) == []


async def test_user_whose_last_connection_an_older_copy_lacks_stays_online(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        configure(a, b, rules=QUICK)
        await a.register("~1", "ann")
        await time.pass_by(4.0)
        assert await deliver(b) == [("ann", True)]
        server.execute("SAVE")
        await b.register("~2", "ann")
        await leave(a, "~1")

        server.restart()
        await await_until(lambda: a.state.commands.is_connected, "Redis is reached")
        await await_until(lambda: b.state.commands.is_connected, "Redis is reached")
        await time.pass_by(LEASE_SECONDS / 3, suspended=b)
        assert await deliver(a) == []
        await time.pass_by(2 * LEASE_SECONDS)

        assert await deliver(a) == []


async def test_redis_with_an_older_copy_is_made_up_for(server: RedisServer) -> None:
    async with replicas(server, "a", "b", lease_seconds=3.0) as [a, b]:
        configure(a, b, rules=QUICK)
        async with backend_of(a) as backend:
            for user in ("stays", "left", "leaves", "killed"):
                await b.register(f"~{user}", user)
            await await_until(
                lambda: backend.online == {"stays", "left", "leaves", "killed"}, "they are online"
            )
            server.execute("SAVE")
            await leave(b, "~left")
            await b.register("~new", "new")
            await b.register("~flaps", "flaps")
            await await_until(lambda: backend.online == {"stays", "leaves", "killed", "new", "flaps"}, "1")
            await leave(b, "~flaps")
            await await_until(lambda: backend.online == {"stays", "leaves", "killed", "new"}, "2")
            await leave(b, "~leaves")

            server.restart()

            await await_until(lambda: a.state.commands.is_connected, "Redis is reached again")
            await b.register("~later", "later")
            expected = {"stays", "killed", "new", "later"}
            await await_until(lambda: backend.online == expected, f"{expected} are online")
            await asyncio.sleep(8.0)  # for whatever would make it wrong again
            assert backend.online == expected
            await b.stop()
            await await_until(lambda: backend.online == set(), "the replica is reaped")
        versions: dict[str, int] = {}
        for change in backend.changes:
            assert change.version > versions.get(change.user, 0), change
            versions[change.user] = change.version


async def test_failover_that_lost_the_last_writes_is_made_up_for(server: RedisServer) -> None:
    second = RedisServer(replicaof=f"127.0.0.1 {server.port}")
    try:
        async with (
            TcpProxy(server.port) as proxy,
            replicas(server, "a", "b", url=proxy.redis_url, lease_seconds=3.0) as [a, b],
        ):
            configure(a, b, rules=QUICK)
            async with backend_of(a) as backend:
                for user in ("stays", "left", "leaves"):
                    await b.register(f"~{user}", user)
                await await_until(lambda: len(backend.online) == 3, "they are online")
                wait_until(lambda: replicated(server), "the second server has everything")
                second.execute("REPLICAOF", "NO", "ONE")
                await leave(b, "~left")
                await b.register("~new", "new")
                await await_until(lambda: backend.online == {"stays", "leaves", "new"}, "it is accepted")
                await b.register("~short", "short")
                await await_until(lambda: "short" in backend.online, "it is accepted")
                await leave(b, "~short", "~leaves")

                proxy.lead_to(second.port)
                proxy.cut_connections()

                await await_until(lambda: backend.online == {"stays", "new"}, "it is made up for")
                await asyncio.sleep(8.0)  # for whatever would make it wrong again
                assert backend.online == {"stays", "new"}
    finally:
        second.stop()


def replicated(server: RedisServer) -> bool:
    with server.client() as client:
        client.set("written", 1, px=60_000)
        return bool(client.execute_command("WAIT", 1, 200) == 1)


async def test_failover_without_a_loss_repeats_nothing(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        time = Time(server, a)
        configure(a)
        await a.register("~1", "ann")
        await a.register("~2", "bob")
        await deliver(a)
        await leave(a, "~2")
        await time.pass_by(20.0)
        assert await deliver(a) == [("bob", False)]

        a.state.membership.mark_stale()
        await time.pass_by(60.0)

        assert await deliver(a) == []


async def test_users_of_a_replica_that_registers_late_are_not_offline_in_an_emptied_redis(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        configure(a, b)
        await b.register("~1", "ann")
        await deliver(a)

        server.execute("FLUSHALL")
        # Replica a has notified a backend of the user, and compares that with Redis long before b registers again.
        await time.pass_by(OFFLINE_AFTER + 20.0, suspended=b)
        await time.pass_by(LEASE_SECONDS + 30.0)

        assert await deliver(a) == [("ann", True)]


# --- a replica of the former release, and reloads ---


async def test_user_whom_a_replica_of_the_former_release_disconnects_is_found(server: RedisServer) -> None:
    async with replicas(server, "a", "old", **MANUAL_HEARTBEATS) as [a, old]:
        time = Time(server, a, old)
        configure(a)  # scripts of the former release take no rules
        await a.register("~1", "ann")
        await old.register("~2", "ann")
        await old.register("~3", "bob")
        await leave(a, "~1")
        await time.pass_by(20.0)
        assert await deliver(a) == [("ann", True)]
        await leave(old, "~2", "~3")
        await time.pass_by(20.0)
        assert await deliver(a) == []

        await audit(a)
        await time.pass_by(OFFLINE_AFTER + 2.0)

        assert await deliver(a) == [("ann", False)]


async def test_replica_that_the_former_release_reaps_is_found(server: RedisServer) -> None:
    async with replicas(server, "a", "b", "former", **MANUAL_HEARTBEATS) as [a, b, former]:
        time = Time(server, a, b, former)
        configure(a, b)
        await b.register("~1", "ann")
        await deliver(a)
        await b.stop()
        time.killed(b)
        server.execute("ZADD", f"{PREFIX}:leases", 1, "b")
        await former.state.membership.reap_expired(["b"])
        assert former.reaped == ["b"]

        await audit(a)
        await time.pass_by(OFFLINE_AFTER + 2.0)

        assert await deliver(a) == [("ann", False)]


async def test_users_who_are_connected_when_rules_are_configured_are_online(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        await b.register("~1", "ann", "room")
        configure(a, b)
        await time.pass_by(4.0)

        (ann,) = await deliver_changes(a)

        assert (ann.user, ann.is_online, set(ann.addresses)) == ("ann", True, {at(None), at("room")})
        configure(a, b)
        configure(a, b, rules=None)
        await leave(b, "~1")
        await time.pass_by(20.0)
        configure(a, b)
        await audit(a)
        # Users are set offline a lease after sweeps begin again.
        await time.pass_by(LEASE_SECONDS + 20.0)
        assert await deliver(a) == [("ann", False)]


async def test_consumer_that_is_added_gets_what_changes_from_then_on(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        time = Time(server, a)
        configure(a)
        await a.register("~1", "ann")
        configure(a, rules=PresenceRules(OFFLINE_AFTER, frozenset({WEBHOOK, CLIENTS})))
        await a.register("~2", "bob")

        assert await deliver(a, CLIENTS) == [("bob", True)]
        await leave(a, "~1")
        await time.pass_by(20.0)
        assert await deliver(a, CLIENTS) == [("ann", False)]


# --- what is kept ---


async def test_users_who_are_offline_and_delivered_leave_little_for_an_hour(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        time = Time(server, a)
        configure(a)
        await a.register("~1", "ann", *(f"room-{number}" for number in range(50)))
        await leave(a, "~1")
        await time.pass_by(20.0)
        await deliver(a)

        key = f"{PREFIX}:presence:ann"
        assert server.execute("STRLEN", key) < 40
        assert 0 < server.execute("PTTL", key) <= 3_600_000
        with server.client() as client:
            kept = {name.decode() for name in client.scan_iter(match=f"{PREFIX}:*", count=1_000)}
        sets = ("absent", "online", "undelivered", "changed")
        assert [name for name in kept if name.split(":")[1] in sets] == []


async def test_undelivered_users_are_bounded_and_the_oldest_is_forgotten(server: RedisServer) -> None:
    async with replicas(server, "a", last_seen_users=16 * 10, **MANUAL_HEARTBEATS) as [a]:
        configure(a)
        for number in range(400):
            await a.register(f"~{number}", f"user-{number}")

        counts = await a.state.presence_events.undelivered_counts()

        assert counts[WEBHOOK][0] == 160
        newest = [each.user for each in await a.state.presence_events.undelivered(WEBHOOK, ALL, limit=1_000)]
        assert "user-399" in newest
        assert "user-0" not in newest


async def test_remembered_users_are_bounded(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        recording = PresenceRecording(a.state.commands)
        recording.rules = "10000 webhook"
        for number in range(MAX_REMEMBERED_USERS + 50):
            recording.user_left(f"user-{number}", "/", ["room"], number)
        assert len(recording) == MAX_REMEMBERED_USERS

        for number in range(5_000):
            recording.user_left(f"much-{number}", "/", [f"room-{each}" for each in range(99)], number)
        assert len(recording) == MAX_REMEMBERED_ADDRESSES // 100


# --- lists ---


async def test_list_loses_the_connections_of_a_killed_replica(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        await register_listed(a, "~1", "ann")
        await register_listed(b, "~2", "bob")
        before = await a.state.user_lists.read("/", limit=10)
        await b.stop()
        time.killed(b)

        await time.pass_by(LEASE_SECONDS + 4.0)

        after = await a.state.user_lists.read("/", limit=10)
        assert (before.entries, after.entries, after.total) == (('"ann"', '"bob"'), ('"ann"',), 1)
        assert after.version != before.version


async def test_list_is_the_same_after_redis_was_emptied_with_another_version(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        time = Time(server, a, b)
        await register_listed(a, "~1", "ann")
        await register_listed(b, "~2", "bob")
        before = await a.state.user_lists.read("/", limit=10)

        server.execute("FLUSHALL")
        await time.pass_by(8.0)

        after = await a.state.user_lists.read("/", limit=10)
        assert (set(after.entries), after.total) == ({'"ann"', '"bob"'}, 2)
        assert after.version > before.version


async def test_entries_of_connections_that_a_former_release_removed_leave_the_list(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        time = Time(server, a)
        for number in range(50):
            await register_listed(a, f"~{number}", f"user-{number}")
        before = await a.state.user_lists.version("/")
        # Its script moves the connection to a replica of that release, and does not know of lists.
        for number in range(1, 50, 2):
            server.execute("HDEL", f"{PREFIX}:conns:a", f"~{number}")

        for _ in range(40):  # each time other entries are examined
            await a.state.user_lists.version("/")
            await time.pass_by(1.0)

        version, found = await a.state.user_lists.version("/"), await a.state.user_lists.read("/", limit=100)
        assert found.entries == tuple(f'"user-{number}"' for number in range(0, 50, 2))
        assert (found.total, found.version, version > before) == (25, version, True)


async def test_connection_resumed_elsewhere_is_listed_once(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await register_listed(a, "~1", "ann")
        server.execute("ZADD", f"{PREFIX}:leases", 1, "a")
        await register_listed(b, "~1", "ann")
        await leave(a, "~1")

        assert (await a.state.user_lists.read("/", limit=10)).entries == ('"ann"',)
        await leave(b, "~1")
        assert (await a.state.user_lists.read("/", limit=10)).total == 0
