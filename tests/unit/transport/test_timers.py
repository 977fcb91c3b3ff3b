"""One heap and one timer of the loop for everything that is done later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.timers import TimerEntry, TimerHeap


class FakeHandle:
    """A timer of the loop."""

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """A loop whose time is moved by hand. It lies about one thing: timers are never late."""

    def __init__(self) -> None:
        self.now = 0.0
        self.handles: list[FakeHandle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, callback: Callable[[], None]) -> FakeHandle:
        handle = FakeHandle(due, callback)
        self.handles.append(handle)
        return handle

    @property
    def timers(self) -> list[FakeHandle]:
        return [handle for handle in self.handles if not handle.cancelled]

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [handle for handle in self.timers if handle.due <= until]:
            first = min(due, key=lambda handle: handle.due)
            self.handles.remove(first)
            self.now = max(self.now, first.due)
            first.callback()
        self.now = until


class World:
    """A schedule on a fake loop, and what was done."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.schedule = TimerHeap(cast(asyncio.AbstractEventLoop, self.loop))
        self.done: list[str] = []

    def after(self, seconds: float, name: str) -> TimerEntry:
        return self.schedule.after(seconds, lambda: self.done.append(name))


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    assert len(world.loop.timers) <= 1, "more than one timer of the loop"


def test_things_are_done_in_the_order_of_their_times(world: World) -> None:
    world.after(3, "three")
    world.after(1, "one")
    world.after(2, "two")

    world.loop.advance(2.5)
    so_far = list(world.done)
    world.loop.advance(1)

    assert (so_far, world.done) == (["one", "two"], ["one", "two", "three"])


def test_things_of_one_moment_are_done_in_the_order_they_were_asked_for(world: World) -> None:
    for number in range(5):
        world.after(1, str(number))

    world.loop.advance(1)

    assert world.done == list("01234")


def test_what_is_cancelled_is_not_done_and_not_counted(world: World) -> None:
    entry = world.after(1, "never")
    world.after(1, "yes")

    entry.cancel()
    entry.cancel()
    counted = len(world.schedule)
    world.loop.advance(1)

    assert (counted, world.done, len(world.schedule)) == (1, ["yes"], 0)


def test_cancelling_what_was_done_changes_nothing(world: World) -> None:
    entry = world.after(1, "done")
    world.loop.advance(1)

    entry.cancel()

    assert len(world.schedule) == 0


def test_an_action_may_ask_for_more_and_cancel_others(world: World) -> None:
    doomed = world.after(2, "never")

    def act() -> None:
        world.done.append("first")
        doomed.cancel()
        world.after(0, "at once")
        world.after(5, "later")

    world.schedule.after(1, act)
    world.loop.advance(2)
    so_far = list(world.done)
    world.loop.advance(5)

    assert (so_far, world.done) == (["first", "at once"], ["first", "at once", "later"])


def test_an_action_that_fails_is_logged_and_harms_no_other(world: World) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    world.schedule.after(1, fail)
    world.after(1, "unharmed")
    with structlog.testing.capture_logs() as logs:
        world.loop.advance(1)

    assert world.done == ["unharmed"]
    assert [entry["event"] for entry in logs] == ["timer.action_failed"]


def test_ten_thousand_heartbeats_take_one_timer_of_the_loop(world: World) -> None:
    for number in range(10_000):
        world.after(25 + number / 10_000, "beat")

    assert len(world.loop.timers) == 1
    world.loop.advance(26)
    assert len(world.done) == 10_000


def test_cancelled_entries_do_not_stay_in_memory(world: World) -> None:
    world.after(1000, "kept")
    for _ in range(50):
        for entry in [world.after(1000, "never") for _ in range(1000)]:
            entry.cancel()

    assert len(world.schedule._heap) < 5_000
    assert len(world.schedule) == 1
    world.loop.advance(1000)
    assert world.done == ["kept"]


def test_after_closing_nothing_is_done_and_cancelling_is_harmless(world: World) -> None:
    entry = world.after(1, "never")

    world.schedule.close()
    entry.cancel()
    world.loop.advance(10)

    assert (world.done, len(world.schedule), world.loop.timers) == ([], 0, [])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("after"), st.floats(0, 10)),
            st.tuples(st.just("cancel"), st.floats(0, 1)),
            st.tuples(st.just("advance"), st.floats(0, 5)),
        ),
        max_size=60,
    )
)
def test_everything_is_done_once_at_its_time_unless_it_was_cancelled(steps: list[tuple[str, float]]) -> None:
    loop = FakeLoop()
    schedule = TimerHeap(cast(asyncio.AbstractEventLoop, loop))
    pending: list[tuple[float, TimerEntry]] = []
    done: list[tuple[float, float]] = []

    def note(due: float) -> None:
        done.append((due, loop.now))

    for step, number in steps:
        if step == "after":
            due = loop.now + number
            pending.append((due, schedule.after(number, partial(note, due))))
        elif step == "cancel" and pending:
            pending.pop(int(number * (len(pending) - 1)))[1].cancel()
        elif step == "advance":
            loop.advance(number)
            pending = [item for item in pending if item[0] > loop.now]
        assert len(schedule) == len(pending)
    loop.advance(100)

    assert all(due == when for due, when in done)
    assert len(schedule) == 0


async def test_on_a_real_loop_things_are_done_when_their_time_has_come() -> None:
    loop = asyncio.get_running_loop()
    schedule = TimerHeap(loop)
    done = asyncio.Event()
    began = loop.time()

    schedule.after(10, done.clear)
    schedule.after(0.02, done.set)
    await asyncio.wait_for(done.wait(), 5)

    assert 0.015 <= loop.time() - began < 1
    assert len(schedule) == 1
    schedule.close()
