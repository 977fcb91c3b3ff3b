"""DedupStore: nonces of requests that append nothing."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from gateway.domain.errors import FreshnessUnknown, NonceReplayed
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import dedup_key, message


async def test_nonce_is_consumed_once(state: StateUnderTest) -> None:
    await state.dedup.consume_nonce(dedup_key(state, nonce="once"))

    with pytest.raises(NonceReplayed):
        await state.dedup.consume_nonce(dedup_key(state, nonce="once"))


async def test_nonce_is_consumed_whatever_its_timestamp(state: StateUnderTest) -> None:
    await state.dedup.consume_nonce(dedup_key(state, nonce="once", lives_seconds=10))

    for lives_seconds in (5, 10, 600):
        with pytest.raises(NonceReplayed):
            await state.dedup.consume_nonce(dedup_key(state, nonce="once", lives_seconds=lives_seconds))


async def test_two_keys_may_use_the_same_nonce(state: StateUnderTest) -> None:
    await state.dedup.consume_nonce(dedup_key(state, key_id="shop", nonce="once"))

    await state.dedup.consume_nonce(dedup_key(state, key_id="mail", nonce="once"))


async def test_key_and_nonce_are_kept_apart(state: StateUnderTest) -> None:
    await state.dedup.consume_nonce(dedup_key(state, key_id="shop", nonce="1once"))

    await state.dedup.consume_nonce(dedup_key(state, key_id="shop1", nonce="once"))


async def test_concurrent_requests_consume_a_nonce_once(state: StateUnderTest) -> None:
    answers = await asyncio.gather(
        *(state.dedup.consume_nonce(dedup_key(state, nonce="once")) for _ in range(20)),
        return_exceptions=True,
    )

    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, NonceReplayed) for answer in answers) == 19


async def test_nonce_is_kept_until_its_end(state: StateUnderTest) -> None:
    used = dedup_key(state, nonce="once", lives_seconds=300)
    await state.dedup.consume_nonce(used)
    await state.advance(280)

    with pytest.raises(NonceReplayed):
        await state.dedup.consume_nonce(used)


async def test_nonce_is_not_accepted_after_its_end(state: StateUnderTest) -> None:
    used = dedup_key(state, nonce="used", lives_seconds=300)
    unused = dedup_key(state, nonce="unused", lives_seconds=300)
    await state.dedup.consume_nonce(used)
    await state.advance(1000)

    for late in (used, unused):
        with pytest.raises(FreshnessUnknown):
            await state.dedup.consume_nonce(late)


async def test_idempotency_key_is_ignored(state: StateUnderTest) -> None:
    await state.broker.append(message("a"), dedup_key(state, idempotency_key="key", fingerprint="one"))

    await state.dedup.consume_nonce(dedup_key(state, idempotency_key="key", fingerprint="two"))
    await state.dedup.consume_nonce(dedup_key(state, idempotency_key="other", fingerprint="two"))

    result = await state.broker.append(
        message("a"), dedup_key(state, idempotency_key="other", fingerprint="three")
    )
    assert not result.replayed


async def test_began_at_is_the_first_whole_second_of_the_store(make_state: MakeState) -> None:
    before = time.time()
    state = await make_state()

    # A request carries whole seconds: one signed earlier in this second is from before the store, too.
    assert state.dedup.began_at == int(state.dedup.began_at)
    assert math.ceil(before) <= state.dedup.began_at <= math.ceil(state.now())


async def test_began_at_never_changes(state: StateUnderTest) -> None:
    began_at = state.dedup.began_at
    await state.advance(1000)

    assert state.dedup.began_at == began_at


async def test_retransmission_with_an_idempotency_key_is_accepted_again(state: StateUnderTest) -> None:
    request = dedup_key(state, nonce="once", idempotency_key="key", signature="s")
    for _ in range(3):
        await state.dedup.consume_nonce(request)

    for other in (dedup_key(state, nonce="once", signature="s"), request._replace(signature="other")):
        with pytest.raises(NonceReplayed):
            await state.dedup.consume_nonce(other)
