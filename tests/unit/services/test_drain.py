"""The pace of a drain."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import Callable

import pytest

from gateway.services.drain import FASTEST, LATE_SECONDS, MIN_RATE, DrainPacer, drain

Jitter = Callable[[], float]


def moments(
    count: int,
    seconds: float,
    *,
    jitter: Jitter = random.random,
    late: Callable[[int], float] = lambda _: 0,
) -> list[float]:
    """Return when each client is disconnected; ``late`` is the delay of the event loop after so many clients."""
    pacer, now, disconnected = DrainPacer(count, seconds, jitter=jitter), 0.0, list[float]()
    while pacer.left:
        now += pacer.next_delay(now) + late(len(disconnected))
        disconnected += [now] * pacer.take_due(now)
    return disconnected


def most_in_a_second(disconnected: list[float]) -> int:
    """Return the largest number of moments, which are in order, in any one second."""
    return max(bisect_left(disconnected, moment + 1) - n for n, moment in enumerate(disconnected))


def test_pace_without_jitter_is_perfectly_even() -> None:
    assert moments(1000, 20.0, jitter=lambda: 0.0) == pytest.approx([0.02 * n for n in range(1000)])


@pytest.mark.parametrize("seed", range(20))
def test_pace_with_jitter_is_even_from_second_to_second_and_ends_in_time(seed: int) -> None:
    disconnected = moments(1000, 20.0, jitter=random.Random(seed).random)

    assert disconnected == sorted(disconnected)
    assert most_in_a_second(disconnected) <= 50 + 2
    assert disconnected[-1] <= 20.0


def test_replicas_that_drain_together_disconnect_at_different_moments() -> None:
    assert moments(50, 5.0) != moments(50, 5.0)


def standstill(seconds: float, *, at: int) -> Callable[[int], float]:
    """Return a delay that occurs once, after ``at`` clients were disconnected."""
    once = [seconds]
    return lambda disconnected: once.pop() if once and disconnected >= at else 0.0


def test_clients_late_by_a_standstill_are_spread_over_the_remaining_time() -> None:
    disconnected = moments(1000, 20.0, late=standstill(2.0, at=500))

    assert most_in_a_second(disconnected) <= 50 * 10 / 8 * (1 + LATE_SECONDS) + 2
    assert disconnected[-1] <= 20.0


def test_standstill_at_the_end_does_not_disconnect_many_at_once() -> None:
    disconnected = moments(1000, 20.0, late=standstill(5.0, at=900))

    assert most_in_a_second(disconnected) <= 50 * FASTEST * (1 + LATE_SECONDS) + 2
    assert disconnected[-1] <= 23.0 + 1.4


@pytest.mark.parametrize("seconds", [0.005, 0.1, 0.2, 0.45])
def test_event_loop_that_is_always_late_does_not_slow_the_pace(seconds: float) -> None:
    disconnected = moments(10_000, 30.0, late=lambda _: seconds)

    assert disconnected[-1] <= 30.0 + 2 * seconds
    assert most_in_a_second(disconnected) <= 10_000 / 30 * (1 + 2 * seconds) + 2


def test_few_clients_do_not_take_the_whole_time() -> None:
    assert moments(5, 60.0)[-1] <= 5 / MIN_RATE
    assert moments(0, 60.0) == []


def test_drain_without_time_disconnects_all_at_once() -> None:
    assert set(moments(1000, 0.0)) == {0.0}


async def test_drain_disconnects_each_client_once_and_in_order() -> None:
    disconnected: list[int] = []

    async with asyncio.timeout(60):
        await drain(range(100), disconnected.append, seconds=0.2)

    assert disconnected == list(range(100))
