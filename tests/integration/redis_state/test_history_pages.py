"""What a page of the history costs Redis, which executes nothing else meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from gateway.domain.messages import DisconnectCommand, Message
from gateway.domain.positions import START
from tests.contract.values import at, disconnect_command
from tests.integration.redis_state.replicas import Replica, ids, replicas
from tests.support.redis_server import RedisServer


async def push_many(replica: Replica, *rooms: Collection[str]) -> list[Message]:
    return await asyncio.gather(*(replica.push(*each) for each in rooms))


async def read_ids(replica: Replica, *rooms: str, max_entries: int = 1_024) -> list[str]:
    page = await replica.state.broker.history(
        START, [at(room) for room in rooms], max_entries=max_entries, max_bytes=1_000_000
    )
    return ids(entry for _, entry in page.entries)


def calls_made(server: RedisServer) -> int:
    """The number of commands since RESETSTAT, including those within scripts."""
    return sum(each["calls"] for each in server.execute("INFO", "commandstats").values())


async def test_page_of_neighbours_in_the_log_is_read_in_few_ranges(server: RedisServer) -> None:
    async with replicas(server, "a", lease_seconds=60.0, subscription_timeout_seconds=300.0) as [a]:
        pushed = await push_many(a, *(["room"] for _ in range(600)))
        server.execute("CONFIG", "RESETSTAT")

        found = await read_ids(a, "room", "empty")

        assert calls_made(server) < 80
        assert sorted(found) == sorted(ids(pushed))


async def test_pages_of_rooms_that_interleave_and_overlap_are_in_the_order_of_acceptance(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", history_length=2_000) as [a]:
        pushed = [
            await a.push(*{f"room {number % 7}", f"room {number % 5}", "every" if number % 3 else "third"})
            for number in range(500)
        ]

        for asked in (["room 6"], ["room 1", "room 4"], ["third", "room 0", "room 3", "every"]):
            due = ids(each for each in pushed if not set(asked).isdisjoint(each.rooms))
            assert await read_ids(a, *asked) == due
            assert await read_ids(a, *asked, max_entries=37) == due[:37]


async def test_entries_for_many_rooms_of_the_reader_come_in_smaller_pages_and_each_once(
    server: RedisServer,
) -> None:
    rooms = [f"room {number}" for number in range(100)]
    async with replicas(server, "a") as [a]:
        pushed = await push_many(a, *(rooms for _ in range(50)))
        server.execute("CONFIG", "RESETSTAT")

        pages: list[list[str]] = []
        after, more = START, True
        while more:
            page = await a.state.broker.history(
                after, [at(room) for room in rooms], max_entries=1_024, max_bytes=1_000_000
            )
            pages.append(ids(entry for _, entry in page.entries))
            after, more = page.last_position, page.has_more

    assert len(pages) > 2
    assert [found for page in pages for found in page] == ids(pushed)


async def test_pages_that_begin_anywhere_have_everything_after_that_position(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        pushed = [await a.push("room") for _ in range(200)]
        page = await a.state.broker.history(START, [at("room")], max_entries=1_000, max_bytes=1_000_000)

        for place, (position, _) in enumerate(page.entries):
            rest = await a.state.broker.history(
                position, [at("room"), at("empty")], max_entries=1_000, max_bytes=1_000_000
            )
            assert ids(entry for _, entry in rest.entries) == ids(pushed[place + 1 :])


async def test_thousands_of_erased_messages_are_passed_over_with_few_commands(server: RedisServer) -> None:
    async with replicas(
        server, "a", history_length=10_000, lease_seconds=60.0, subscription_timeout_seconds=300.0
    ) as [a]:
        await a.state.broker.append(disconnect_command("ann", at=1.0))
        for _ in range(6):
            await push_many(a, *(["user:ann"] for _ in range(1_000)))
        newest = await a.push("user:ann")
        last = (await a.state.broker.append(disconnect_command("ann", at=1.0))).position
        assert await a.state.logged_messages.erase(at("user:ann"), last) == 6_001
        server.execute("CONFIG", "RESETSTAT")

        page = await a.state.broker.history(START, [at("user:ann")], max_entries=64, max_bytes=1_000_000)

        assert newest.id not in ids(entry for _, entry in page.entries)
        assert ([type(entry) for _, entry in page.entries], page.has_more) == ([DisconnectCommand] * 2, False)
        assert calls_made(server) < 80


async def test_page_of_many_rooms_with_nothing_new_takes_few_commands(server: RedisServer) -> None:
    rooms = [f"room {number}" for number in range(100)]
    async with replicas(server, "a", lease_seconds=60.0, subscription_timeout_seconds=300.0) as [a]:
        await push_many(a, *(rooms for _ in range(200)))
        newest = await a.state.broker.subscribe([at("room 1")])
        server.execute("CONFIG", "RESETSTAT")

        page = await a.state.broker.history(
            newest, [at(room) for room in rooms], max_entries=1_024, max_bytes=1_000_000
        )

        assert (page.entries, page.has_more) == ((), False)
        assert calls_made(server) < 3 * len(rooms)
