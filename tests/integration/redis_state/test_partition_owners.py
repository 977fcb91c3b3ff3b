"""Replicas share the partitions of a queue, die and return, and Redis loses its data: one owner at a time."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.domain.notifications import (
    DeadReason,
    HeadFailures,
    PartitionClaim,
    PartitionLost,
    partition_of,
)
from tests.integration.redis_state.notifying import (
    PARTITIONS,
    WORK,
    claim,
    drain,
    notification,
    notify,
    read,
    step,
)
from tests.integration.redis_state.replicas import (
    MANUAL_HEARTBEATS,
    Replica,
    await_answer,
    former_release,
    make,
    replicas,
)
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import await_until

LEASE_SECONDS = 3.0


async def kill(replica: Replica) -> None:
    """Stop a replica as kill -9 does."""
    await replica.stop()


async def test_one_replica_owns_all_partitions(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        assert await claim(a) == PartitionClaim(frozenset(range(PARTITIONS)))


async def test_replicas_share_partitions_evenly_as_they_come_and_go(server: RedisServer) -> None:
    async with replicas(server, "a", "b", "c") as [a, b, c]:
        await step(a)
        for _ in range(2):
            for each in (a, b):
                await step(each)
        shares = [await step(each) for each in (a, b)]
        assert [len(share) for share in shares] == [8, 8]
        assert not shares[0] & shares[1]

        for _ in range(3):
            for each in (a, b, c):
                await step(each)
        shares = [await step(each) for each in (a, b, c)]
        assert sorted(len(share) for share in shares) == [5, 5, 6]
        assert frozenset().union(*shares) == frozenset(range(PARTITIONS))

        await b.state.partitions.leave(WORK)
        for _ in range(2):
            for each in (a, c):
                await step(each)
        shares = [await step(each) for each in (a, c)]
        assert [len(share) for share in shares] == [8, 8]


async def test_partition_that_cannot_be_shared_stays_where_it_is(server: RedisServer) -> None:
    async with replicas(server, "b", "a") as [b, a]:
        assert await step(b, 1) == {0}
        for _ in range(3):
            assert await step(a, 1) == frozenset()
            assert await step(b, 1) == {0}


async def test_partitions_of_a_killed_replica_move_within_its_lease_and_a_second(server: RedisServer) -> None:
    async with replicas(server, "a", "b", lease_seconds=LEASE_SECONDS) as [a, b]:
        await step(a)
        await notify(a, *[notification(f"u{n}") for n in range(50)])
        await kill(a)
        await asyncio.sleep(LEASE_SECONDS + 1.0)

        assert await step(b) == frozenset(range(PARTITIONS))
        assert len(await drain(b, range(PARTITIONS))) == 50


async def test_partitions_of_a_replica_that_stops_move_at_once(server: RedisServer) -> None:
    async with replicas(server, "a", "b", lease_seconds=60.0, subscription_timeout_seconds=300.0) as [a, b]:
        await step(a)
        await a.shut_down()

        assert await step(b) == frozenset(range(PARTITIONS))


async def test_late_changes_of_a_former_owner_change_nothing(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        partition = partition_of("ann", PARTITIONS)
        await step(a)
        await notify(a, notification(id_="n1"))
        [first] = await read(a, partition)
        await a.state.partitions.leave(WORK)
        await step(b)

        queues = a.state.webhook_queues
        for late in (
            queues.remove(WORK, partition, [first.sequence]),
            queues.bury(WORK, partition, [first.sequence], reason=DeadReason.FAILED, status=500),
            queues.record_failure(WORK, partition, first.sequence, retry_at=1.0, status=500),
            queues.read(WORK, partition, max_entries=1, max_bytes=1),
        ):
            with pytest.raises(PartitionLost):
                await late

        page = await b.state.webhook_queues.read(WORK, partition, max_entries=9, max_bytes=9_999)
        assert ([each.id for each in page.notifications], page.failures) == (["n1"], None)
        assert list(await b.state.webhook_queues.dead_letters(WORK, limit=10)) == []


async def test_owner_that_was_cut_off_past_its_lease_changes_nothing_and_takes_part_again(
    server: RedisServer,
) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "b", lease_seconds=LEASE_SECONDS) as [b],
        replicas(server, "a", url=proxy.redis_url, lease_seconds=LEASE_SECONDS) as [a],
    ):
        partition = partition_of("ann", PARTITIONS)
        await step(a)
        await notify(a, notification(id_="n1"))
        [first] = await read(a, partition)
        proxy.break_connections()
        await await_until(lambda: not a.state.partitions.holds_lease(), "its lease ends")
        await await_answer(lambda: step(b), frozenset(range(PARTITIONS)))
        proxy.accept_connections()
        await await_until(a.state.partitions.holds_lease, "it has a lease again")

        with pytest.raises(PartitionLost):
            await a.state.webhook_queues.remove(WORK, partition, [first.sequence])
        assert await read(b, partition) == (first,)

        await await_answer(lambda: _shares(a, b), [8, 8])


async def _shares(*sharing: Replica) -> list[int]:
    return [len(await step(each)) for each in sharing]


async def test_queue_of_an_older_copy_of_redis_is_sent_again_with_the_same_ids(server: RedisServer) -> None:
    async with replicas(server, "a", "b", lease_seconds=LEASE_SECONDS) as [a, b]:
        partition = partition_of("ann", PARTITIONS)
        await step(a)
        await notify(a, notification(id_="n1"))
        server.execute("SAVE")
        before = await read(a, partition)
        assert await drain(a, range(PARTITIONS)) == ["n1"]
        await notify(a, notification(id_="lost"))
        [lost] = await read(a, partition)
        await a.state.partitions.leave(WORK)
        await step(b)

        server.kill()
        server.start()

        await await_answer(lambda: _shares(a, b), [8, 8])
        owner = a if partition in await step(a) else b
        assert await read(owner, partition) == before
        await notify(b, notification(id_="n2"))
        assert (await read(owner, partition))[-1].sequence > lost.sequence


async def test_replica_whose_heartbeats_stop_does_not_hold_its_lease(server: RedisServer) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        assert a.state.partitions.holds_lease()
        server.freeze()
        frozen_at = time.monotonic()

        await await_until(
            lambda: time.monotonic() > frozen_at + LEASE_SECONDS + 0.2, "the lease has ended for the others"
        )

        assert not a.state.partitions.holds_lease()
        server.thaw()
        await await_until(a.state.partitions.holds_lease, "the next heartbeat renews it")
        await a.shut_down()
        assert not a.state.partitions.holds_lease()


async def test_partitions_that_were_lowered_in_number_are_drained(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await step(a)
        user = next(f"u{n}" for n in range(999) if partition_of(f"u{n}", 16) == 9)
        await notify(a, notification(user, id_="old"))
        await a.state.partitions.leave(WORK)

        claimed = await claim(b, 4)

        assert claimed == PartitionClaim(frozenset({0, 1, 2, 3, 9}), frozenset(), frozenset({9}))
        assert await drain(b, claimed.owned) == ["old"]
        assert await claim(b, 4) == PartitionClaim(frozenset({0, 1, 2, 3, 9}), frozenset({9}))
        assert await step(b, 4) == {0, 1, 2, 3}
        assert await claim(b, 4) == PartitionClaim(frozenset({0, 1, 2, 3}))


async def test_partitions_are_claimed_again_after_redis_lost_everything(server: RedisServer) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        await step(a)
        await notify(a, notification(id_="lost"))
        [before] = await read(a, partition_of("ann", PARTITIONS))
        server.execute("FLUSHALL")
        with pytest.raises(PartitionLost):
            await read(a, partition_of("ann", PARTITIONS))

        await await_answer(lambda: step(a), frozenset(range(PARTITIONS)))

        await notify(a, notification(id_="new"))
        [after] = await read(a, partition_of("ann", PARTITIONS))
        assert (after.id, after.sequence > before.sequence) == ("new", True)


async def test_failures_go_with_the_partition_to_the_next_owner(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await step(a)
        partition, other = partition_of("ann", PARTITIONS), partition_of("bob", PARTITIONS)
        await notify(a, notification(), notification("bob"), notification("bob"))
        [head] = await read(a, partition)
        queues = a.state.webhook_queues
        at = 1_795_262_400.5
        await queues.record_failure(WORK, partition, head.sequence, retry_at=at, status=500)
        last = await queues.record_failure(WORK, partition, head.sequence, retry_at=at, status=500)
        assert last == HeadFailures(head.sequence, 2, 0, at, 500)
        await queues.remove(WORK, other, [each.sequence for each in await read(a, other)])
        await queues.record_failure(WORK, partition, head.sequence, retry_at=at, status=None)
        last = await queues.record_failure(WORK, partition, head.sequence, retry_at=at, status=None)
        assert last == HeadFailures(head.sequence, 4, 1, at, None)
        await a.state.partitions.leave(WORK)
        await step(b)

        page = await b.state.webhook_queues.read(WORK, partition, max_entries=5, max_bytes=5_000)
        assert page.failures == last


async def test_queue_beside_a_replica_of_a_former_release(server: RedisServer) -> None:
    async with (
        replicas(server, "a", codec=former_release(), lease_seconds=LEASE_SECONDS) as [former],
        replicas(server, "b", "c", lease_seconds=LEASE_SECONDS) as [b, c],
    ):
        await former.subscribe("room")
        await await_until(lambda: c.state.codec.encode(make())[:1] == b"3", "the former release is noticed")
        await step(b)
        partition = partition_of("ann", PARTITIONS)
        assert await read(b, partition) == ()
        waiting = asyncio.create_task(b.state.webhook_queues.wait(WORK, partition))
        sent = make("room")
        await c.state.broker.append_all([sent], notifications=[notification(id_="n1")])
        await asyncio.wait_for(waiting, 5)
        await kill(b)

        await await_until(lambda: former.reaped == ["b"], "the former release reaps the owner")
        await await_answer(lambda: step(c), frozenset(range(PARTITIONS)))

        assert await drain(c, range(PARTITIONS)) == ["n1"]
        await former.receives(sent)
        assert (former.gaps, former.decode_errors) == ([], 0)
