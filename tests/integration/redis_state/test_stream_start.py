"""Where a log begins: a position before its first entry differs from the positions of other logs."""

from __future__ import annotations

import pytest

from gateway.domain.positions import START, Position
from gateway.interfaces import Page
from tests.contract.values import at, newest_position
from tests.integration.redis_state.replicas import MANUAL_HEARTBEATS, Replica, ids, make, replicas
from tests.support.redis_server import RedisServer


async def read(replica: Replica, after: Position) -> Page:
    return await replica.state.broker.history(after, [at("room")], max_entries=10, max_bytes=1000)


@pytest.mark.parametrize("pushed_since", [0, 1])
async def test_position_before_the_first_entry_of_a_lost_log_is_a_gap(
    server: RedisServer, pushed_since: int
) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        before = await a.state.broker.subscribe([at("room")])
        await a.push("room")
        server.execute("FLUSHALL")
        for _ in range(pushed_since):
            await a.push("room")

        assert (await read(a, before)).gap == "data_lost"


async def test_position_read_without_a_log_belongs_to_the_next_log(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        server.execute("FLUSHALL")
        before = await newest_position(a.state.broker)
        pushed = await a.push("room")

        page = await read(a, before)

        assert (ids(entry for _, entry in page.entries), page.gap) == ([pushed.id], None)


async def test_page_without_a_log_ends_at_the_requested_position(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        before = await newest_position(a.state.broker)
        server.execute("FLUSHALL")

        assert await read(a, before) == Page((), last_position=before, has_more=False, gap="data_lost")


async def test_replica_that_received_the_first_entries_of_a_log_resyncs_without_a_gap(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b", **MANUAL_HEARTBEATS) as [a, b]:
        await a.subscribe("room")
        a.state.subscriber.reconnect()
        pushed = [await b.push("room") for _ in range(3)]

        await a.receives(*pushed)

        assert (ids(a.received), a.gaps) == (ids(pushed), [])


async def test_volatile_message_never_has_the_position_before_all(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS) as [a]:
        result = await a.state.broker.append(make("room", volatile=True))

        assert result.position != START
        assert result.position == await newest_position(a.state.broker)
