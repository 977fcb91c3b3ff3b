"""RateLimits. The rates are so low that no token returns while a test runs."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.rate_limit import Rate, RateLimitResult
from tests.contract.states import StateUnderTest

ONE_IN_1000_SECONDS = 0.001
SLOW = Rate(per_second=ONE_IN_1000_SECONDS, burst=3)
TEST_TAKES_AT_MOST_SECONDS = 30.0


async def take(
    state: StateUnderTest, number: int, *, bucket: str = "shop", rate: Rate = SLOW
) -> list[RateLimitResult]:
    return [await state.rates.consume(bucket, rate) for _ in range(number)]


async def test_burst_is_allowed_and_then_nothing(state: StateUnderTest) -> None:
    results = await take(state, 5)

    assert [result.allowed for result in results] == [True, True, True, False, False]
    assert [result.remaining for result in results] == [2, 1, 0, 0, 0]
    assert {result.limit for result in results} == {3}


async def test_allowed_request_has_no_time_to_retry_after(state: StateUnderTest) -> None:
    assert [result.retry_after_seconds for result in await take(state, 3)] == [0, 0, 0]


async def test_rejection_says_when_there_is_a_token(state: StateUnderTest) -> None:
    rejected = (await take(state, 4))[-1]

    assert rejected.retry_after_seconds == pytest.approx(1000, abs=TEST_TAKES_AT_MOST_SECONDS)


async def test_every_result_says_when_the_bucket_is_full(state: StateUnderTest) -> None:
    full_in = [result.reset_seconds for result in await take(state, 4)]

    assert full_in == pytest.approx([1000, 2000, 3000, 3000], abs=TEST_TAKES_AT_MOST_SECONDS)


async def test_tokens_return_at_the_rate_one_at_a_time(state: StateUnderTest) -> None:
    await take(state, 3)
    await state.advance(1500)

    assert [result.allowed for result in await take(state, 2)] == [True, False]


async def test_rejected_request_takes_nothing(state: StateUnderTest) -> None:
    await take(state, 50)
    await state.advance(1100)

    assert (await take(state, 1))[0].allowed


async def test_bucket_holds_no_more_than_its_burst(state: StateUnderTest) -> None:
    await take(state, 3)
    await state.advance(100_000)

    assert [result.allowed for result in await take(state, 4)] == [True, True, True, False]


async def test_request_is_allowed_after_the_time_to_retry_after(state: StateUnderTest) -> None:
    rejected = (await take(state, 4))[-1]
    await state.advance(rejected.retry_after_seconds)

    assert (await take(state, 1))[0].allowed


async def test_buckets_are_independent(state: StateUnderTest) -> None:
    await take(state, 3, bucket="shop")

    assert (await take(state, 1, bucket="mail"))[0].allowed


async def test_concurrent_requests_share_one_burst(state: StateUnderTest) -> None:
    results = await asyncio.gather(*(state.rates.consume("shop", SLOW) for _ in range(20)))

    assert sum(result.allowed for result in results) == 3


async def test_lower_rate_applies_at_once(state: StateUnderTest) -> None:
    await take(state, 3)

    slower = Rate(per_second=ONE_IN_1000_SECONDS, burst=1)

    assert not (await take(state, 1, rate=slower))[0].allowed
