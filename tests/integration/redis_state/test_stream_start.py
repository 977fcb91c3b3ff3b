"""Where a log begins: whoever was there before its first entry is told from who saw another log."""

from __future__ import annotations

import pytest

from gateway.domain.positions import START, Position
from gateway.interfaces import Page
from tests.contract.values import at, newest_position
from tests.integration.redis_state.replicas import Replica, ids, make, replicas
from tests.support.redis_server import RedisServer

QUIET = {"lease_seconds": 60.0, "subscription_timeout_seconds": 300.0}
"""With these nothing is said but by the test."""


async def read(replica: Replica, after: Position) -> Page:
    return await replica.state.broker.history(after, [at("room")], max_entries=10, max_bytes=1000)


@pytest.mark.parametrize("pushed_since", [0, 1])
async def test_who_came_before_the_first_entry_of_a_log_that_was_lost_learns_of_it(
    server: RedisServer, pushed_since: int
) -> None:
    async with replicas(server, "a", **QUIET) as [a]:
        before = await a.state.broker.subscribe([at("room")])
        await a.push("room")
        server.ask("FLUSHALL")
        for _ in range(pushed_since):
            await a.push("room")

        assert (await read(a, before)).gap == "data_lost"


async def test_a_position_that_is_asked_for_where_there_is_no_log_belongs_to_the_next(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", **QUIET) as [a]:
        server.ask("FLUSHALL")
        before = await newest_position(a.state.broker)
        pushed = await a.push("room")

        page = await read(a, before)

        assert (ids(entry for _, entry in page.entries), page.gap) == ([pushed.id], None)


async def test_a_page_where_there_is_no_log_leads_no_further(server: RedisServer) -> None:
    async with replicas(server, "a", **QUIET) as [a]:
        before = await newest_position(a.state.broker)
        server.ask("FLUSHALL")

        assert await read(a, before) == Page((), last_position=before, has_more=False, gap="data_lost")


async def test_a_replica_that_saw_a_log_begin_catches_up_without_a_gap(server: RedisServer) -> None:
    async with replicas(server, "a", "b", **QUIET) as [a, b]:
        await a.subscribe("room")
        a.state.subscriber.reconnect()
        pushed = [await b.push("room") for _ in range(3)]

        await a.hears(*pushed)

        assert (ids(a.heard), a.gaps) == (ids(pushed), [])


async def test_no_volatile_message_brings_the_position_before_everything(server: RedisServer) -> None:
    async with replicas(server, "a", **QUIET) as [a]:
        result = await a.state.broker.append(make("room", volatile=True))

        assert result.position != START
        assert result.position == await newest_position(a.state.broker)
