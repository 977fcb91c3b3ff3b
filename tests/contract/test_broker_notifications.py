"""Broker: notifications accepted together with messages, all or none, each id once, within the limits of queues."""

from __future__ import annotations

import pytest

from gateway.domain.errors import IdempotencyConflict, NonceReplayed, QueueFull
from gateway.domain.messages import MAX_BATCH, Message
from gateway.domain.notifications import Notification, QueueSummary, queued_bytes
from gateway.domain.positions import START
from tests.contract.recording_listener import listening
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import at, dedup_key, message, newest_position, notification


async def queued(state: StateUnderTest, webhook: str = "app") -> list[str]:
    """Return the ids of the notifications in partition 0."""
    await state.partitions.claim(webhook, 1)
    page = await state.webhook_queues.read(webhook, 0, max_entries=100_000, max_bytes=100_000_000)
    return [each.id for each in page.notifications]


async def empty(state: StateUnderTest, webhook: str = "app") -> None:
    await state.partitions.claim(webhook, 1)
    page = await state.webhook_queues.read(webhook, 0, max_entries=100_000, max_bytes=100_000_000)
    await state.webhook_queues.remove(webhook, 0, [each.sequence for each in page.notifications])


async def summary(state: StateUnderTest, webhook: str = "app") -> QueueSummary:
    return (await state.webhook_queues.summaries([webhook]))[webhook]._replace(owners=())


async def history(state: StateUnderTest) -> list[Message]:
    page = await state.broker.history(START, [at("a")], max_entries=1000, max_bytes=10_000_000)
    return [entry for _, entry in page.entries if isinstance(entry, Message)]


def notifications(number: int, *, webhook: str = "app", data: str = "{}") -> list[Notification]:
    return [notification(webhook=webhook, data=data) for _ in range(number)]


async def test_messages_and_notifications_are_accepted_together(state: StateUnderTest) -> None:
    await state.broker.subscribe([at("a")])
    messages, given = [message("a"), message("a")], notifications(2)

    results = await state.broker.append_all(messages, notifications=given)

    assert [result.id for result in results] == [each.id for each in messages]
    assert await queued(state) == [each.id for each in given]
    async with listening(state.broker) as listener:
        assert await listener.entries() == messages


async def test_notifications_without_messages_are_accepted_and_move_no_position(
    state: StateUnderTest,
) -> None:
    before = await newest_position(state.broker)
    given = notifications(3)

    assert await state.broker.append_all([], notifications=given) == ()

    assert await newest_position(state.broker) == before
    assert await queued(state) == [each.id for each in given]


