"""The timer heap of the process, on one timer of the loop."""

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
from tests.support.waiter import TIMEOUT_SECONDS


class FakeHandle:
    """Stands for a timer of the loop."""

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


class Timers:
    """A timer heap on a fake loop, and the actions that ran."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.heap = TimerHeap(cast(asyncio.AbstractEventLoop, self.loop))
        self.done: list[str] = []

    def after(self, seconds: float, name: str) -> TimerEntry:
        return self.heap.after(seconds, lambda: self.done.append(name))


@pytest.fixture
def timers() -> Iterator[Timers]:
    timers = Timers()
    yield timers
    assert len(timers.loop.timers) <= 1, "more than one timer of the loop"


def test_actions_run_in_the_order_of_their_times(timers: Timers) -> None:
    timers.after(3, "three")
    timers.after(1, "one")
    timers.after(2, "two")

    timers.loop.advance(2.5)
    so_far = list(timers.done)
    timers.loop.advance(1)

    assert (so_far, timers.done) == (["one", "two"], ["one", "two", "three"])


def test_actions_of_one_moment_run_in_the_order_they_were_scheduled(timers: Timers) -> None:
    for number in range(5):
        timers.after(1, str(number))

    timers.loop.advance(1)

    assert timers.done == list("01234")


def test_cancelled_action_does_not_run_and_is_not_counted(timers: Timers) -> None:
    entry = timers.after(1, "never")
    timers.after(1, "yes")

    entry.cancel()
    entry.cancel()
    counted = len(timers.heap)
    timers.loop.advance(1)

    assert (counted, timers.done, len(timers.heap)) == (1, ["yes"], 0)


def test_cancelling_after_the_action_changes_nothing(timers: Timers) -> None:
    entry = timers.after(1, "done")
    timers.loop.advance(1)

    entry.cancel()

    assert len(timers.heap) == 0


def test_action_may_schedule_and_cancel_others(timers: Timers) -> None:
    doomed = timers.after(2, "never")

    def act() -> None:
        timers.done.append("first")
        doomed.cancel()
        timers.after(0, "at once")
        timers.after(5, "later")

    timers.heap.after(1, act)
    timers.loop.advance(2)
    so_far = list(timers.done)
    timers.loop.advance(5)

    assert (so_far, timers.done) == (["first", "at once"], ["first", "at once", "later"])


def test_exception_in_an_action_is_logged_and_other_actions_run(timers: Timers) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    timers.heap.after(1, fail)
    timers.after(1, "unharmed")
    with structlog.testing.capture_logs() as logs:
        timers.loop.advance(1)

    assert timers.done == ["unharmed"]
    assert [entry["event"] for entry in logs] == ["timer.action_failed"]


def test_ten_thousand_heartbeats_take_one_timer_of_the_loop(timers: Timers) -> None:
    for number in range(10_000):
        timers.after(25 + number / 10_000, "heartbeat")

    assert len(timers.loop.timers) == 1
    timers.loop.advance(26)
    assert len(timers.done) == 10_000


def test_cancelled_entries_are_removed_from_the_heap(timers: Timers) -> None:
    timers.after(1000, "kept")
    for _ in range(50):
        for entry in [timers.after(1000, "never") for _ in range(1000)]:
            entry.cancel()

    assert len(timers.heap._heap) < 5_000
    assert len(timers.heap) == 1
    timers.loop.advance(1000)
    assert timers.done == ["kept"]


def test_closed_heap_runs_nothing_and_allows_cancelling(timers: Timers) -> None:
    entry = timers.after(1, "never")

    timers.heap.close()
    entry.cancel()
    timers.loop.advance(10)

    assert (timers.done, len(timers.heap), timers.loop.timers) == ([], 0, [])


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
def test_each_action_runs_once_at_its_time_unless_it_is_cancelled(steps: list[tuple[str, float]]) -> None:
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


async def test_actions_run_at_their_time_on_a_real_loop() -> None:
    loop = asyncio.get_running_loop()
    schedule = TimerHeap(loop)
    done = asyncio.Event()
    began = loop.time()

    schedule.after(2 * TIMEOUT_SECONDS, done.clear)
    schedule.after(0.02, done.set)
    await asyncio.wait_for(done.wait(), TIMEOUT_SECONDS)

    assert loop.time() - began >= 0.015
    assert len(schedule) == 1
    schedule.close()
