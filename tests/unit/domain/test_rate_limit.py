"""The generic cell rate algorithm, against a bucket of exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.rate_limit import (
    FULL,
    TOLERANCE_SECONDS,
    Rate,
    RateLimitResult,
    consume,
    take_token,
    wait_seconds,
)

NOW = 1_234_567.8


class TokenBucket:
    """The oracle: counts tokens instead of keeping a time, without rounding."""

    def __init__(self, rate: Rate) -> None:
        self._per_second = Fraction(rate.per_second)
        self._burst = rate.burst
        self._filled_at = Fraction(0)
        self.tokens = Fraction(rate.burst)

    def refill(self, now: float) -> None:
        gained = (Fraction(now) - self._filled_at) * self._per_second
        self.tokens = min(Fraction(self._burst), self.tokens + gained)
        self._filled_at = Fraction(now)

    @property
    def wait_seconds(self) -> Fraction:
        return max(Fraction(0), (1 - self.tokens) / self._per_second)

    @property
    def reset_seconds(self) -> Fraction:
        return (self._burst - self.tokens) / self._per_second


def take(
    count: int, rate: Rate, *, now: float = NOW, tat: float = FULL
) -> tuple[float, list[RateLimitResult]]:
    results = []
    for _ in range(count):
        tat, result = consume(tat, now, rate)
        results.append(result)
    return tat, results


def test_full_bucket_allows_its_burst_and_then_nothing() -> None:
    _, results = take(5, Rate(per_second=10, burst=3))

    assert [result.allowed for result in results] == [True, True, True, False, False]
    assert [result.remaining for result in results] == [2, 1, 0, 0, 0]
    assert {result.limit for result in results} == {3}


def test_every_result_says_when_the_bucket_is_full() -> None:
    _, results = take(4, Rate(per_second=10, burst=3))

    assert [result.reset_seconds for result in results] == pytest.approx([0.1, 0.2, 0.3, 0.3])


def test_rejection_says_when_there_is_a_token() -> None:
    rate = Rate(per_second=0.2, burst=1)
    tat, results = take(2, rate)

    assert [result.retry_after_seconds for result in results] == pytest.approx([0, 5])
    assert not consume(tat, NOW + 4.9, rate)[1].allowed
    assert consume(tat, NOW + 5, rate)[1].allowed


def test_rejected_request_takes_nothing() -> None:
    rate = Rate(per_second=10, burst=3)
    tat, _ = take(3, rate)

    assert take(100, rate, tat=tat)[0] == tat


def test_tokens_return_at_the_rate_up_to_the_burst() -> None:
    rate = Rate(per_second=10, burst=10)
    tat, _ = take(10, rate)
    allowed = []
    now = NOW
    for seconds in (0.5, 1.0, 100.0):
        now += seconds
        tat, results = take(50, rate, now=now, tat=tat)
        allowed.append(sum(result.allowed for result in results))

    assert allowed == [5, 10, 10]


def test_lower_rate_applies_to_a_bucket_that_is_in_use() -> None:
    tat, _ = take(3, Rate(per_second=1, burst=3))

    assert not consume(tat, NOW, Rate(per_second=1, burst=1))[1].allowed


def test_burst_may_have_a_fraction() -> None:
    tat, waits = FULL, []
    for _ in range(3):
        waits.append(wait_seconds(tat, NOW, 2.5, 2.5))
        tat = take_token(tat, NOW, 2.5)

    assert waits == pytest.approx([0, 0, 0.2])


def test_token_that_was_taken_although_there_was_none_is_a_debt() -> None:
    tat = FULL
    for _ in range(20):
        tat = take_token(tat, NOW, 10)

    assert wait_seconds(tat, NOW, 10, 10) == pytest.approx(1.1)


@pytest.mark.parametrize("per_second", [3, 7.7, 100, 1_000, 10_000])
def test_rounding_costs_no_token_of_a_burst(per_second: float) -> None:
    rate = Rate(per_second=per_second, burst=int(per_second))
    tat, results = take(rate.burst, rate)

    assert [result.remaining for result in results] == [*reversed(range(rate.burst))]
    assert all(result.allowed for result in results)
    assert not consume(tat, NOW, rate)[1].allowed


@given(
    per_second=st.floats(min_value=0.001, max_value=10_000),
    burst=st.integers(min_value=1, max_value=1_000),
    pauses=st.lists(
        st.one_of(st.just(0.0), st.floats(min_value=0, max_value=5), st.floats(min_value=0, max_value=5_000)),
        max_size=60,
    ),
)
def test_decisions_are_those_of_a_bucket_of_tokens(
    per_second: float, burst: int, pauses: list[float]
) -> None:
    rate = Rate(per_second, burst)
    bucket, tat, now = TokenBucket(rate), FULL, NOW
    bucket.refill(now)
    for pause in pauses:
        now += pause
        bucket.refill(now)
        tat, result = consume(tat, now, rate)
        # Within the tolerance either decision is right: the oracle follows the one that was taken.
        if abs(bucket.wait_seconds - Fraction(TOLERANCE_SECONDS)) > Fraction(TOLERANCE_SECONDS) / 2:
            assert result.allowed == (bucket.wait_seconds <= TOLERANCE_SECONDS)
        if result.allowed:
            bucket.tokens -= 1
        else:
            assert result.retry_after_seconds == pytest.approx(float(bucket.wait_seconds), abs=1e-6)
        assert result.reset_seconds == pytest.approx(float(bucket.reset_seconds), abs=1e-6)
        assert 0 <= result.remaining < burst
        assert result.remaining == pytest.approx(int(bucket.tokens), abs=1)


@given(
    per_second=st.floats(min_value=0.01, max_value=1_000),
    burst=st.integers(min_value=1, max_value=100),
    excess=st.integers(min_value=1, max_value=10),
)
def test_request_that_waits_as_long_as_it_was_asked_to_is_allowed(
    per_second: float, burst: int, excess: int
) -> None:
    rate = Rate(per_second, burst)
    tat, results = take(burst + excess, rate)

    assert consume(tat, NOW + results[-1].retry_after_seconds, rate)[1].allowed