async def test_batch_of_the_greatest_length_is_accepted_and_one_more_is_rejected(
    state: StateUnderTest,
) -> None:
    messages = [message("a") for _ in range(MAX_BATCH // 2)]
    given = notifications(MAX_BATCH - len(messages))

    with pytest.raises(ValueError, match="batch"):
        await state.broker.append_all([*messages, message("a")], notifications=given)
    assert (await history(state), await queued(state)) == ([], [])

    await state.broker.append_all(messages, notifications=given)
    assert (await history(state), len(await queued(state))) == (messages, len(given))


@pytest.mark.parametrize("twice", ["notification", "message"])
async def test_batch_with_an_id_twice_is_rejected(state: StateUnderTest, twice: str) -> None:
    given, sent = notification(), message("a")
    other = given if twice == "notification" else notification()._replace(id=sent.id)

    with pytest.raises(ValueError, match="same id"):
        await state.broker.append_all([sent], notifications=[given, other])

    assert (await history(state), await queued(state)) == ([], [])


# --- ids ---


async def test_batch_appended_again_queues_nothing_and_returns_the_first_results(
    state: StateUnderTest,
) -> None:
    messages, given, key = [message("a")], notifications(2), dedup_key(state)
    first = await state.broker.append_all(messages, key, notifications=given)

    assert await state.broker.append_all(messages, notifications=given) == first
    assert await state.broker.append_all(messages, key, notifications=given) == first

    assert await queued(state) == [each.id for each in given]
    assert await history(state) == messages


async def test_notification_that_was_removed_is_not_queued_again(state: StateUnderTest) -> None:
    given = notifications(2)
    await state.broker.append_all([], notifications=given)
    await empty(state)

    await state.broker.append_all([], notifications=given)

    assert await queued(state) == []


async def test_known_id_is_left_out_and_the_rest_of_its_batch_accepted(state: StateUnderTest) -> None:
    known, new, sent = notification(), notification(), message("a")
    await state.broker.append_all([], notifications=[known])

    results = await state.broker.append_all([sent], notifications=[known, new])

    assert [result.id for result in results] == [sent.id]
    assert await queued(state) == [known.id, new.id]
    assert await history(state) == [sent]


async def test_new_notification_beside_known_messages_is_queued(state: StateUnderTest) -> None:
    sent, new = message("a"), notification()
    first = await state.broker.append(sent)

    assert await state.broker.append_all([sent], notifications=[new]) == (first,)

    assert await queued(state) == [new.id]
    assert await history(state) == [sent]


async def test_id_is_known_for_as_long_as_that_of_a_message_of_its_time(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=120, history_slack_seconds=60)
    sent, given = message("a"), notification()
    first = await state.broker.append_all([sent], notifications=[given])
    await state.advance(150)

    assert await state.broker.append_all([sent], notifications=[given]) == first

    assert await queued(state) == [given.id]


# --- all or none ---


async def test_batch_with_a_used_nonce_queues_nothing(state: StateUnderTest) -> None:
    await state.dedup.consume_nonce(dedup_key(state, nonce="once"))

    with pytest.raises(NonceReplayed):
        await state.broker.append_all(
            [message("a")], dedup_key(state, nonce="once"), notifications=notifications(2)
        )

    assert (await history(state), await queued(state)) == ([], [])


async def test_repeated_idempotency_key_queues_nothing(state: StateUnderTest) -> None:
    given = notifications(1)
    first = await state.broker.append_all(
        [message("a")], dedup_key(state, idempotency_key="key"), notifications=given
    )

    again = await state.broker.append_all(
        [message("a")], dedup_key(state, idempotency_key="key"), notifications=notifications(1)
    )
    with pytest.raises(IdempotencyConflict):
        await state.broker.append_all(
            [message("a")],
            dedup_key(state, idempotency_key="key", fingerprint="other"),
            notifications=notifications(1),
        )

    assert again == tuple(result._replace(replayed=True) for result in first)
    assert await queued(state) == [each.id for each in given]


async def test_full_queue_rejects_the_batch_and_uses_nothing_up(make_state: MakeState) -> None:
    state = await make_state(max_queued=3)
    await state.broker.append_all([], notifications=notifications(2))
    before = await newest_position(state.broker)
    sent, key = message("a"), dedup_key(state, nonce="once", idempotency_key="key")
    given = [*notifications(1, webhook="shop"), *notifications(2)]

    with pytest.raises(QueueFull) as rejection:
        await state.broker.append_all([sent], key, notifications=given)

    assert rejection.value.retry_after_seconds == 5
    assert rejection.value.code == "backend_unavailable"
    assert await newest_position(state.broker) == before
    assert await history(state) == []
    assert (await summary(state)).entries == 2
    assert (await summary(state, "shop")).entries == 0
    await empty(state)
    (result,) = await state.broker.append_all([sent], key, notifications=given)
    assert (result.id, result.replayed) == (sent.id, False)
    assert ((await summary(state)).entries, (await summary(state, "shop")).entries) == (2, 1)


async def test_queue_holds_as_many_notifications_as_it_may(make_state: MakeState) -> None:
    state = await make_state(max_queued=250)
    for number in (100, 100, 50):
        await state.broker.append_all([], notifications=notifications(number))

    with pytest.raises(QueueFull):
        await state.broker.append_all([], notifications=[notification(partition=3)])

    await state.broker.append_all([message("a")], notifications=notifications(1, webhook="shop"))
    assert (await summary(state)).entries == 250


async def test_queue_holds_as_many_bytes_as_it_may(make_state: MakeState) -> None:
    data = f'{{"text":"{"x" * 900}"}}'
    given = notifications(88, data=data)
    limit = sum([queued_bytes(each) for each in given]) - 1
    assert len(data) * len(given) <= limit
    state = await make_state(max_queued_bytes=limit)
    for each in given[:-1]:
        await state.broker.append_all([], notifications=[each])

    with pytest.raises(QueueFull):
        await state.broker.append_all([], notifications=given[-1:])

    assert (await summary(state)).bytes == limit + 1 - queued_bytes(given[-1])
    await empty(state)
    assert (await summary(state)).bytes == 0
    await state.broker.append_all([], notifications=given[-1:])


async def test_bytes_are_those_of_utf_8(state: StateUnderTest) -> None:
    first, second = notification("a", data='{"t":"aaaa"}'), notification("ä", data='{"t":"ääää"}')
    await state.broker.append_all([], notifications=[first])
    size = (await summary(state)).bytes
    await state.broker.append_all([], notifications=[second])

    longer = 5 + len(second.id) - len(first.id)
    assert (await summary(state)).bytes - size == size + longer


async def test_repeat_of_an_accepted_batch_needs_no_space(make_state: MakeState) -> None:
    state = await make_state(max_queued=2)
    sent, given = message("a"), notifications(2)
    first = await state.broker.append_all([sent], notifications=given)

    assert await state.broker.append_all([sent], notifications=given) == first
    assert await state.broker.append_all([message("a")], notifications=given) != first

    assert await queued(state) == [each.id for each in given]
