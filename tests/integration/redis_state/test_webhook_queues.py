"""Queues of notifications in one Redis: replicas that share the partitions die and return, and Redis loses its data."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any

import pytest

from gateway.domain.errors import BrokerUnavailable, QueueFull
from gateway.domain.messages import new_id
from gateway.domain.notifications import (
    DEAD_LETTER_SECONDS,
    QUEUE_SECONDS,
    DeadReason,
    HeadFailures,
    Notification,
    PartitionClaim,
    PartitionLost,
    QueuedNotification,
    partition_of,
)
from tests.integration.redis_state.replicas import MANUAL_HEARTBEATS, Replica, await_answer, make, replicas
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import await_until

WORK = "app"
PARTITIONS = 16
LEASE_SECONDS = 1.0


def notification(
    user: str = "ann", *, id_: str | None = None, partitions: int = PARTITIONS, size: int = 2
) -> Notification:
    data = '{"x":"' + "y" * (size - 2) + '"}' if size > 2 else "{}"
    partition = partition_of(user, partitions)
    return Notification(id_ or new_id(), WORK, partition, user, "client.event", time.time(), data)


async def notify(replica: Replica, *notifications: Notification) -> None:
    await replica.state.broker.append_all((), notifications=notifications)


async def claim(replica: Replica, partitions: int = PARTITIONS) -> PartitionClaim:
    return await replica.state.partitions.claim(WORK, partitions)


async def step(replica: Replica, partitions: int = PARTITIONS) -> frozenset[int]:
    """Claim and give up the surplus, as a worker does each second; return what the replica owns then."""
    claimed = await claim(replica, partitions)
    if claimed.surplus:
        await replica.state.partitions.release(WORK, claimed.surplus)
    return claimed.owned - claimed.surplus


async def read(replica: Replica, partition: int, *, max_entries: int = 100) -> tuple[QueuedNotification, ...]:
    page = await replica.state.webhook_queues.read(
        WORK, partition, max_entries=max_entries, max_bytes=10_000_000
    )
    return page.notifications


async def drain(replica: Replica, partitions: Collection[int]) -> list[str]:
    """Read and remove everything of some partitions; return the ids."""
    ids = []
    for partition in sorted(partitions):
        while page := await read(replica, partition):
            ids += [each.id for each in page]
            await replica.state.webhook_queues.remove(WORK, partition, [each.sequence for each in page])
    return ids


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
        killed_at = time.monotonic()

        await await_answer(lambda: step(b), frozenset(range(PARTITIONS)))

        assert time.monotonic() - killed_at < LEASE_SECONDS + 1.0
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


async def test_full_redis_is_emptied_of_notifications(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await step(a)
        await notify(a, *[notification(f"u{n}", size=1_000) for n in range(50)], notification(id_="poison"))
        server.execute("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(BrokerUnavailable, match="memory limit"):
            await notify(a, notification())

        partition = partition_of("ann", PARTITIONS)
        poison = next(each for each in await read(a, partition) if each.id == "poison")
        queues = a.state.webhook_queues
        await queues.record_failure(WORK, partition, poison.sequence, retry_at=1.0, status=500)
        await queues.bury(WORK, partition, [poison.sequence], reason=DeadReason.FAILED, status=500)

        assert len(await drain(a, await step(a))) == 50
        assert await dead_ids(a) == ["poison"]
        assert await queues.drop(WORK, ["poison"]) == 1
        server.execute("CONFIG", "SET", "maxmemory", "0")
        await notify(a, notification())


async def test_replica_whose_heartbeats_stop_does_not_hold_its_lease(server: RedisServer) -> None:
    async with replicas(server, "a", lease_seconds=LEASE_SECONDS) as [a]:
        assert a.state.partitions.holds_lease()
        server.freeze()
        frozen_at = time.monotonic()

        await await_until(lambda: not a.state.partitions.holds_lease(), "the lease ends here")

        assert time.monotonic() - frozen_at <= LEASE_SECONDS + 0.2
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


async def test_messages_and_notifications_are_accepted_together_or_not_at_all(server: RedisServer) -> None:
    async with replicas(server, "a", max_queued=2, **MANUAL_HEARTBEATS) as [a]:
        await a.subscribe("room")
        await step(a)
        sent = [make("room"), make("room")]
        results = await a.state.broker.append_all(sent, notifications=[notification(), notification("bob")])
        assert [result.id for result in results] == [each.id for each in sent]

        rejected = make("room")
        with pytest.raises(QueueFull, match=WORK):
            await a.state.broker.append_all([rejected], notifications=[notification()])

        news = await a.push("room")
        received = await a.receives(*sent, news)
        assert rejected.id not in [entry.id for _, entry in received]
        assert len(await drain(a, range(PARTITIONS))) == 2
        await a.state.broker.append_all([rejected], notifications=[notification()])


@pytest.mark.parametrize("limits", [{"max_queued": 5}, {"max_queued_bytes": 5 * 1_300}])
async def test_full_queue_rejects_and_drops_nothing(server: RedisServer, limits: dict[str, Any]) -> None:
    async with replicas(server, "a", **limits, **MANUAL_HEARTBEATS) as [a]:
        await step(a)
        accepted = []
        for number in range(20):
            each = notification(f"u{number}", size=1_000)
            try:
                await notify(a, each)
            except QueueFull:
                continue
            accepted.append(each.id)

        assert len(accepted) == 5
        summary = (await a.state.webhook_queues.summaries([WORK]))[WORK]
        assert summary.entries == 5
        assert sorted(await drain(a, range(PARTITIONS))) == sorted(accepted)
        summary = (await a.state.webhook_queues.summaries([WORK]))[WORK]
        assert (summary.entries, summary.bytes, summary.oldest_at) == (0, 0, None)
        await notify(a, notification())


async def test_append_whose_answer_was_lost_queues_once(server: RedisServer) -> None:
    async with (
        TcpProxy(server.port) as proxy,
        replicas(server, "b") as [b],
        replicas(server, "a", url=proxy.redis_url, timeout_seconds=5.0) as [a],
    ):
        await step(b)
        await notify(a, notification("bob", id_="first"))  # Redis knows the script from here on
        queued, partition = notification(id_="n1"), partition_of("ann", PARTITIONS)
        proxy.pause_answers()
        append = asyncio.create_task(notify(a, queued))
        await await_until(
            lambda: server.execute("XLEN", f"t:webhook:{WORK}:{partition}") == 1, "Redis has queued it"
        )
        proxy.cut_connections()
        proxy.resume_answers()
        await append
        await notify(a, queued)

        assert sorted(await drain(b, range(PARTITIONS))) == ["first", "n1"]


async def test_wake_up_arrives_at_the_owner_on_another_replica(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await step(a)
        partition, other = partition_of("ann", PARTITIONS), partition_of("bob", PARTITIONS)
        assert partition != other
        assert [await read(a, each) for each in (partition, other)] == [(), ()]
        waiting = asyncio.create_task(a.state.webhook_queues.wait(WORK, partition))
        elsewhere = asyncio.create_task(a.state.webhook_queues.wait(WORK, other))

        await notify(b, notification(id_="n1"))

        await asyncio.wait_for(waiting, 5)
        assert not elsewhere.done()
        assert [each.id for each in await read(a, partition)] == ["n1"]
        assert a.decode_errors == b.decode_errors == 0
        elsewhere.cancel()


async def test_wake_up_that_came_while_the_queue_was_read_is_not_lost(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await step(a)
        partition = partition_of("ann", PARTITIONS)
        assert await read(a, partition) == ()
        await notify(b, notification(id_="n1"))
        await a.subscribe("room")
        await a.receives(await b.push("room"))  # behind the wake-up in the same stream

        await asyncio.wait_for(a.state.webhook_queues.wait(WORK, partition), 5)


async def test_dead_letters_are_bounded_by_number_bytes_and_age(server: RedisServer) -> None:
    limits: dict[str, Any] = {"max_dead_letters": 5, "max_dead_letter_bytes": 4 * 1_300}
    async with replicas(server, "a", **limits, **MANUAL_HEARTBEATS) as [a]:
        await step(a)
        ids = [await bury(a, notification(f"u{n}", id_=f"n{n}")) for n in range(8)]
        assert await dead_ids(a) == ids[3:]

        large = [await bury(a, notification(f"u{n}", id_=f"l{n}", size=1_000)) for n in range(8)]
        assert await dead_ids(a) == large[-4:]
        stored = int(server.execute("HGET", f"t:dead_letters:{WORK}", ""))
        assert 4 * 1_000 < stored <= 4 * 1_300

        shift_clock(a.state, DEAD_LETTER_SECONDS + 1)
        assert await dead_ids(a) == []
        await a.state.membership.heartbeat()
        await step(a)
        newest = await bury(a, notification(id_="newest"))
        assert await dead_ids(a) == [newest]
        assert server.execute("ZCARD", f"t:dead_order:{WORK}") == 1
        assert server.execute("HLEN", f"t:dead_letters:{WORK}") == 2


async def bury(replica: Replica, queued: Notification) -> str:
    """Put a notification into its queue and move it to the dead letters; return its id."""
    await notify(replica, queued)
    [first] = await read(replica, queued.partition)
    await replica.state.webhook_queues.bury(
        WORK, queued.partition, [first.sequence], reason=DeadReason.REJECTED, status=422
    )
    return queued.id


async def dead_ids(replica: Replica, *, after: str | None = None, limit: int = 1_000) -> list[str]:
    return [
        each.id for each in await replica.state.webhook_queues.dead_letters(WORK, after=after, limit=limit)
    ]


async def test_replayed_notification_keeps_its_id_and_gets_a_higher_sequence(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await step(a)
        partition = partition_of("ann", PARTITIONS)
        first = notification(id_="n1")
        await notify(a, first)
        [before] = await read(a, partition)
        await a.state.webhook_queues.bury(
            WORK, partition, [before.sequence], reason=DeadReason.FAILED, status=None
        )
        await notify(a, notification(id_="n2"))

        assert await a.state.webhook_queues.replay(WORK, ["n1", "n1", "none"], partitions=PARTITIONS) == 1

        n2, n1 = await read(a, partition)
        assert (n2.id, n1._replace(sequence=0)) == ("n2", before._replace(sequence=0))
        assert before.sequence < n2.sequence < n1.sequence < 2**53
        assert n1.data == first.data
        assert await dead_ids(a) == []


async def test_dead_letters_are_replayed_to_the_partition_of_their_user_and_wake_it(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await step(a, 256)
        users = [f"user {n} \u00fc\u4e2d\U0001f600"[: 4 + n % 9] for n in range(60)]
        for n, user in enumerate(users):
            await bury(a, notification(user, id_=f"n{n}", partitions=256))
        assert {await read(a, each) for each in range(256)} == {()}
        waiting = asyncio.create_task(a.state.webhook_queues.wait(WORK, partition_of(users[0], 256)))

        ids = await dead_ids(a)
        assert await a.state.webhook_queues.replay(WORK, ids, partitions=256) == 60

        await asyncio.wait_for(waiting, 5)
        for partition in range(256):
            for each in await read(a, partition):
                assert partition_of(each.user, 256) == partition


async def test_record_that_cannot_be_read_becomes_a_dead_letter_and_can_be_put_back(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await step(a)
        partition = partition_of("ann", PARTITIONS)
        key = f"t:webhook:{WORK}:{partition}"
        later = "9Q\x1elater\x1eann\x1eclient.event\x1e1.0\x1e300\x1e{}\x1enew"
        await notify(a, notification(id_="n1"))
        [n1] = await read(a, partition)
        poison = [later.encode(), b"", b"garbage \xff"]
        for number, record in enumerate(poison, 1):
            server.execute("XADD", key, f"{n1.sequence + number}-0", "r", record)
        server.execute("HSET", f"t:queue:{WORK}", partition, f"{n1.sequence + 9} 4 3000", "entries", 4)
        await notify(a, notification(id_="n2"))

        assert [each.id for each in await read(a, partition)] == ["n1", "n2"]
        letters = await a.state.webhook_queues.dead_letters(WORK, limit=10)
        assert [(each.type, each.reason) for each in letters] == [("unreadable", DeadReason.FAILED)] * 3
        assert letters[0].id == "later"
        assert letters[0].data.count("new") == 1
        assert (await a.state.webhook_queues.summaries([WORK]))[WORK].entries == 2

        assert (
            await a.state.webhook_queues.replay(WORK, [each.id for each in letters], partitions=PARTITIONS)
            == 3
        )
        with server.client() as client:
            keys = list(client.scan_iter(match=f"t:webhook:{WORK}:*"))
            records = [item[1][b"r"] for each in keys for item in client.xrange(each)]
        assert [records.count(record) for record in poison] == [1, 1, 1]


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


async def test_every_key_of_a_queue_expires(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await step(a)
        await bury(a, notification(id_="n1"))
        await notify(a, notification(id_="n2"))

        with server.client() as client:
            lasts = {key.decode(): client.ttl(key) for key in client.scan_iter(match="t:*")}
        partition = partition_of("ann", PARTITIONS)
        expected = {
            f"t:webhook:{WORK}:{partition}": QUEUE_SECONDS,
            f"t:queue:{WORK}": QUEUE_SECONDS,
            f"t:dead_letters:{WORK}": DEAD_LETTER_SECONDS,
            f"t:dead_order:{WORK}": DEAD_LETTER_SECONDS,
            f"t:owners:{WORK}": 86_400.0,
            f"t:workers:{WORK}": 86_400.0,
        }
        assert {key: pytest.approx(lasts[key], abs=10) for key in expected} == expected
        assert min(lasts.values()) >= 0


async def test_partition_whose_stream_expired_counts_nothing(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await step(a)
        partition = partition_of("ann", PARTITIONS)
        await notify(a, notification(), notification("bob"))
        server.execute("DEL", f"t:webhook:{WORK}:{partition}")

        assert await read(a, partition) == ()

        summary = (await a.state.webhook_queues.summaries([WORK]))[WORK]
        assert summary.entries == 1
        assert (await claim(a)).waiting == {partition_of("bob", PARTITIONS)}
