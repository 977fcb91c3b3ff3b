"""The measure of a rolling restart finds every peak; otherwise a run without one would prove nothing."""

from __future__ import annotations

from tests.load.rolling.reconnect_rate import ReconnectRate, busiest_second, reconnect_rate


def test_peak_of_an_even_rate_is_that_rate() -> None:
    evenly = [100.0 + number / 64 for number in range(1280)]

    found = reconnect_rate(evenly, since=99.0)

    assert found == ReconnectRate(1280, 64, 1.0, 20.984375, (0, *[64] * 20))
    assert found.even_per_second(20.0) == 64.0


def test_busiest_second_may_begin_between_two_seconds_of_the_clock() -> None:
    assert busiest_second([0.1, 0.9, 0.95, 1.0, 1.1, 1.85, 3.0]) == 5


def test_peak_of_reconnects_within_one_second_counts_all() -> None:
    assert reconnect_rate([7.0, 7.5, 7.25], since=5.0) == ReconnectRate(3, 3, 2.0, 2.5, (0, 0, 3))


def test_rate_without_reconnects_has_no_clients() -> None:
    assert reconnect_rate([], since=5.0).clients == 0
