"""The pace at which everybody is asked to leave."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from gateway.application.draining import SLOWEST_PACE, ask_one_by_one, moments


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_each_guest_is_asked_in_a_share_of_the_time_of_its_own(jitter: float) -> None:
    asked = list(moments(1000, 20.0, lambda: jitter))

    assert [int(moment / 0.02 + 1e-9) for moment in asked] == list(range(1000))


def test_in_no_second_more_are_asked_than_the_even_pace_and_one() -> None:
    asked = list(moments(1000, 20.0))

    assert asked == sorted(asked)
    for moment in asked:
        assert sum(moment <= other < moment + 1 for other in asked) <= 50 + 1


def test_the_jitter_of_each_is_its_own() -> None:
    steps = [later - earlier for earlier, later in itertools.pairwise(moments(1000, 20.0))]

    assert min(steps) < 0.01
    assert max(steps) > 0.03


def test_a_few_do_not_take_the_whole_time() -> None:
    assert max(moments(5, 60.0)) <= 5 / SLOWEST_PACE
    assert list(moments(0, 60.0)) == []


def test_no_time_at_all_is_everybody_at_once() -> None:
    assert set(moments(1000, 0.0)) == {0.0}


async def test_everybody_is_asked_once_and_in_order() -> None:
    asked: list[int] = []

    async with asyncio.timeout(10):
        await ask_one_by_one(range(100), asked.append, seconds=0.2)

    assert asked == list(range(100))
