"""The measure of a rolling restart sees every crowding: else its silence would mean nothing."""

from __future__ import annotations

from tests.load.rolling.reconnect_rate import Pace, busiest_second, pace


def test_an_even_pace_is_its_own_peak() -> None:
    evenly = [100.0 + number / 64 for number in range(1280)]

    found = pace(evenly, since=99.0)

    assert found == Pace(1280, 64, 1.0, 20.984375, (0, *[64] * 20))
    assert found.even_per_second(20.0) == 64.0


def test_a_crowd_across_two_seconds_of_the_clock_is_one_crowd() -> None:
    assert busiest_second([0.1, 0.9, 0.95, 1.0, 1.1, 1.85, 3.0]) == 5


def test_all_at_once_is_a_peak_of_all() -> None:
    assert pace([7.0, 7.5, 7.25], since=5.0) == Pace(3, 3, 2.0, 2.5, (0, 0, 3))


def test_nobody_who_came_back_is_no_pace() -> None:
    assert pace([], since=5.0).clients == 0
