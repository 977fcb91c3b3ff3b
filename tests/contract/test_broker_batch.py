"""Broker: several messages accepted together, in order and all or none."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain import positions
from gateway.domain.errors import BrokerUnavailable, IdempotencyConflict, NonceReplayed
from gateway.domain.messages import MAX_BATCH, LogEntry, Message
from gateway.domain.positions import START, Position
from tests.contract.recording_listener import listening
from tests.contract.states import StateUnderTest
from tests.contract.values import at, connection, dedup_key, message, newest_position
from tests.support.waiter import TIMEOUT_SECONDS

ROOM = [at("a"), at("b")]


async def history(state: StateUnderTest) -> list[Message]:
    page = await state.broker.history(START, ROOM, max_entries=1000, max_bytes=10_000_000)
    return [entry for _, entry in page.entries if isinstance(entry, Message)]


async def test_messages_of_a_batch_are_delivered_and_kept_in_their_order(state: StateUnderTest) -> None:
    await state.broker.subscribe(ROOM)
    batch = [message("ab"[number % 2]) for number in range(MAX_BATCH)]

    results = await state.broker.append_all(batch)

    assert [result.id for result in results] == [each.id for each in batch]
    orders = [positions.order(result.position) for result in results]
    assert orders == sorted(set(orders))
    assert await newest_position(state.broker) == results[-1].position
    assert await history(state) == batch
    async with listening(state.broker) as listener:
        assert await listener.all_so_far() == [
            (result.position, each) for result, each in zip(results, batch, strict=True)
        ]


async def test_batches_are_whole_or_rejected_while_nothing_is_delivered(state: StateUnderTest) -> None:
    await state.broker.subscribe(ROOM)
    accepted: list[Message] = []

    for _ in range(12):
        batch = [message("a") for _ in range(MAX_BATCH)]
        try:
            await state.broker.append_all(batch)
        except BrokerUnavailable:
            break
        accepted += batch

    assert len(accepted) >= 1_000
    assert len(await history(state)) == min(len(accepted), 1_000)
    async with listening(state.broker) as listener:
        assert [entry for _, entry in await listener.first(len(accepted))] == accepted
        assert await listener.entries() == accepted


async def test_empty_batch_does_nothing(state: StateUnderTest) -> None:
    assert await state.broker.append_all([]) == ()


async def test_each_message_of_a_batch_counts_its_own_recipients(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["a"])
    await state.presence.register(connection("s2", "bob"), ["a", "b"])

    results = await state.broker.append_all([message("a"), message("b"), message("a", "b"), message("c")])

    assert [(result.connections, result.exact) for result in results] == [
        (2, True),
        (1, True),
        (3, False),
        (0, True),
    ]


async def test_volatile_message_in_a_batch_repeats_the_position_before_it(state: StateUnderTest) -> None:
    await state.broker.subscribe(ROOM)
    batch = [message("a"), message("a", volatile=True), message("b")]

    first, volatile, last = await state.broker.append_all(batch)

    assert first.position == volatile.position != last.position
    assert await history(state) == [batch[0], batch[2]]
    async with listening(state.broker) as listener:
        assert await listener.entries() == batch


async def test_large_volatile_message_in_a_batch_is_delivered_in_its_turn(state: StateUnderTest) -> None:
    await state.broker.subscribe(ROOM)
    large = message("a", arguments=(f'"{"x" * 200_000}"',), volatile=True)
    batch = [message("a"), large, message("b")]

    await state.broker.append_all(batch)

    async with listening(state.broker) as listener:
        assert await listener.entries() == batch


async def test_batch_appended_again_changes_nothing_and_returns_the_first_results(
    state: StateUnderTest,
) -> None:
    await state.broker.subscribe(ROOM)
    batch, key = [message("a"), message("b", volatile=True), message("b")], dedup_key(state)
    first = await state.broker.append_all(batch, key)
    await state.presence.register(connection("s1", "ann"), ["a"])

    assert await state.broker.append_all(batch) == first
    assert await state.broker.append_all(batch, key) == first

    assert await newest_position(state.broker) == first[-1].position
    async with listening(state.broker) as listener:
        assert await listener.entries() == batch


async def test_message_that_was_appended_before_is_not_appended_with_its_batch(state: StateUnderTest) -> None:
    await state.broker.subscribe(ROOM)
    known, before, after = message("a"), message("b"), message("b")
    first = await state.broker.append(known)

    results = await state.broker.append_all([before, known, after])

    assert results[1] == first
    assert [result.id for result in results] == [before.id, known.id, after.id]
    async with listening(state.broker) as listener:
        assert await listener.entries() == [known, before, after]


async def test_message_of_a_batch_is_known_to_a_single_append(state: StateUnderTest) -> None:
    batch = [message("a"), message("b")]
    results = await state.broker.append_all(batch)

    assert await state.broker.append(batch[1]) == results[1]


async def test_batch_with_a_used_nonce_leaves_nothing(state: StateUnderTest) -> None:
    await state.broker.subscribe(ROOM)
    await state.dedup.consume_nonce(dedup_key(state, nonce="once"))
    before = await newest_position(state.broker)
    batch = [message("a"), message("b")]

    with pytest.raises(NonceReplayed):
        await state.broker.append_all(batch, dedup_key(state, nonce="once"))

    assert await newest_position(state.broker) == before
    assert await history(state) == []
    async with listening(state.broker) as listener:
        assert await listener.entries() == []


async def test_repeated_idempotency_key_returns_the_results_of_the_first_batch(state: StateUnderTest) -> None:
    await state.broker.subscribe(ROOM)
    batch = [message("a"), message("b"), message("a", "b")]
    first = await state.broker.append_all(batch, dedup_key(state, idempotency_key="key"))
    repeat = [message("a"), message("b"), message("a", "b")]

    again = await state.broker.append_all(repeat, dedup_key(state, idempotency_key="key"))

    assert again == tuple(result._replace(replayed=True) for result in first)
    assert await state.broker.append_all(repeat) == again
    async with listening(state.broker) as listener:
        assert await listener.entries() == batch


async def test_batch_with_another_body_under_a_used_idempotency_key_leaves_nothing(
    state: StateUnderTest,
) -> None:
    first = await state.broker.append_all(
        [message("a"), message("b")], dedup_key(state, idempotency_key="key", fingerprint="one")
    )

    with pytest.raises(IdempotencyConflict):
        await state.broker.append_all(
            [message("a"), message("b")],
            dedup_key(state, idempotency_key="key", fingerprint="two", nonce="once"),
        )

    assert await newest_position(state.broker) == first[-1].position
    await state.dedup.consume_nonce(dedup_key(state, nonce="once"))


@pytest.mark.parametrize("problem", ["too many", "an id twice"])
async def test_batch_that_cannot_be_accepted_together_is_rejected(
    state: StateUnderTest, problem: str
) -> None:
    batch = [message("a") for _ in range(MAX_BATCH + 1)]
    if problem == "an id twice":
        batch = [batch[0], batch[1], batch[0]]

    with pytest.raises(ValueError, match="batch"):
        await state.broker.append_all(batch)

    assert await history(state) == []


async def test_frames_of_a_batch_may_be_sent_together_and_none_is_left_waiting(state: StateUnderTest) -> None:
    await state.broker.subscribe(ROOM)
    batches = [
        [message("a"), message("b", volatile=True), message("a", "b")] + [message("a") for _ in range(20)],
        [message("b"), message("other")],
        [message("a", arguments=(f'"{"x" * 200_000}"',)), message("b"), message("other")],
    ]
    received: list[LogEntry] = []
    waiting, together = 0, 0
    sent = asyncio.Event()

    async def flush() -> None:
        nonlocal waiting
        waiting = 0
        sent.set()

    async def deliver(entry: LogEntry, _position: Position, *, more: bool) -> None:
        nonlocal waiting, together
        received.append(entry)
        together += more
        waiting = waiting + 1 if more else 0
        sent.set()

    listener = asyncio.create_task(state.broker.listen(deliver, flush))
    wanted: list[LogEntry] = []
    for batch in batches:
        await state.broker.append_all(batch)
        wanted += [each for each in batch if each.rooms != ("other",)]
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while received != wanted or waiting:
                await sent.wait()
                sent.clear()
    listener.cancel()

    assert together > 0
