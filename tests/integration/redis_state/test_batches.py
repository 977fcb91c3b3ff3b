"""Batches of messages in Redis: one round trip, and nothing of a batch that begins too late."""

from __future__ import annotations

import asyncio

from tests.integration.redis_state.replicas import MANUAL_HEARTBEATS, Replica, ids, make, replicas
from tests.support.metrics import counted
from tests.support.redis_server import RedisServer


def appends(replica: Replica) -> float:
    """How many times it has called the script and been answered."""
    return counted(replica.metrics, "redis_command_duration_seconds_count")["append"]


def retries(replica: Replica) -> float:
    """How many times it has called the script again."""
    return counted(replica.metrics, "redis_command_retries_total")["append"]


async def test_batch_is_one_request_and_reaches_other_replicas_in_order(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await b.subscribe("room")
        batch = [make("room") for _ in range(100)]

        results = await a.state.broker.append_all(batch)

        received = await b.receives(*batch)
        assert [position for position, _ in received] == [result.position for result in results]
        assert (ids(b.received), b.gaps, appends(a)) == (ids(batch), [], 1)


async def test_batch_that_began_after_its_deadline_was_not_accepted(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        await a.subscribe("room")
        batch = [make("room") for _ in range(3)]
        # The clock of Redis, as this replica knows it, is an hour behind: the first attempt is late.
        a.state.commands.set_clock(a.state.commands.redis_ms() - 3_600_000, asyncio.get_running_loop().time())

        results = await a.state.broker.append_all(batch)

        await a.receives(*batch)
        assert (ids(a.received), retries(a)) == (ids(batch), 1)
        assert await a.state.broker.append_all(batch) == results


async def test_batch_appended_on_another_replica_again_is_accepted_once(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await b.subscribe("room")
        batch = [make("room") for _ in range(5)]
        first = await a.state.broker.append_all(batch)

        again = await b.state.broker.append_all(batch)

        await b.receives(*batch)
        assert (again, ids(b.received)) == (first, ids(batch))
