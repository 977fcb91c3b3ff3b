"""Sampling of log lines."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.domain.sampling import (
    INTERVAL_SECONDS,
    LINES_PER_ADDRESS,
    LINES_PER_REASON,
    MAX_COUNTS,
    LineLimiter,
    Sampling,
)

KEYS = [f"{number:032x}" for number in range(10_000)]


@pytest.mark.parametrize("rate", [0.01, 0.25, 0.9])
def test_sampling_keeps_about_the_share_of_its_rate(rate: float) -> None:
    sampling = Sampling(rate)

    kept = sum(sampling.should_log(key) for key in KEYS)

    assert kept == pytest.approx(rate * len(KEYS), rel=0.25)
    assert sampling.fields == {"sample_rate": rate}


def test_rates_0_and_1_are_exact() -> None:
    assert all(map(Sampling(1.0).should_log, KEYS))
    assert not any(map(Sampling(0.0).should_log, KEYS))
    assert Sampling(1.0).fields == {}


def test_key_is_decided_alike_everywhere_and_a_higher_rate_keeps_what_a_lower_one_keeps() -> None:
    low, high = Sampling(0.1), Sampling(0.3)

    assert [low.should_log(key) for key in KEYS] == [Sampling(0.1).should_log(key) for key in KEYS]
    assert {key for key in KEYS if low.should_log(key)} < {key for key in KEYS if high.should_log(key)}


def test_key_may_be_any_text() -> None:
    assert isinstance(Sampling(0.5).should_log("ü\udc80"), bool)


class Limited:
    """A limiter with a clock that stands still, a timer, and the summaries that it reported."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.reports: list[tuple[str, str, int, int]] = []
        self.lines = LineLimiter(
            now=lambda: self.now,
            after=lambda seconds, action: self.timers.append((seconds, action)),
            report=lambda *summary: self.reports.append(summary),
        )

    def written(self, count: int, *, address: str = "a", reason: str = "bad") -> int:
        return sum(self.lines.allows("line", reason, address) for _ in range(count))


def test_first_lines_of_each_reason_and_address_are_written() -> None:
    limited = Limited()

    assert limited.written(LINES_PER_ADDRESS + 7) == LINES_PER_ADDRESS
    assert limited.written(3, address="b") == 3
    assert limited.written(3, reason="other") == 3
    assert limited.lines.allows("another line", "bad", "a")


def test_many_addresses_together_are_limited_too() -> None:
    limited = Limited()

    assert sum(limited.written(1, address=str(number)) for number in range(1_000)) == LINES_PER_REASON


def test_lines_that_are_missing_are_reported_once_the_interval_is_over() -> None:
    limited = Limited()
    limited.now = 2.0
    limited.written(LINES_PER_ADDRESS + 7)
    limited.written(LINES_PER_ADDRESS + 1, address="b")

    [(seconds, flush)] = limited.timers
    assert seconds == INTERVAL_SECONDS - 2.0
    limited.now = INTERVAL_SECONDS
    flush()

    assert limited.reports == [("line", "bad", 8, 2)]
    assert limited.written(LINES_PER_ADDRESS + 1) == LINES_PER_ADDRESS
    assert len(limited.timers) == 2


def test_interval_without_a_missing_line_reports_nothing_and_starts_no_timer() -> None:
    limited = Limited()
    for _ in range(3):
        assert limited.written(LINES_PER_ADDRESS) == LINES_PER_ADDRESS
        limited.now += INTERVAL_SECONDS

    assert (limited.timers, limited.reports) == ([], [])


def test_number_of_addresses_that_are_counted_is_bounded() -> None:
    limited = Limited()
    for number in range(2 * MAX_COUNTS):
        limited.written(1, address=str(number))

    assert len(limited.lines._counts) <= MAX_COUNTS + 1
