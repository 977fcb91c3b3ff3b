"""A model of presence in plain sets, beside replicas that connect, leave, are killed, and lose what Redis held."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine
from itertools import count
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.domain.messages import Address
from gateway.domain.notifications import PRESENCE_PARTITIONS, partition_of
from gateway.domain.positions import START
from gateway.domain.presence import (
    ClosedConnection,
    PresenceChange,
    PresenceConsumer,
    PresenceRules,
    PresentConnection,
)
from gateway.domain.sessions import RecoverySession
from tests.contract.values import at, connections_at
from tests.integration.redis_state.replicas import Replica
from tests.support.redis_clock import read_shift_from, shift_clock_offset
from tests.support.redis_server import RedisServer

ALL: Final = range(PRESENCE_PARTITIONS)
WEBHOOK: Final = PresenceConsumer.WEBHOOK
OFFLINE_AFTER: Final = 10.0
LEASE_SECONDS: Final = 20.0
STRIDE_SECONDS: Final = 4.0
"""Replicas send heartbeats and sweep at least so often while time passes."""
USERS: Final = ("ann", "bob", "cid")
ROOMS: Final = ("red", "green", "blue", "yellow")
SHIFT: Final = "shift"
UNKNOWN: Final = b"2"
X = TypeVar("X")
_prefixes = count()
_numbers = count()


class Presence(RuleBasedStateMachine):
    """Replica ``a`` lives as long as the model, and notifies the one consumer. ``b`` is killed and started again."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.prefix = f"model{next(_prefixes)}"
        self.offset = 0.0
        self.redis = self.server.client()
        self.redis.set(SHIFT, 0)
        self.replicas: dict[str, Replica] = {}
        self.connections: dict[str, tuple[str, str]] = {}
        """User and replica by sid, of all that are open."""
        self.rooms: dict[str, str] = {}
        """The room that a connection joined last, by sid."""
        self.parked: dict[str, str] = {}
        """User by sid, of those that may be resumed."""
        self.seen: dict[str, PresenceChange] = {}
        """The newest change of each user of which the consumer was notified."""
        self.acknowledged: dict[str, int] = {}
        """The newest version of each user that was recorded as delivered, since Redis was emptied."""
        self.held: list[PresenceChange] = []
        """Changes that the consumer has got, and that are not recorded as delivered yet."""

    def do(self, work: Coroutine[Any, Any, X]) -> X:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            if self.replicas:
                self.compare_with_who_is_connected()
        finally:
            for replica in self.replicas.values():
                self.do(replica.stop())
            self.runner.close()
            self.redis.close()

    @initialize()
    def start(self) -> None:
        self.do(self._start("a"))
        self.do(self._start("b"))

    async def _start(self, name: str) -> None:
        replica = Replica(
            self.server,
            name,
            prefix=self.prefix,
            lease_seconds=LEASE_SECONDS,
            subscription_timeout_seconds=300.0,
        )
        read_shift_from(replica.state, SHIFT)
        await replica.start()
        replica.state.presence_events.configure(PresenceRules(OFFLINE_AFTER, frozenset({WEBHOOK})))
        self.replicas[name] = replica

    @property
    def a(self) -> Replica:
        return self.replicas["a"]

    def another(self, name: str) -> Replica | None:
        return next((each for each in self.replicas.values() if each.name != name), None)

    async def _register(self, replica: Replica, sid: str, user: str, room: str) -> None:
        connection = PresentConnection(sid, user, "/", replica.name, "websocket", 1000.0)
        await replica.state.presence.register(connection, [room])
        self.connections[sid], self.rooms[sid] = (user, replica.name), room

    # what clients do

    @rule(
        user=st.sampled_from(USERS),
        place=st.integers(0, 1),
        room=st.sampled_from(ROOMS),
        is_delivered=st.booleans(),
    )
    def connect(self, user: str, place: int, room: str, is_delivered: bool) -> None:
        replica = list(self.replicas.values())[place % len(self.replicas)]
        self.do(self._register(replica, f"~{next(_numbers)}", user, room))
        if is_delivered:
            self.deliver(100, is_recorded=True)

    @precondition(lambda self: self.connections)
    @rule(place=st.integers(0, 100), is_parked=st.booleans())
    def disconnect(self, place: int, is_parked: bool) -> None:
        sid, user, replica = self.pick(place)
        self.do(
            replica.state.disconnects.record([ClosedConnection(sid, user, "p", "o", is_parked=is_parked)])
        )
        del self.connections[sid]
        if is_parked:
            self.parked[sid] = user

    def disconnect_all(self, user: str | None) -> None:
        for sid, (of_user, name) in list(self.connections.items()):
            if of_user == user:
                closed = [ClosedConnection(sid, of_user)]
                self.do(self.replicas[name].state.disconnects.record(closed))
                del self.connections[sid]

    @precondition(lambda self: self.parked)
    @rule(place=st.integers(0, 100), at=st.integers(0, 1))
    def resume(self, place: int, at: int) -> None:
        sid = list(self.parked)[place % len(self.parked)]
        replica = list(self.replicas.values())[at % len(self.replicas)]
        self.do(self._register(replica, sid, self.parked.pop(sid), "red"))

    @precondition(lambda self: self.connections and len(self.replicas) > 1)
    @rule(place=st.integers(0, 100))
    def resume_before_the_former_replica_knows(self, place: int) -> None:
        sid, user, former = self.pick(place)
        new = self.another(former.name)
        assert new is not None

        async def take_over() -> None:
            pid = f"p{next(_numbers)}"
            session = RecoverySession(pid, sid, user, "/", f"{former.name}/1", frozenset({"red"}), START)
            await former.state.sessions.save(session)
            await new.state.sessions.resume(pid, user=user, namespace="/", owner=f"{new.name}/1")
            await self._register(new, sid, user, "red")
            await former.state.disconnects.record(
                [ClosedConnection(sid, user, pid, f"{former.name}/1", is_parked=True)]
            )

        self.do(take_over())

    @precondition(lambda self: self.connections)
    @rule(place=st.integers(0, 100), room=st.sampled_from(ROOMS))
    def change_rooms(self, place: int, room: str) -> None:
        sid, _, replica = self.pick(place)
        self.do(replica.state.presence.change_rooms(sid, [room]))
        self.rooms[sid] = room

    @precondition(lambda self: self.connections)
    @rule(place=st.integers(0, 100), entry=st.sampled_from([None, "entry"]))
    def register_again(self, place: int, entry: str | None) -> None:
        """Register all connections of a replica again, as when the catalogue was changed."""
        _, _, replica = self.pick(place)
        here = [sid for sid, (_, name) in self.connections.items() if name == replica.name]
        self.do(replica.state.presence.register_again(dict.fromkeys(here, entry)))

    def pick(self, place: int) -> tuple[str, str, Replica]:
        sid = list(self.connections)[place % len(self.connections)]
        user, name = self.connections[sid]
        return sid, user, self.replicas[name]

    # what happens to replicas and Redis

    @precondition(lambda self: "b" in self.replicas)
    @rule()
    def kill(self) -> None:
        self.do(self.replicas.pop("b").stop())
        self.connections = {sid: each for sid, each in self.connections.items() if each[1] != "b"}

    @precondition(lambda self: "b" not in self.replicas)
    @rule()
    def start_again(self) -> None:
        self.do(self._start("b"))

    @precondition(lambda self: "b" in self.replicas)
    @rule(seconds=st.sampled_from([25.0, 60.0]))
    def suspend(self, seconds: float) -> None:
        self.do(self._advance(seconds, suspended="b"))
        self.do(self.replicas["b"].state.membership.heartbeat())

    @rule(leaving=st.sampled_from([None, *USERS]), is_before=st.booleans())
    def flush(self, leaving: str | None, is_before: bool) -> None:
        """Empty Redis, perhaps just before or after all connections of a user end."""
        if is_before:
            self.disconnect_all(leaving)
        self.redis.flushall()
        self.redis.set(SHIFT, int(self.offset * 1000))
        self.acknowledged.clear()
        if not is_before:
            self.disconnect_all(leaving)
        # The replicas notice it some seconds later.
        self.do(self._advance(2.0, heartbeats=False))

    @rule(seconds=st.sampled_from([1.0, 6.0, 12.0, 40.0]))
    def advance(self, seconds: float) -> None:
        self.do(self._advance(seconds))

    async def _advance(self, seconds: float, *, suspended: str = "", heartbeats: bool = True) -> None:
        while seconds > 0:
            stride = min(seconds, STRIDE_SECONDS)
            seconds -= stride
            self.offset += stride
            self.redis.set(SHIFT, int(self.offset * 1000))
            for name, replica in self.replicas.items():
                shift_clock_offset(replica.state.commands, stride)
                if heartbeats and name != suspended:
                    await replica.state.membership.heartbeat()
                    await replica.state.membership.maintain(0)

    # what the replicas do

    @rule(limit=st.sampled_from([1, 2, 100]))
    def sweep(self, limit: int) -> None:
        self.do(self.a.state.presence_events.sweep(ALL, limit=limit))

    @rule(limit=st.sampled_from([1, 100]))
    def audit(self, limit: int) -> None:
        self.do(self.a.state.presence_events.audit(ALL, limit=limit))

    @rule(limit=st.sampled_from([1, 100]), is_recorded=st.booleans())
    def deliver(self, limit: int, is_recorded: bool) -> None:
        for change in self.do(self.a.state.presence_events.undelivered(WEBHOOK, ALL, limit=limit)):
            known = self.seen.get(change.user)
            if known is not None and known.version == change.version:
                assert known.is_online == change.is_online, "a version has two states"
            else:
                assert known is None or known.version < change.version, "versions rise"
                self.seen[change.user] = change
            assert change.partition == partition_of(change.user, PRESENCE_PARTITIONS)
            self.held.append(change)
        if is_recorded:
            self.record_delivered()

    @precondition(lambda self: self.held)
    @rule()
    def record_delivered(self) -> None:
        self.do(self.a.state.presence_events.delivered(WEBHOOK, self.held))
        for change in self.held:
            newest = self.acknowledged.get(change.user, 0)
            self.acknowledged[change.user] = max(newest, change.version)
        self.held = []

    @precondition(lambda self: self.held)
    @rule(seconds=st.sampled_from([0.0, 5.0, 30.0]))
    def postpone(self, seconds: float) -> None:
        self.do(self.a.state.presence_events.postpone(WEBHOOK, self.held, seconds=seconds))
        self.held = []

    # what holds

    @invariant()
    def counts_are_those_of_the_connections_that_are_registered(self) -> None:
        registered: Counter[tuple[str, str]] = Counter()
        for replica, connections in self.hashes("conns").items():
            for record in connections.values():
                registered.update((address, replica) for address in json.loads(record)["at"])
        counted = {
            (address, replica): int(number)
            for address, numbers in self.hashes("room").items()
            for replica, number in numbers.items()
        }
        assert counted == registered

    def hashes(self, family: str) -> dict[str, dict[str, str]]:
        """Return the hashes of a family of keys, each by what distinguishes its key."""
        prefix = f"{self.prefix}:{family}:"
        keys: Any = self.redis.keys(f"{prefix}*")
        found: dict[str, dict[str, str]] = {}
        for key in keys:
            fields: Any = self.redis.hgetall(key)
            found[key.decode().removeprefix(prefix)] = {
                field.decode(): value.decode() for field, value in fields.items()
            }
        return found

    @invariant()
    def undelivered_are_the_users_whose_newest_version_was_not_delivered(self) -> None:
        if not self.replicas:
            return
        expected, unknown = set(), set()
        for user in USERS:
            record: Any = self.redis.get(f"{self.prefix}:presence:{user}")
            if record is not None:
                state, version = record.split(b" ")[:2]
                if state == UNKNOWN:
                    unknown.add(user)
                elif self.acknowledged.get(user) != int(version):
                    expected.add(user)
        for key in ("undelivered", "changed"):
            assert self.members(key) - unknown == expected, key
        counts = self.do(self.a.state.presence_events.undelivered_counts())
        assert counts[WEBHOOK][0] == len(self.members("changed"))

    def members(self, key: str) -> set[str]:
        return self.members_of_presence(f"{key}:webhook")

    @rule()
    def compare_with_who_is_connected(self) -> None:
        """Let enough time pass for everything, and compare what the consumer knows with who is connected."""
        for _ in range(int((2 * LEASE_SECONDS + OFFLINE_AFTER + 20) / STRIDE_SECONDS)):
            self.do(self._advance(STRIDE_SECONDS))
            self.audit(100)
            self.sweep(100)
        for _ in range(3):
            self.do(self._advance(STRIDE_SECONDS * 8))
            self.deliver(100, is_recorded=True)
        online = {user for user, _ in self.connections.values()}
        for address, number in self.expected_counts().items():
            assert self.do(connections_at(self.a.state.broker, address)) == number, address
        assert {user for user, change in self.seen.items() if change.is_online} == online
        assert self.members("undelivered") == self.members("changed") == set()
        assert self.members_of_presence("online") == online
        assert self.members_of_presence("absent") <= {*USERS}

    def expected_counts(self) -> dict[Address, int]:
        """Return how many connections there are at the namespace and at each room."""
        of_rooms = Counter(self.rooms[sid] for sid in self.connections)
        return {at(room): of_rooms[room] for room in ROOMS} | {at(None): len(self.connections)}

    def members_of_presence(self, key: str) -> set[str]:
        pipeline = self.redis.pipeline(transaction=False)
        for partition in ALL:
            pipeline.zrange(f"{self.prefix}:{key}:{partition}", 0, -1)
        return {user.decode() for users in pipeline.execute() for user in users}


def test_consumer_knows_who_is_connected_whatever_happens(server: RedisServer) -> None:
    class Model(Presence):
        pass

    Model.server = server
    Model.TestCase.settings = settings(
        max_examples=30,
        stateful_step_count=30,
        deadline=None,
        # To find the shortest sequence takes longer than a test may.
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    Model.TestCase().runTest()
