"""Queues of notifications in Redis: bounds, lost answers, wake-ups, dead letters, records that cannot be read."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.domain.errors import BrokerUnavailable, QueueFull
from gateway.domain.notifications import (
    DEAD_LETTER_SECONDS,
    MAX_PARTITIONS,
    QUEUE_SECONDS,
    DeadReason,
    partition_of,
)
from tests.integration.redis_state.notifying import (
    PARTITIONS,
    WORK,
    bury,
    claim,
    dead_ids,
    drain,
    notification,
    notify,
    read,
    step,
)
from tests.integration.redis_state.replicas import (
    MANUAL_HEARTBEATS,
    make,
    replicas,
)
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import await_until


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


async def test_counted_bytes_of_a_queue_are_at_least_what_redis_takes(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await step(a)
        await notify(a, notification())

        for _ in range(20):
            await notify(a, *[notification(f"u{n}", size=100) for n in range(100)])

        with server.client() as client:
            keys = list(client.scan_iter(match=f"t:webhook:{WORK}:*"))
            taken = sum(client.memory_usage(key) or 0 for key in keys)
        counted = (await a.state.webhook_queues.summaries([WORK]))[WORK].bytes
        assert counted / 3 < taken < counted


async def test_no_script_walks_over_many_partitions_or_dead_letters(server: RedisServer) -> None:
    """Nothing else is answered while a script runs, so what one does must not grow with the number of webhooks."""
    webhooks = [f"hook-{number}" for number in range(20)]

    def calls(*commands: str) -> int:
        stats = server.execute("INFO", "commandstats")
        return sum(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"] for command in commands)

    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        for webhook in webhooks:
            await a.state.partitions.claim(webhook, MAX_PARTITIONS)
        await a.state.webhook_queues.summaries([WORK])  # so that Redis knows the script
        server.execute("CONFIG", "RESETSTAT")
        summaries = await a.state.webhook_queues.summaries(webhooks)
        assert {len(each.owners) for each in summaries.values()} == {MAX_PARTITIONS}
        assert calls("evalsha", "eval") == len(webhooks)
        assert calls("zscore", "hget") <= 4 * len(webhooks)

        await step(a)
        await notify(a, *[notification(id_=f"n{number}") for number in range(100)])
        partition = partition_of("ann", PARTITIONS)
        sequences = [each.sequence for each in await read(a, partition)]
        server.execute("CONFIG", "RESETSTAT")
        await a.state.webhook_queues.bury(WORK, partition, sequences, reason=DeadReason.EXPIRED, status=None)
        assert calls("evalsha", "eval") >= 5
        assert await dead_ids(a) == [f"n{number}" for number in range(100)]


async def test_notification_that_has_the_sequence_of_another_one_after_a_failover_is_not_removed(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        was = notification("ann")
        await notify(a, was)
        await claim(a)
        [queued] = await read(a, was.partition)
        # The new primary never had it, and gave its sequence to another one.
        queue, place = f"t:webhook:{WORK}:{was.partition}", f"{queued.sequence}-0"
        [(_, fields)] = server.execute("XRANGE", queue, "-", "+")
        server.execute("DEL", queue)
        other = notification("ann")
        server.execute("XADD", queue, place, "r", fields[b"r"].replace(was.id.encode(), other.id.encode()))

        await a.state.webhook_queues.remove(WORK, was.partition, [queued.sequence])

        assert [each.id for each in await read(a, was.partition)] == [other.id]
        await a.state.webhook_queues.remove(WORK, was.partition, [queued.sequence])
        assert await read(a, was.partition) == ()


async def test_read_copies_little_more_than_its_page(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a], Redis.from_url(server.url) as redis:
        await step(a)
        partition = partition_of("ann", PARTITIONS)
        for _ in range(20):
            await notify(a, notification(size=300_000))

        async with redis.monitor() as monitor:
            page = await a.state.webhook_queues.read(WORK, partition, max_entries=200, max_bytes=256 * 1024)
            server.execute("ECHO", "the end")
            commands: list[str] = []
            while not commands or not commands[-1].startswith("ECHO"):
                commands.append((await monitor.next_command())["command"])

    assert len(page.notifications) == 1
    assert [each.rpartition(" ")[2] for each in commands if each.startswith("XRANGE")] == ["1"]
