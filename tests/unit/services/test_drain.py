"""The pace at which everybody is asked to leave."""

from __future__ import annotations

import asyncio
import random
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
    """When each is asked; ``late`` says by how much the event loop comes too late when so many have been asked."""
    pace, now, asked = DrainPacer(count, seconds, jitter=jitter), 0.0, list[float]()
    while pace.left:
        now += pace.next_delay(now) + late(len(asked))
        asked += [now] * pace.take_due(now)
    return asked


def most_in_a_second(asked: list[float]) -> int:
    return max(sum(moment <= other < moment + 1 for other in asked) for moment in asked)


def test_pace_without_jitter_is_perfectly_even() -> None:
    assert moments(1000, 20.0, jitter=lambda: 0.0) == pytest.approx([0.02 * n for n in range(1000)])


@pytest.mark.parametrize("seed", range(20))
def test_pace_with_jitter_is_even_from_second_to_second_and_ends_in_time(seed: int) -> None:
    asked = moments(1000, 20.0, jitter=random.Random(seed).random)

    assert asked == sorted(asked)
    assert most_in_a_second(asked) <= 50 + 2
    assert asked[-1] <= 20.0


def test_replicas_that_drain_together_disconnect_at_different_moments() -> None:
    assert moments(50, 5.0) != moments(50, 5.0)


def standstill(seconds: float, *, at: int) -> Callable[[int], float]:
    """Once, when so many have been asked."""
    once = [seconds]
    return lambda asked: once.pop() if once and asked >= at else 0.0


def test_clients_late_by_a_standstill_are_spread_over_the_remaining_time() -> None:
    asked = moments(1000, 20.0, late=standstill(2.0, at=500))

    assert most_in_a_second(asked) <= 50 * 10 / 8 * (1 + LATE_SECONDS) + 2
    assert asked[-1] <= 20.0


def test_standstill_at_the_end_does_not_disconnect_many_at_once() -> None:
    asked = moments(1000, 20.0, late=standstill(5.0, at=900))

    assert most_in_a_second(asked) <= 50 * FASTEST * (1 + LATE_SECONDS) + 2
    assert asked[-1] <= 23.0 + 1.4


@pytest.mark.parametrize("seconds", [0.005, 0.1, 0.2, 0.45])
def test_event_loop_that_is_always_late_does_not_slow_the_pace(seconds: float) -> None:
    asked = moments(10_000, 30.0, late=lambda _: seconds)

    assert asked[-1] <= 30.0 + 2 * seconds
    assert most_in_a_second(asked) <= 10_000 / 30 * (1 + 2 * seconds) + 2


def test_few_clients_do_not_take_the_whole_time() -> None:
    assert moments(5, 60.0)[-1] <= 5 / MIN_RATE
    assert moments(0, 60.0) == []


def test_drain_without_time_disconnects_all_at_once() -> None:
    assert set(moments(1000, 0.0)) == {0.0}


async def test_drain_disconnects_each_client_once_and_in_order() -> None:
    asked: list[int] = []

    async with asyncio.timeout(10):
        await drain(range(100), asked.append, seconds=0.2)

    assert asked == list(range(100))
