"""AckStore: acknowledgements of client events, kept for repeats."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.dedup import MAX_ACK_BYTES, AckClaim
from gateway.domain.errors import ClientEventRejected
from tests.contract.states import MakeState, StateUnderTest

HELD = AckClaim(True)
CLAIM_SECONDS = 60.0
COUNTED_SECONDS = 750.0
"""An acknowledgement counts for its user for ten minutes, and until the window of time in which they end is over."""


async def claim(state: StateUnderTest, key: str, holder: str, *, user: str = "alice") -> AckClaim:
    return await state.acks.claim(key, holder, user=user, seconds=CLAIM_SECONDS)


async def rejection(state: StateUnderTest, key: str) -> ClientEventRejected:
    """Claim a key and return the error."""
    with pytest.raises(ClientEventRejected) as raised:
        await claim(state, key, "one")
    return raised.value


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
    await state.acks.keep("event", "one", '[{"text":"ö"}]', user="alice")

    assert await claim(state, "event", "two") == AckClaim(False, '[{"text":"ö"}]')


async def test_keys_are_independent(state: StateUnderTest) -> None:
    await claim(state, "event", "one")

    assert await claim(state, "other", "two") == HELD


async def test_released_claim_is_free(state: StateUnderTest) -> None:
    await claim(state, "event", "one")
    await state.acks.release("event", "one", user="alice")

    assert await claim(state, "event", "two") == HELD


async def test_claim_ends_with_its_seconds(state: StateUnderTest) -> None:
    await claim(state, "event", "one")
    await state.advance(CLAIM_SECONDS + 5)

    assert await claim(state, "event", "two") == HELD


async def test_former_holder_changes_nothing(state: StateUnderTest) -> None:
    await claim(state, "event", "one")
    await state.advance(CLAIM_SECONDS + 5)
    await claim(state, "event", "two")

    await state.acks.keep("event", "one", "[]", user="alice")
    await state.acks.release("event", "one", user="alice")

    assert await claim(state, "event", "three") == AckClaim(False)


async def test_ack_is_kept_for_ten_minutes(state: StateUnderTest) -> None:
    await claim(state, "event", "one")
    await state.acks.keep("event", "one", "[]", user="alice")
    await state.advance(590)
    kept = await claim(state, "event", "two")
    await state.advance(20)

    assert kept == AckClaim(False, "[]")
    assert await claim(state, "event", "three") == HELD


# what an event was about to change


async def test_next_holder_gets_what_the_former_one_was_about_to_change(state: StateUnderTest) -> None:
    first = await state.acks.claim("event", "one", user="alice", seconds=CLAIM_SECONDS, intent="lobby")
    renewed = await claim(state, "event", "one")
    await state.advance(CLAIM_SECONDS + 5)

    assert first == HELD
    assert renewed == AckClaim(True, intent="lobby")
    assert await claim(state, "event", "two") == AckClaim(True, intent="lobby")
    await state.acks.release("event", "two", user="alice", keeps_intent=True)
    assert await claim(state, "event", "three") == AckClaim(True, intent="lobby")
    assert await claim(state, "other", "one") == HELD


async def test_newer_intent_replaces_the_former_one(state: StateUnderTest) -> None:
    await state.acks.claim("event", "one", user="alice", seconds=CLAIM_SECONDS, intent="lobby")
    await state.acks.release("event", "one", user="alice", keeps_intent=True)
    second = await state.acks.claim("event", "two", user="alice", seconds=CLAIM_SECONDS, intent="hall")
    await state.acks.release("event", "two", user="alice", keeps_intent=True)

    assert second == AckClaim(True, intent="lobby")
    assert await claim(state, "event", "three") == AckClaim(True, intent="hall")


async def test_caller_without_the_claim_changes_no_intent(state: StateUnderTest) -> None:
    await state.acks.claim("event", "one", user="alice", seconds=CLAIM_SECONDS, intent="lobby")

    assert await state.acks.claim(
        "event", "two", user="alice", seconds=CLAIM_SECONDS, intent="hall"
    ) == AckClaim(False)
    await state.acks.release("event", "two", user="alice")
    await state.acks.release("event", "one", user="alice", keeps_intent=True)
    assert await claim(state, "event", "three") == AckClaim(True, intent="lobby")


async def test_released_claim_of_an_event_without_effect_forgets_its_intent(state: StateUnderTest) -> None:
    await state.acks.claim("event", "one", user="alice", seconds=CLAIM_SECONDS, intent="lobby")
    await state.acks.release("event", "one", user="alice")

    assert await claim(state, "event", "two") == HELD


async def test_intent_is_kept_for_ten_minutes(state: StateUnderTest) -> None:
    await state.acks.claim("event", "one", user="alice", seconds=CLAIM_SECONDS, intent="lobby")
    await state.advance(590)
    kept = await claim(state, "event", "two")
    await state.advance(20)
    await state.acks.release("event", "two", user="alice", keeps_intent=True)

    assert kept == AckClaim(True, intent="lobby")
    assert await claim(state, "event", "three") == HELD


# the bound of one user


async def test_user_at_the_bound_is_rejected_alone(make_state: MakeState) -> None:
    state = await make_state(max_user_acks=3)
    await claim(state, "claimed", "one")
    for key in ("kept", "kept too"):
        await claim(state, key, "one")
        await state.acks.keep(key, "one", "[]", user="alice")

    error = await rejection(state, "another")

    assert error.code == "busy"
    assert error.retry_after_seconds is not None
    assert 600 <= error.retry_after_seconds <= COUNTED_SECONDS
    assert await claim(state, "kept", "two") == AckClaim(False, "[]"), "a repeat takes no space"
    assert await claim(state, "claimed", "one") == HELD, "renewing takes no space"
    assert await claim(state, "of another", "one", user="bob") == HELD


async def test_user_may_claim_again_after_the_time_in_the_rejection(make_state: MakeState) -> None:
    state = await make_state(max_user_acks=2)
    await claim(state, "first", "one")
    await state.acks.keep("first", "one", "[]", user="alice")
    await state.advance(200)
    await claim(state, "second", "one")
    await state.acks.keep("second", "one", "[]", user="alice")
    wait = (await rejection(state, "third")).retry_after_seconds
    assert wait is not None
    assert wait < 600

    await state.advance(wait - 10)
    await rejection(state, "third")
    await state.advance(11)

    assert await claim(state, "third", "one") == HELD
    await rejection(state, "fourth")


async def test_concurrent_claims_of_one_user_stay_within_the_bound(make_state: MakeState) -> None:
    state = await make_state(max_user_acks=5)

    claims = await asyncio.gather(
        *(claim(state, f"event-{number}", "one") for number in range(20)), return_exceptions=True
    )

    assert [each for each in claims if not isinstance(each, Exception)] == [HELD] * 5
    assert {each.code for each in claims if isinstance(each, ClientEventRejected)} == {"busy"}


async def test_released_claims_take_no_space(make_state: MakeState) -> None:
    state = await make_state(max_user_acks=2)
    await claim(state, "held", "one")
    for number in range(10):
        assert await claim(state, f"event-{number}", "one") == HELD
        await state.acks.release(f"event-{number}", "one", user="alice")
        await state.acks.release(f"event-{number}", "one", user="alice")

    assert await claim(state, "last", "one") == HELD
    await rejection(state, "one too many")


async def test_calls_of_a_former_holder_free_no_space(make_state: MakeState) -> None:
    state = await make_state(max_user_acks=2)
    await claim(state, "event", "one")
    await state.advance(CLAIM_SECONDS + 5)
    await claim(state, "event", "two")

    await state.acks.release("event", "one", user="alice")
    await state.acks.keep("event", "one", "[]", user="alice")

    await rejection(state, "another")
    await state.advance(COUNTED_SECONDS)
    assert await claim(state, "another", "one") == HELD


async def test_bytes_of_a_user_are_bounded_exactly(make_state: MakeState) -> None:
    state = await make_state(max_user_ack_bytes=3 * MAX_ACK_BYTES)
    ack = f'["{"ä" * (MAX_ACK_BYTES // 2 - 2)}"]'
    assert len(ack.encode()) == MAX_ACK_BYTES
    for number in range(3):
        assert await claim(state, f"large-{number}", "one") == HELD
        await state.acks.keep(f"large-{number}", "one", ack, user="alice")

    assert (await rejection(state, "another")).code == "busy"


async def test_short_acks_leave_space_for_others(make_state: MakeState) -> None:
    state = await make_state(max_user_ack_bytes=2 * MAX_ACK_BYTES + 200)
    await claim(state, "claimed", "one")
    for number in range(100):
        assert await claim(state, f"short-{number}", "one") == HELD
        await state.acks.keep(f"short-{number}", "one", "[]", user="alice")

    await claim(state, "kept", "one")
    await state.acks.keep("kept", "one", f'["{"x" * MAX_ACK_BYTES}"]'[:MAX_ACK_BYTES], user="alice")
    assert (await rejection(state, "another")).code == "busy"


async def test_ack_that_is_kept_late_counts_from_then_on(make_state: MakeState) -> None:
    state = await make_state(max_user_acks=1)
    await state.acks.claim("slow", "one", user="alice", seconds=500)
    await state.advance(450)
    await state.acks.keep("slow", "one", "[]", user="alice")

    await state.advance(590)

    assert await claim(state, "slow", "two") == AckClaim(False, "[]")
    await rejection(state, "another")


async def test_intent_that_is_kept_takes_the_space_of_its_bytes(make_state: MakeState) -> None:
    state = await make_state(max_user_acks=2, max_user_ack_bytes=2 * MAX_ACK_BYTES)
    await state.acks.claim("event", "one", user="alice", seconds=CLAIM_SECONDS, intent="x" * MAX_ACK_BYTES)
    await state.acks.release("event", "one", user="alice", keeps_intent=True)

    assert await claim(state, "another", "one") == HELD
    await rejection(state, "one too many")
    await state.acks.release("another", "one", user="alice", keeps_intent=True)
    assert await claim(state, "last", "one") == HELD
