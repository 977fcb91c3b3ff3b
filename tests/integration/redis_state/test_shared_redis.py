"""Deployments that share a Redis: each delivers all its own messages, and none of another one."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.domain.messages import Message
from gateway.state.redis.codec import Codec
from gateway.state.redis.redis_keys import RedisKeys
from tests.contract.values import at
from tests.integration.redis_state.replicas import (
    MANUAL_HEARTBEATS,
    PREFIX,
    Replica,
    former_release,
    ids,
    make,
    received_probes,
    replicas,
)
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until

PUSHES = 300


def former_names(prefix: str, _database: int) -> RedisKeys:
    """The names as the former release has them: the same channels in every database."""
    return RedisKeys(prefix)


async def push_many(replica: Replica, number: int = PUSHES) -> list[Message]:
    """Push one message after the other, so that those of two deployments alternate."""
    return [await replica.push("room") for _ in range(number)]


@pytest.mark.parametrize("names", [("a", "b"), ("a", "a")], ids=["other names", "the same name"])
async def test_two_databases_of_one_redis_are_two_deployments(
    server: RedisServer, names: tuple[str, str]
) -> None:
    async with (
        replicas(server, names[0], url=f"{server.url}/0") as [first],
        replicas(server, names[1], url=f"{server.url}/1") as [second],
    ):
        for replica in (first, second):
            await replica.subscribe("room")

        own, foreign = await asyncio.gather(push_many(first), push_many(second))

        for replica, pushed in ((first, own), (second, foreign)):
            await replica.receives(*pushed)
            assert ids(replica.received) == ids(pushed)
            assert (replica.gaps, replica.decode_errors) == ([], 0)


@pytest.mark.parametrize("other", ["t:a", "t.", "t:", "t:1", "t:db1"])
async def test_prefix_that_begins_with_another_prefix_is_another_deployment(
    server: RedisServer, other: str
) -> None:
    async with (
        replicas(server, "a", url=f"{server.url}/1") as [first],
        replicas(server, "a", prefix=other) as [second],
    ):
        for replica in (first, second):
            await replica.subscribe("room")

        own, foreign = await asyncio.gather(push_many(first, 50), push_many(second, 50))

        for replica, pushed in ((first, own), (second, foreign)):
            await replica.receives(*pushed)
            assert ids(replica.received) == ids(pushed)


@pytest.mark.parametrize(
    ("format_number", "tag"),
    [
        (2, b""),
        (3, b""),
        (3, b"\x1e1700000000000001"),
        (4, b""),
        (4, b"\x1e1700000000000001"),
        (4, b"\x1e"),
        (4, b"\x1e\xff"),
        (9, b"\x1e1700000000000001"),
        (9, b""),
    ],
)
async def test_foreign_message_on_a_channel_neither_arrives_nor_moves_a_position(
    server: RedisServer, format_number: int, tag: bytes
) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await a.subscribe("room")
        codec = Codec()
        codec.negotiate(format_number)
        own = []
        with capture_logs() as lines:
            for volatile in (False, True) * 20:
                own.append(await a.push("room"))
                future = int(server.execute("TIME")[0]) * 1000 + 60_000
                record = codec.encode(make("room", volatile=volatile))
                # This release writes no format 9, and reads none.
                frame = b"%d-7\n%d" % (future, format_number) + record[1:] + tag
                server.execute("PUBLISH", RedisKeys(PREFIX).channel(at("room")), frame)
            own.append(await a.push("room"))

            await a.receives(*own)

        assert ids(a.received) == ids(own)
        assert a.gaps == []
        assert a.decode_errors == 40
        assert [line["event"] for line in lines].count("redis.foreign_messages") == 1


async def test_messages_after_redis_was_emptied_are_not_foreign(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await a.subscribe("room")
        before = await a.push("room")
        await a.receives(before)

        server.execute("FLUSHALL")
        after = [await a.push("room", volatile=volatile) for volatile in (False, False, True, False)]

        await a.receives(*after)  # a volatile one may arrive behind entries that were read from the log
        assert sorted(ids(a.received)) == sorted(ids([before, *after]))


@pytest.mark.parametrize("database", [0, 1])
async def test_replica_of_the_former_release_in_the_same_database_is_a_replica(
    server: RedisServer, database: int
) -> None:
    url = f"{server.url}/{database}"
    async with replicas(server, "n", url=url) as [new]:
        async with replicas(server, "f", url=url, codec=former_release(), make_keys=former_names) as [former]:
            for replica in (new, former):
                await replica.subscribe("room")

            pushed = [await replica.push("room") for _ in range(20) for replica in (new, former)]

            for replica in (new, former):
                await replica.receives(*pushed)
                assert sorted(ids(replica.received)) == sorted(ids(pushed))
                assert (replica.gaps, replica.decode_errors) == ([], 0)
            last = await former.push("room")
            await former.shut_down()
        await new.state.membership.heartbeat()
        alone = [await new.push("room") for _ in range(10)]

        await new.receives(last, *alone)
        assert sorted(ids(new.received)) == sorted(ids([*pushed, last, *alone]))
        assert new.gaps == []


async def test_process_whose_namesake_in_another_database_lives_takes_its_name_at_once(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", url=f"{server.url}/0"):
        killed = Replica(server, "a", url=f"{server.url}/1", lease_seconds=60.0)
        await killed.start()
        await killed.stop()

        async with (
            asyncio.timeout(30),
            replicas(server, "a", url=f"{server.url}/1", lease_seconds=60.0) as [again],
        ):
            await await_until(lambda: received_probes(again) >= 1, "it receives its probes")
