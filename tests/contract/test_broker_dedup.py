"""Broker: appending an entry with a dedup key, both or neither."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.domain.errors import BrokerUnavailable, FreshnessUnknown, IdempotencyConflict, NonceReplayed
from gateway.domain.messages import PublishResult
from gateway.domain.positions import START
from gateway.domain.traces import Trace
from tests.contract.recording_listener import listening
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import at, connection, dedup_key, disconnect_command, message, newest_position


async def test_nonce_is_consumed_by_one_entry(state: StateUnderTest) -> None:
    await state.broker.append(message("a"), dedup_key(state, nonce="once"))

    with pytest.raises(NonceReplayed):
        await state.broker.append(message("a"), dedup_key(state, nonce="once"))


async def test_nonce_belongs_to_its_key(state: StateUnderTest) -> None:
    await state.broker.append(message("a"), dedup_key(state, key_id="shop", nonce="once"))

    await state.broker.append(message("a"), dedup_key(state, key_id="mail", nonce="once"))


async def test_nonce_consumed_without_an_entry_is_consumed_for_entries_too(state: StateUnderTest) -> None:
    await state.dedup.consume_nonce(dedup_key(state, nonce="once"))

    with pytest.raises(NonceReplayed):
        await state.broker.append(message("a"), dedup_key(state, nonce="once"))


async def test_nonce_consumed_by_an_entry_is_consumed_for_everything(state: StateUnderTest) -> None:
    await state.broker.append(message("a"), dedup_key(state, nonce="once"))

    with pytest.raises(NonceReplayed):
        await state.dedup.consume_nonce(dedup_key(state, nonce="once"))


async def test_concurrent_requests_with_one_nonce_are_accepted_once(state: StateUnderTest) -> None:
    await state.broker.subscribe([at("a")])
    answers = await asyncio.gather(
        *(state.broker.append(message("a"), dedup_key(state, nonce="once")) for _ in range(20)),
        return_exceptions=True,
    )

    assert sum(isinstance(answer, PublishResult) for answer in answers) == 1
    assert sum(isinstance(answer, NonceReplayed) for answer in answers) == 19
    async with listening(state.broker) as listener:
        assert len(await listener.entries()) == 1


async def test_rejected_entry_leaves_nothing(state: StateUnderTest) -> None:
    await state.dedup.consume_nonce(dedup_key(state, nonce="once"))
    before = await state.broker.subscribe([at("user:ann")])

    with pytest.raises(NonceReplayed):
        await state.broker.append(message("user:ann"), dedup_key(state, nonce="once"))
    with pytest.raises(NonceReplayed):
        await state.broker.append(
            disconnect_command("ann", at=state.now(), revoke=True), dedup_key(state, nonce="once")
        )

    assert await newest_position(state.broker) == before
    assert (await state.revocations.read("ann")).user_revoked_at is None
    page = await state.broker.history(START, [at("user:ann")], max_entries=10, max_bytes=1000)
    assert page.entries == ()
    async with listening(state.broker) as listener:
        assert await listener.entries() == []


async def test_rejected_id_may_be_appended_later(state: StateUnderTest) -> None:
    news = message("a")
    await state.dedup.consume_nonce(dedup_key(state, nonce="once"))
    with pytest.raises(NonceReplayed):
        await state.broker.append(news, dedup_key(state, nonce="once"))

    result = await state.broker.append(news, dedup_key(state))

    assert await newest_position(state.broker) == result.position


async def test_id_appended_again_with_its_dedup_key_returns_the_first_result(
    state: StateUnderTest,
) -> None:
    news, its_dedup_key = message("a"), dedup_key(state, idempotency_key="key")
    first = await state.broker.append(news, its_dedup_key)

    assert await state.broker.append(news, its_dedup_key) == first


# --- idempotency keys ---


async def test_repeated_idempotency_key_returns_the_first_result(state: StateUnderTest) -> None:
    await state.broker.subscribe([at("a")])
    first_news = message("a")
    first = await state.broker.append(first_news, dedup_key(state, idempotency_key="key"))
    await state.presence.register(connection("s1", "ann"), ["a"])

    again = await state.broker.append(message("a"), dedup_key(state, idempotency_key="key"))

    assert not first.replayed
    assert again == first._replace(replayed=True)
    assert await newest_position(state.broker) == first.position
    async with listening(state.broker) as listener:
        assert await listener.entries() == [first_news]


async def test_repeated_idempotency_key_keeps_the_trace_of_the_first_message(
    state: StateUnderTest,
) -> None:
    await state.broker.subscribe([at("a")])
    first, second = (message("a", trace=Trace("a" * 32, number * 16, 1)) for number in "12")
    await state.broker.append(first, dedup_key(state, idempotency_key="key"))
    await state.broker.append(second, dedup_key(state, idempotency_key="key"))

    async with listening(state.broker) as listener:
        assert await listener.entries() == [first]


async def test_repeat_consumes_its_nonce(state: StateUnderTest) -> None:
    await state.broker.append(message("a"), dedup_key(state, idempotency_key="key"))
    await state.broker.append(message("a"), dedup_key(state, idempotency_key="key", nonce="once"))

    with pytest.raises(NonceReplayed):
        await state.broker.append(message("a"), dedup_key(state, idempotency_key="key", nonce="once"))


async def test_repeat_whose_answer_was_lost_is_answered_again(state: StateUnderTest) -> None:
    await state.broker.append(message("a"), dedup_key(state, idempotency_key="key"))
    repeat, its_dedup_key = message("a"), dedup_key(state, idempotency_key="key")
    answer = await state.broker.append(repeat, its_dedup_key)

    assert await state.broker.append(repeat, its_dedup_key) == answer


async def test_another_body_with_the_same_idempotency_key_is_rejected_and_consumes_nothing(
    state: StateUnderTest,
) -> None:
    first = await state.broker.append(
        message("a"), dedup_key(state, idempotency_key="key", fingerprint="one")
    )

    with pytest.raises(IdempotencyConflict):
        await state.broker.append(
            message("a"), dedup_key(state, idempotency_key="key", fingerprint="two", nonce="once")
        )

    assert await newest_position(state.broker) == first.position
    await state.dedup.consume_nonce(dedup_key(state, nonce="once"))


async def test_idempotency_key_belongs_to_its_scope(state: StateUnderTest) -> None:
    scopes = ("shop POST /emit/room", "mail POST /emit/room")

    results = [
        await state.broker.append(message("a"), dedup_key(state, idempotency_key="key", scope=scope))
        for scope in scopes
    ]

    assert [result.replayed for result in results] == [False, False]


async def test_concurrent_requests_with_one_idempotency_key_publish_once(state: StateUnderTest) -> None:
    await state.broker.subscribe([at("a")])
    results = await asyncio.gather(
        *(state.broker.append(message("a"), dedup_key(state, idempotency_key="key")) for _ in range(20))
    )

    assert sum(not result.replayed for result in results) == 1
    assert len({(result.id, result.position) for result in results}) == 1
    async with listening(state.broker) as listener:
        assert len(await listener.entries()) == 1


async def test_rejected_request_does_not_use_its_idempotency_key(state: StateUnderTest) -> None:
    await state.dedup.consume_nonce(dedup_key(state, nonce="once"))
    with pytest.raises(NonceReplayed):
        await state.broker.append(
            message("a"), dedup_key(state, nonce="once", idempotency_key="key", fingerprint="one")
        )

    result = await state.broker.append(
        message("a"), dedup_key(state, idempotency_key="key", fingerprint="two")
    )

    assert not result.replayed


async def test_idempotency_key_is_kept_for_its_time_and_no_longer(make_state: MakeState) -> None:
    state = await make_state(idempotency_seconds=3600)
    first = await state.broker.append(message("a"), dedup_key(state, idempotency_key="key"))
    await state.advance(3000)
    within = await state.broker.append(message("a"), dedup_key(state, idempotency_key="key"))
    await state.advance(700)
    after = await state.broker.append(message("a"), dedup_key(state, idempotency_key="key"))

    assert (within.id, within.replayed) == (first.id, True)
    assert not after.replayed


# --- retransmissions: the same request byte for byte, sent again below the program ---


async def test_retransmission_with_an_idempotency_key_returns_the_first_result(
    state: StateUnderTest,
) -> None:
    await state.broker.subscribe([at("a")])
    news, request = message("a"), dedup_key(state, idempotency_key="key", signature="s")
    first = await state.broker.append(news, request)

    again = [await state.broker.append(message("a"), request) for _ in range(3)]

    assert again == [first._replace(replayed=True)] * 3
    assert await newest_position(state.broker) == first.position
    async with listening(state.broker) as listener:
        assert await listener.entries() == [news]


async def test_retransmission_of_a_repeat_returns_the_first_result(state: StateUnderTest) -> None:
    first = await state.broker.append(
        message("a"), dedup_key(state, idempotency_key="key", signature="first")
    )
    repeat = dedup_key(state, idempotency_key="key", signature="repeat")
    await state.broker.append(message("a"), repeat)

    assert await state.broker.append(message("a"), repeat) == first._replace(replayed=True)


async def test_retransmission_of_a_batch_returns_the_first_results(state: StateUnderTest) -> None:
    request = dedup_key(state, idempotency_key="key", signature="s")
    first = await state.broker.append_all([message("a"), message("b")], request)

    again = await state.broker.append_all([message("a"), message("b")], request)

    assert again == tuple(result._replace(replayed=True) for result in first)


async def test_concurrent_retransmissions_publish_once(state: StateUnderTest) -> None:
    await state.broker.subscribe([at("a")])
    request = dedup_key(state, idempotency_key="key", signature="s")

    results = await asyncio.gather(*(state.broker.append(message("a"), request) for _ in range(20)))

    assert sum(not result.replayed for result in results) == 1
    async with listening(state.broker) as listener:
        assert len(await listener.entries()) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"signature": "other"},
        {"signature": "other", "fingerprint": "other"},
        {"signature": "other", "idempotency_key": "other"},
        {"signature": "other", "scope": "backend POST /emit/room"},
        {"signature": ""},
        {"idempotency_key": None},
    ],
    ids=" ".join,
)
async def test_request_with_a_used_nonce_that_is_no_retransmission_is_a_replay(
    state: StateUnderTest, other: dict[str, Any]
) -> None:
    first: dict[str, Any] = {"nonce": "once", "idempotency_key": "key", "signature": "s"}
    result = await state.broker.append(message("a"), dedup_key(state, **first))

    with pytest.raises(NonceReplayed):
        await state.broker.append(message("a"), dedup_key(state, **(first | other)))

    assert await newest_position(state.broker) == result.position


async def test_retransmission_without_an_idempotency_key_is_a_replay(state: StateUnderTest) -> None:
    request = dedup_key(state, signature="s")
    await state.broker.append(message("a"), request)

    with pytest.raises(NonceReplayed):
        await state.broker.append(message("a"), request)


async def test_retransmission_of_a_rejected_request_is_no_replay(state: StateUnderTest) -> None:
    await state.broker.append(
        message("a"), dedup_key(state, idempotency_key="key", fingerprint="one", signature="one")
    )
    rejected = dedup_key(state, idempotency_key="key", fingerprint="two", signature="two")

    for _ in range(2):
        with pytest.raises(IdempotencyConflict):
            await state.broker.append(message("a"), rejected)


async def test_retransmission_is_known_for_as_long_as_its_nonce(state: StateUnderTest) -> None:
    request = dedup_key(state, idempotency_key="key", signature="s", lives_seconds=300)
    await state.broker.append(message("a"), request)

    await state.advance(280)
    assert (await state.broker.append(message("a"), request)).replayed
    await state.advance(30)

    with pytest.raises(FreshnessUnknown):
        await state.broker.append(message("a"), request)


async def test_each_result_of_a_batch_takes_the_place_of_an_idempotency_key(make_state: MakeState) -> None:
    state = await make_state(idempotency_keys=50)
    first: list[tuple[PublishResult, ...]] = []

    async def fill() -> None:
        for number in range(50):
            key = dedup_key(state, idempotency_key=str(number))
            first.append(await state.broker.append_all([message("a") for _ in range(10)], key))

    with pytest.raises(BrokerUnavailable):
        await fill()

    assert 1 <= len(first) <= 5
    again = await state.broker.append_all([message("a")], dedup_key(state, idempotency_key="0"))
    assert again == tuple(each._replace(replayed=True) for each in first[0])
