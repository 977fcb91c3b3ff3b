"""The scripts of the queues against plain lists and sets, step by step, with two replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.errors import QueueFull
from gateway.domain.notifications import (
    DeadReason,
    HeadFailures,
    Notification,
    PartitionLost,
    QueuedNotification,
    partition_of,
    queued_bytes,
)
from gateway.state.redis.queues import decode_notification
from tests.integration.redis_state.replicas import MANUAL_HEARTBEATS, Replica, replicas
from tests.support.redis_server import RedisServer

PARTITIONS = 3
USERS = ("ann", "bob", "cleo", "dan", "eve")
MAX_QUEUED = 6
MAX_DEAD = 3
RETRY_AT = 1_795_262_400.25
_webhooks = count()


@dataclass
class Model:
    """What the queue of one webhook holds, in plain lists and sets."""

    webhook: str
    queues: dict[int, list[QueuedNotification]] = field(
        default_factory=lambda: {partition: [] for partition in range(PARTITIONS)}
    )
    known: set[str] = field(default_factory=set)
    dead: list[tuple[str, DeadReason]] = field(default_factory=list)
    records: dict[str, QueuedNotification] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    workers: set[str] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)
    failures: dict[int, tuple[HeadFailures, int]] = field(default_factory=dict)
    """Of the first notification of a partition, with how many were accepted before the last one."""
    accepted: int = 0
    newest: dict[int, int] = field(default_factory=dict)
    """The highest sequence of each partition."""

    @property
    def entries(self) -> int:
        return sum(map(len, self.queues.values()))

    def free(self) -> set[int]:
        """Return the partitions without an owner that lives."""
        return {each for each in range(PARTITIONS) if self.owners.get(each) in {None, *self.expired}}

    def put(self, partition: int, queued: QueuedNotification) -> None:
        assert queued.sequence > self.newest.get(partition, 0)
        self.newest[partition] = queued.sequence
        self.queues[partition].append(queued)
        self.records[queued.id] = queued._replace(sequence=0)

    def take(self, partition: int, sequences: list[int]) -> list[QueuedNotification]:
        held = self.queues[partition]
        taken = [each for each in held if each.sequence in sequences]
        self.queues[partition] = [each for each in held if each.sequence not in sequences]
        if partition in self.failures and self.failures[partition][0].sequence in sequences:
            del self.failures[partition]
        return taken


class Steps:
    """Do each step in Redis and in the model, and compare."""

    def __init__(self, server: RedisServer, pair: list[Replica]) -> None:
        self.server = server
        self.pair = {replica.name: replica for replica in pair}
        self.model = Model(f"app{next(_webhooks)}")

    def stream(self, partition: int) -> list[QueuedNotification]:
        items = self.server.execute("XRANGE", f"t:webhook:{self.model.webhook}:{partition}", "-", "+")
        return [decode_notification(int(id_.split(b"-")[0]), fields[b"r"]) for id_, fields in items]

    def resolve(self, name: str, arguments: list[Any]) -> str:
        """Return the replica that a step names by what it owns."""
        if name not in {"owner", "other"}:
            return name
        owner = self.model.owners.get(arguments[0], "a")
        return owner if name == "owner" else "b" if owner == "a" else "a"

    async def append(self, name: str, batch: list[tuple[int, str]]) -> None:
        model = self.model
        notifications = [
            Notification(
                f"{model.webhook}-{number}",
                model.webhook,
                partition_of(user, PARTITIONS),
                user,
                "t",
                1.5,
                "{}",
            )
            for number, user in batch
        ]
        fresh = [each for each in notifications if each.id not in model.known]
        append = self.pair[name].state.broker.append_all((), notifications=notifications)
        if fresh and model.entries + len(fresh) > MAX_QUEUED:
            with pytest.raises(QueueFull):
                await append
            return
        await append
        model.known |= {each.id for each in fresh}
        for partition in range(PARTITIONS):
            expected = [each.id for each in fresh if each.partition == partition]
            new = self.stream(partition)[len(model.queues[partition]) :]
            assert [each.id for each in new] == expected
            for each in new:
                model.put(partition, each)
        for was in fresh:
            assert model.records[was.id] == QueuedNotification(
                0, was.id, was.user, was.type, was.at, was.data, queued_bytes(was)
            )

    async def claim(self, name: str) -> None:
        model, claimed = (
            self.model,
            await self.pair[name].state.partitions.claim(self.model.webhook, PARTITIONS),
        )
        if name in model.expired:
            assert claimed.owned == frozenset()
            return
        model.workers.add(name)
        free = model.free()
        before = {each for each, owner in model.owners.items() if owner == name}
        assert before <= claimed.owned <= before | free
        for partition in claimed.owned:
            model.owners[partition] = name
        workers = len(model.workers - model.expired)
        share = len(claimed.owned - claimed.surplus)
        assert share <= -(-PARTITIONS // workers)
        if model.free():
            assert share >= PARTITIONS // workers
        assert claimed.waiting == {each for each in claimed.owned if model.queues[each]}

    async def release(self, name: str, partition: int) -> None:
        await self.pair[name].state.partitions.release(self.model.webhook, [partition])
        if self.model.owners.get(partition) == name:
            del self.model.owners[partition]

    async def leave(self, name: str) -> None:
        await self.pair[name].state.partitions.leave(self.model.webhook)
        self.model.workers.discard(name)
        self.model.owners = {each: owner for each, owner in self.model.owners.items() if owner != name}

    async def expire(self, name: str) -> None:
        self.server.execute("ZADD", "t:leases", 1, name)
        self.model.expired.add(name)

    async def revive(self, name: str) -> None:
        await self.pair[name].state.membership.heartbeat()
        self.model.expired.discard(name)

    async def read(self, name: str, partition: int) -> None:
        model, queues = self.model, self.pair[name].state.webhook_queues
        read = queues.read(model.webhook, partition, max_entries=2, max_bytes=10_000)
        if model.owners.get(partition) != name:
            with pytest.raises(PartitionLost):
                await read
            return
        page = await read
        assert list(page.notifications) == model.queues[partition][:2]
        assert page.failures == (model.failures[partition][0] if partition in model.failures else None)

    async def fail(self, name: str, partition: int, place: int) -> None:
        model, queues = self.model, self.pair[name].state.webhook_queues
        held = model.queues[partition]
        sequence = held[place].sequence if place < len(held) else 7
        fail = queues.record_failure(model.webhook, partition, sequence, retry_at=RETRY_AT, status=500)
        if model.owners.get(partition) != name:
            with pytest.raises(PartitionLost):
                await fail
            return
        counted = await fail
        if place > 0 or not held:
            assert counted.failures == 0
            return
        before, accepted = model.failures.get(
            partition, (HeadFailures(sequence, 0, 0, 0.0, None), model.accepted)
        )
        beside = before.beside_success + (model.accepted > accepted)
        assert counted == HeadFailures(sequence, before.failures + 1, beside, RETRY_AT, 500)
        model.failures[partition] = counted, model.accepted

    async def take(self, name: str, partition: int, places: set[int], reason: DeadReason | None) -> None:
        """Remove notifications, or bury them for a reason; one that is gone is among them."""
        model, queues = self.model, self.pair[name].state.webhook_queues
        sequences = [
            7,
            *(each.sequence for place, each in enumerate(model.queues[partition]) if place in places),
        ]
        if reason is None:
            take = queues.remove(model.webhook, partition, sequences)
        else:
            take = queues.bury(model.webhook, partition, sequences, reason=reason, status=None)
        if model.owners.get(partition) != name:
            with pytest.raises(PartitionLost):
                await take
            return
        await take
        taken = model.take(partition, sequences)
        if reason is None:
            model.accepted += len(taken)
        else:
            model.dead = [*model.dead, *((each.id, reason) for each in taken)][-MAX_DEAD:]

    async def replay(self, name: str, places: set[int]) -> None:
        model, queues = self.model, self.pair[name].state.webhook_queues
        ids = [id_ for place, (id_, _) in enumerate(model.dead) if place in places]
        replay = queues.replay(model.webhook, [*reversed(ids), "unknown", *ids], partitions=PARTITIONS)
        if ids and model.entries + len(ids) > MAX_QUEUED:
            with pytest.raises(QueueFull):
                await replay
            return
        assert await replay == len(ids)
        model.dead = [each for each in model.dead if each[0] not in ids]
        for partition in range(PARTITIONS):
            new = self.stream(partition)[len(model.queues[partition]) :]
            expected = [
                each for each in ids if partition_of(model.records[each].user, PARTITIONS) == partition
            ]
            assert [each.id for each in new] == expected
            for each in new:
                assert each._replace(sequence=0) == model.records[each.id]
                model.put(partition, each)

    async def drop(self, name: str, places: set[int]) -> None:
        ids = [id_ for place, (id_, _) in enumerate(self.model.dead) if place in places]
        dropped = await self.pair[name].state.webhook_queues.drop(self.model.webhook, [*ids, "unknown", *ids])
        assert dropped == len(ids)
        self.model.dead = [each for each in self.model.dead if each[0] not in ids]

    async def check(self, name: str) -> None:
        """Compare everything that Redis holds with the model."""
        model, queues = self.model, self.pair[name].state.webhook_queues
        assert {each: self.stream(each) for each in range(PARTITIONS)} == model.queues
        letters = await queues.dead_letters(model.webhook, limit=100)
        assert [(each.id, each.reason) for each in letters] == model.dead
        summary = (await queues.summaries([model.webhook]))[model.webhook]
        held = [each for queue in model.queues.values() for each in queue]
        assert (summary.entries, summary.bytes) == (len(held), sum(each.size for each in held))
        assert (summary.oldest_at, summary.dead_letters) == (1.5 if held else None, len(model.dead))
        living = [(each, owner) for each, owner in sorted(model.owners.items()) if owner not in model.expired]
        assert list(summary.owners) == living


NAMES = st.sampled_from(("a", "b"))
OWNER = st.sampled_from(("owner", "owner", "owner", "other"))
"""The one of the two that owns a partition, or the other one."""
PLACES = st.integers(0, PARTITIONS - 1)
SOME = st.sets(st.integers(0, 3), max_size=3)
BATCH = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(USERS)),
    min_size=1,
    max_size=4,
    unique_by=lambda each: each[0],
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), NAMES, BATCH),
        st.tuples(st.just("append"), NAMES, BATCH),
        st.tuples(st.just("claim"), NAMES),
        st.tuples(st.just("claim"), NAMES),
        st.tuples(st.just("release"), NAMES, PLACES),
        st.tuples(st.just("leave"), NAMES),
        st.tuples(st.just("expire"), NAMES),
        st.tuples(st.just("revive"), NAMES),
        st.tuples(st.just("read"), OWNER, PLACES),
        st.tuples(st.just("fail"), OWNER, PLACES, st.sampled_from((0, 0, 1))),
        st.tuples(st.just("take"), OWNER, PLACES, SOME, st.none()),
        st.tuples(st.just("take"), OWNER, PLACES, SOME, st.sampled_from(DeadReason)),
        st.tuples(st.just("replay"), NAMES, SOME),
        st.tuples(st.just("drop"), NAMES, SOME),
    ),
    min_size=5,
    max_size=50,
)


@pytest.fixture
async def pair(server: RedisServer) -> AsyncIterator[list[Replica]]:
    limits: dict[str, Any] = {"max_queued": MAX_QUEUED, "max_dead_letters": MAX_DEAD}
    async with replicas(server, "a", "b", **limits, **MANUAL_HEARTBEATS) as made:
        yield made


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_queues_are_lists_and_their_owners_are_sets(
    server: RedisServer, pair: list[Replica], steps: list[tuple[Any, ...]]
) -> None:
    machine = Steps(server, pair)
    for each in pair:
        await machine.revive(each.name)
    for verb, name, *arguments in steps:
        await getattr(machine, verb)(machine.resolve(name, arguments), *arguments)
    await machine.check("a")
