"""ReplayBudget: users take turns at the history, and one that has read much waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.domain.messages import Message
from gateway.domain.positions import Position
from gateway.interfaces import Page
from gateway.metrics import MetricFactory
from gateway.services.replay_budget import ReplayBudget
from tests.support.clock import FakeSchedule
from tests.support.metrics import counted
from tests.support.waiter import TIMEOUT_SECONDS

ENTRY = (Position("1-0"), Message("id", "/", ("room",), "e", ('"x"',)))


class Readers:
    """A budget and the users that read, in the order of their turns."""

    def __init__(self, *, bytes_per_second: float = 1e6, burst_bytes: float = 1e6) -> None:
        self.schedule = FakeSchedule()
        self.metrics = MetricFactory()
        self.budget = ReplayBudget(
            clock=self.schedule.clock,
            schedule=self.schedule,
            metrics=self.metrics,
            bytes_per_second=bytes_per_second,
            burst_bytes=burst_bytes,
        )
        self.turns: list[str] = []
        self.gate = asyncio.Event()
        """While it is cleared, a turn does not end."""
        self.gate.set()
        self._tasks: list[asyncio.Task[None]] = []

    async def read(
        self, user: str, entries: int = 0, addresses: int = 0, after: Position | None = None
    ) -> None:
        async with self.budget.turn(user, after=after):
            self.turns.append(user if after is None else after)
            await self.gate.wait()
            self.budget.charge(
                user, Page((ENTRY,) * entries, Position("1-0"), has_more=False), addresses=addresses
            )

    def start(self, user: str, entries: int = 0, after: Position | None = None) -> asyncio.Task[None]:
        task = asyncio.create_task(self.read(user, entries, after=after))
        self._tasks.append(task)
        return task

    async def run_until_idle(self) -> None:
        """Let every task run until it waits."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def readers(**limits: float) -> AsyncIterator[Readers]:
    made = Readers(**limits)
    try:
        yield made
    finally:
        await made.close()


async def test_user_with_many_connections_has_one_turn_at_a_time_and_others_have_theirs() -> None:
    async with readers() as each:
        each.gate.clear()
        for user in ["mallory"] * 20 + ["alice", "bob"]:
            each.start(user)
        await each.run_until_idle()

        assert each.turns == ["mallory", "alice", "bob"]


async def test_four_users_read_at_once_and_the_fifth_is_next() -> None:
    async with readers() as each:
        each.gate.clear()
        for user in ["mallory", *"abcde", "mallory", "mallory"]:
            each.start(user)
        await each.run_until_idle()
        assert each.turns == ["mallory", "a", "b", "c"]

        each.gate.set()
        await each.run_until_idle()

        assert each.turns == ["mallory", "a", "b", "c", "d", "e", "mallory", "mallory"]


async def test_user_that_has_spent_the_burst_waits_until_it_is_paid() -> None:
    async with readers(bytes_per_second=1e6, burst_bytes=1e6) as each:
        await each.read("mallory", entries=1300)  # 3 MB and more
        waiting = each.start("mallory")
        await each.run_until_idle()
        assert each.turns == ["mallory"]

        await asyncio.wait_for(each.read("alice"), TIMEOUT_SECONDS)
        each.schedule.advance(2.0)
        await each.run_until_idle()
        assert each.turns == ["mallory", "alice"]
        assert counted(each.metrics, "replays_waiting") == {"": 1}

        each.schedule.advance(0.3)
        await asyncio.wait_for(waiting, TIMEOUT_SECONDS)

        assert each.turns == ["mallory", "alice", "mallory"]
        assert counted(each.metrics, "replays_waiting") == {}
        assert counted(each.metrics, "replay_pages_delayed_total") == {"": 1}


@pytest.mark.parametrize(("entries", "addresses", "reads"), [(0, 0, 14), (0, 200, 2), (100, 0, 4)])
async def test_empty_pages_rooms_and_messages_that_are_not_sent_cost_too(
    entries: int, addresses: int, reads: int
) -> None:
    async with readers(bytes_per_second=1.0, burst_bytes=900_000) as each:
        for _ in range(reads):
            await asyncio.wait_for(each.read("mallory", entries, addresses), TIMEOUT_SECONDS)

        each.start("mallory")
        await each.run_until_idle()

        assert len(each.turns) == reads


async def test_client_that_reconnects_every_few_seconds_and_missed_little_never_waits() -> None:
    async with readers() as each:
        budget = ReplayBudget(clock=each.schedule.clock, schedule=each.schedule, metrics=MetricFactory())
        each.budget = budget
        for _ in range(1000):
            await asyncio.wait_for(each.read("alice", entries=500, addresses=10), TIMEOUT_SECONDS)
            each.schedule.advance(2.0)


async def test_connects_of_a_user_read_first_and_then_the_connection_that_has_least_left_to_read() -> None:
    async with readers() as made:
        made.gate.clear()
        made.start("one")
        await made.run_until_idle()
        for position in ("20-1", "100-0", "20-2"):
            made.start("one", after=Position(position))
        await made.run_until_idle()
        made.start("one")
        await made.run_until_idle()

        made.gate.set()
        await made.run_until_idle()

        assert made.turns == ["one", "one", "100-0", "20-2", "20-1"]


async def test_replays_of_a_user_with_a_hundred_connections_and_many_messages_end() -> None:
    """After a restart: 700 messages are missed and 50 more come each second; the budget is spent."""
    page_entries, limits = 256, {"bytes_per_second": 8.0 * 2**20, "burst_bytes": 2.0**20}
    async with readers(**limits) as made:
        clock = made.schedule.clock
        began = clock.monotonic()

        def newest() -> int:
            return 700 + int(50 * (clock.monotonic() - began))

        async def replay() -> None:
            read = 0
            while read < newest():
                entries = min(page_entries, newest() - read)
                await made.read("account", entries, after=Position(f"{read}-0"))
                read += entries

        replays = [asyncio.create_task(replay()) for _ in range(100)]
        for _ in range(120 * 10):
            made.schedule.advance(0.1)
            await made.run_until_idle()
            if all(each.done() for each in replays):
                break
        behind = [each for each in replays if not each.done()]
        for each in behind:
            each.cancel()

        assert not behind


async def test_turn_that_was_cancelled_as_it_began_gives_way_to_the_next() -> None:
    async with readers() as made:
        made.gate.clear()
        made.start("one")
        await made.run_until_idle()
        cancelled, last = made.start("one"), made.start("one")
        await made.run_until_idle()

        made.gate.set()
        await asyncio.sleep(0)  # the first turn ends, and the second one is about to begin
        cancelled.cancel()
        await asyncio.wait_for(last, TIMEOUT_SECONDS)

        assert cancelled.cancelled()


async def test_turn_that_was_cancelled_while_it_waited_gives_way_to_the_next() -> None:
    async with readers() as each:
        await each.read("mallory", entries=1300)
        first, second = each.start("mallory"), each.start("mallory")
        await each.run_until_idle()

        first.cancel()
        each.schedule.advance(3.0)
        await asyncio.wait_for(second, TIMEOUT_SECONDS)

        assert each.turns == ["mallory", "mallory"]
        assert counted(each.metrics, "replays_waiting") == {}


async def test_users_that_have_paid_are_forgotten() -> None:
    async with readers() as each:
        for number in range(100):
            await each.read(f"user {number}", entries=10)
        assert len(each.budget) == 100

        each.schedule.advance(60.0)
        await each.read("alice")

        assert len(each.budget) == 1
