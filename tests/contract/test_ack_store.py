"""AckStore: acknowledgements of client events, kept for repeats."""

from __future__ import annotations

import asyncio

from gateway.domain.dedup import AckClaim
from tests.contract.states import StateUnderTest

HELD = AckClaim(True)
CLAIM_SECONDS = 60.0


async def claim(state: StateUnderTest, key: str, holder: str) -> AckClaim:
    return await state.acks.claim(key, holder, seconds=CLAIM_SECONDS)


async def test_first_caller_holds_the_claim_and_others_do_not(state: StateUnderTest) -> None:
    assert await claim(state, "event", "one") == HELD
    assert await claim(state, "event", "two") == AckClaim(False)


async def test_claim_of_the_same_holder_is_idempotent(state: StateUnderTest) -> None:
    await claim(state, "event", "one")

    assert await claim(state, "event", "one") == HELD


async def test_claim_again_of_its_holder_renews_it(state: StateUnderTest) -> None:
    await claim(state, "event", "one")
    await state.advance(CLAIM_SECONDS - 20)
    await claim(state, "event", "one")
    await state.advance(CLAIM_SECONDS - 20)

    assert await claim(state, "event", "two") == AckClaim(False)


async def test_of_concurrent_callers_one_holds_the_claim(state: StateUnderTest) -> None:
    claims = await asyncio.gather(*(claim(state, "event", f"holder-{number}") for number in range(20)))

    assert sum(each.is_held for each in claims) == 1


async def test_repeat_gets_the_ack_that_was_kept(state: StateUnderTest) -> None:
    await claim(state, "event", "one")
    await state.acks.keep("event", "one", '[{"text":"ö"}]')

    assert await claim(state, "event", "two") == AckClaim(False, '[{"text":"ö"}]')


async def test_keys_are_independent(state: StateUnderTest) -> None:
    await claim(state, "event", "one")

    assert await claim(state, "other", "two") == HELD


async def test_released_claim_is_free(state: StateUnderTest) -> None:
    await claim(state, "event", "one")
    await state.acks.release("event", "one")

    assert await claim(state, "event", "two") == HELD


async def test_claim_ends_with_its_seconds(state: StateUnderTest) -> None:
    await claim(state, "event", "one")
    await state.advance(CLAIM_SECONDS + 5)

    assert await claim(state, "event", "two") == HELD


async def test_former_holder_changes_nothing(state: StateUnderTest) -> None:
    await claim(state, "event", "one")
    await state.advance(CLAIM_SECONDS + 5)
    await claim(state, "event", "two")

    await state.acks.keep("event", "one", "[]")
    await state.acks.release("event", "one")

    assert await claim(state, "event", "three") == AckClaim(False)


async def test_ack_is_kept_for_ten_minutes(state: StateUnderTest) -> None:
    await claim(state, "event", "one")
    await state.acks.keep("event", "one", "[]")
    await state.advance(590)
    kept = await claim(state, "event", "two")
    await state.advance(20)

    assert kept == AckClaim(False, "[]")
    assert await claim(state, "event", "three") == HELD
