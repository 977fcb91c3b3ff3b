"""WebhookQueues: notifications in order for each partition, their failures, and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from gateway.domain.errors import QueueFull
from gateway.domain.notifications import (
    DEAD_LETTER_SECONDS,
    DeadReason,
    HeadFailures,
    Notification,
    PartitionLost,
    QueuedNotification,
    QueuePage,
    QueueSummary,
    partition_of,
)
from tests.contract.recording_listener import listening
from tests.contract.states import REPLICA, MakeState, StateUnderTest
from tests.contract.values import notification

PARTITIONS = 4
CLOCKS_AGREE_WITHIN_SECONDS = 5.0


async def claimed(state: StateUnderTest, *webhooks: str) -> StateUnderTest:
    """Return the state after this replica took all partitions of the webhooks; of ``app`` without any."""
    for webhook in webhooks or ("app",):
        claim = await state.partitions.claim(webhook, PARTITIONS)
        assert claim.owned == frozenset(range(PARTITIONS))
    return state


async def queue(state: StateUnderTest, *notifications: Notification) -> list[QueuedNotification]:
    """Append notifications; return those of partition 0 of ``app`` as they are queued."""
    await state.broker.append_all([], notifications=notifications)
    return await queued(state)


async def queued(
    state: StateUnderTest, partition: int = 0, *, webhook: str = "app"
) -> list[QueuedNotification]:
    page = await state.webhook_queues.read(webhook, partition, max_entries=1_000, max_bytes=10_000_000)
    return list(page.notifications)


async def bury(state: StateUnderTest, *notifications: QueuedNotification, status: int | None = 400) -> None:
    await state.webhook_queues.bury(
        "app", 0, [each.sequence for each in notifications], reason=DeadReason.REJECTED, status=status
    )


async def dead_ids(state: StateUnderTest, *, after: str | None = None, limit: int = 10_000) -> list[str]:
    return [each.id for each in await state.webhook_queues.dead_letters("app", after=after, limit=limit)]


def ids(notifications: Sequence[Notification | QueuedNotification]) -> list[str]:
    return [each.id for each in notifications]


# --- what is queued ---


async def test_notification_is_read_as_it_was_appended(state: StateUnderTest) -> None:
    await claimed(state)
    given = notification("änn", type_="room.join", happened_at=1_700_000_000.123, data='{"room":"käse"}')

    (got,) = await queue(state, given)

    assert (got.id, got.user, got.type, got.data) == (given.id, given.user, given.type, given.data)
    assert got.at == pytest.approx(given.at, abs=0.001)
    assert got.size >= len(given.data.encode())


async def test_notifications_of_a_partition_are_read_in_the_order_of_acceptance(
    state: StateUnderTest,
) -> None:
    await claimed(state)
    given = [notification(user) for user in ("ann", "bob", "ann", "cid")]
    for each in given[:2]:
        await queue(state, each)

    got = await queue(state, *given[2:])

    assert ids(got) == ids(given)
    sequences = [each.sequence for each in got]
    assert sequences == sorted(set(sequences))


async def test_partitions_and_webhooks_have_queues_of_their_own(state: StateUnderTest) -> None:
    await claimed(state, "app", "shop")
    here, beside, other = notification(), notification(partition=3), notification(webhook="shop")

    await queue(state, here, beside, other)

    assert ids(await queued(state)) == [here.id]
    assert ids(await queued(state, 3)) == [beside.id]
    assert ids(await queued(state, webhook="shop")) == [other.id]
    assert await queued(state, 1) == []


async def test_sequence_is_the_time_of_acceptance_in_microseconds_or_later(state: StateUnderTest) -> None:
    await claimed(state)

    (got,) = await queue(state, notification(happened_at=1.0))

    assert got.sequence / 1_000_000 == pytest.approx(state.now(), abs=CLOCKS_AGREE_WITHIN_SECONDS)
    assert got.sequence < 2**53


async def test_sequence_rises_although_the_clock_goes_back_and_the_queue_was_empty(
    state: StateUnderTest,
) -> None:
    await claimed(state)
    (first,) = await queue(state, notification())
    await state.webhook_queues.remove("app", 0, [first.sequence])

    await state.set_clock_back(600)
    (second,) = await queue(state, notification())
    await bury(state, second)
    (third,) = await queue(state, notification())

    assert first.sequence < second.sequence < third.sequence


# --- reading ---


async def test_sequence_of_a_partition_without_any_is_above_all_others_although_the_clock_goes_back(
    state: StateUnderTest,
) -> None:
    await claimed(state)
    await queue(state, *[notification(f"n{number}") for number in range(3)])
    (*_, last) = await queued(state)
    await state.set_clock_back(3600)

    await queue(state, notification("later", partition=1))

    (later,) = await queued(state, 1)
    assert later.sequence > last.sequence


async def test_page_has_no_more_than_its_entries_and_bytes_but_one_notification(
    state: StateUnderTest,
) -> None:
    await claimed(state)
    got = await queue(state, *[notification(data=f'{{"text":"{"x" * 1_000}"}}') for _ in range(5)])

    async def read(max_entries: int, max_bytes: int) -> list[QueuedNotification]:
        page = await state.webhook_queues.read("app", 0, max_entries=max_entries, max_bytes=max_bytes)
        return list(page.notifications)

    assert await read(2, 1_000_000) == got[:2]
    assert await read(5, 1_000_000) == got
    assert await read(5, got[0].size + got[1].size) == got[:2]
    assert await read(5, got[0].size + got[1].size - 1) == got[:1]
    assert await read(5, 1) == got[:1]


async def test_reading_changes_nothing(state: StateUnderTest) -> None:
    await claimed(state)

    first = await queue(state, notification(), notification())

    assert await queued(state) == first


# --- waiting ---


async def test_wait_ends_when_a_notification_is_put_into_the_partition(state: StateUnderTest) -> None:
    await claimed(state)
    assert await queued(state) == []
    waiting = asyncio.create_task(state.webhook_queues.wait("app", 0))
    await asyncio.sleep(0)

    async with listening(state.broker):
        await state.broker.append_all([], notifications=[notification()])

        await asyncio.wait_for(waiting, 5)


async def test_wait_ends_when_a_notification_was_put_after_the_last_read(state: StateUnderTest) -> None:
    await claimed(state)
    assert await queued(state) == []
    async with listening(state.broker):
        await state.broker.append_all([], notifications=[notification()])

        await asyncio.wait_for(state.webhook_queues.wait("app", 0), 5)


async def test_wait_ends_when_a_dead_letter_is_replayed(state: StateUnderTest) -> None:
    await claimed(state)
    partition = partition_of("ann", PARTITIONS)
    letter = notification()
    await bury(state, *await queue(state, letter))
    assert await queued(state, partition) == []
    waiting = asyncio.create_task(state.webhook_queues.wait("app", partition))
    await asyncio.sleep(0)

    async with listening(state.broker):
        await state.webhook_queues.replay("app", [letter.id], partitions=PARTITIONS)

        await asyncio.wait_for(waiting, 5)


async def test_wait_for_an_empty_partition_can_be_cancelled(state: StateUnderTest) -> None:
    await claimed(state)
    assert await queued(state) == []
    waiting = asyncio.create_task(state.webhook_queues.wait("app", 0))
    await asyncio.sleep(0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


# --- removing ---


async def test_removed_notifications_are_read_no_more(state: StateUnderTest) -> None:
    await claimed(state)
    got = await queue(state, *[notification() for _ in range(4)])

    await state.webhook_queues.remove("app", 0, [got[0].sequence, got[2].sequence])

    assert await queued(state) == [got[1], got[3]]


async def test_removing_what_is_gone_changes_nothing(state: StateUnderTest) -> None:
    await claimed(state)
    got = await queue(state, notification(), notification())
    await state.webhook_queues.remove("app", 0, [got[0].sequence])

    await state.webhook_queues.remove("app", 0, [got[0].sequence, 1])
    await state.webhook_queues.remove("app", 1, [got[1].sequence])

    assert await queued(state) == got[1:]
    assert (await state.webhook_queues.summaries(["app"]))["app"].entries == 1


# --- failures ---


async def fail(state: StateUnderTest, sequence: int, *, status: int | None = 500) -> HeadFailures:
    retry_at = state.now() + 5
    return await state.webhook_queues.record_failure("app", 0, sequence, retry_at=retry_at, status=status)


async def test_failures_of_the_first_notification_are_counted_and_read_with_it(state: StateUnderTest) -> None:
    await claimed(state)
    got = await queue(state, notification(), notification())
    assert (await state.webhook_queues.read("app", 0, max_entries=1, max_bytes=1)).failures is None
    await fail(state, got[0].sequence)

    second = await fail(state, got[0].sequence, status=None)

    assert (second.sequence, second.failures, second.status) == (got[0].sequence, 2, None)
    assert second.retry_at == pytest.approx(state.now() + 5, abs=CLOCKS_AGREE_WITHIN_SECONDS)
    page = await state.webhook_queues.read("app", 0, max_entries=10, max_bytes=10_000)
    assert page.failures is not None
    assert page.failures._replace(retry_at=0.0) == second._replace(retry_at=0.0)
    assert page.failures.retry_at == pytest.approx(second.retry_at, abs=0.001)


async def test_next_owner_gets_the_failures(state: StateUnderTest) -> None:
    await claimed(state)
    (got,) = await queue(state, notification())
    await fail(state, got.sequence)
    await state.partitions.leave("app")

    await claimed(state)

    page = await state.webhook_queues.read("app", 0, max_entries=1, max_bytes=1)
    assert page.failures is not None
    assert (page.failures.failures, page.failures.status) == (1, 500)
    assert (await fail(state, got.sequence)).failures == 2


@pytest.mark.parametrize("how", ["remove", "bury"])
async def test_failures_end_with_their_notification(state: StateUnderTest, how: str) -> None:
    await claimed(state)
    got = await queue(state, notification(), notification())
    await fail(state, got[0].sequence)

    if how == "remove":
        await state.webhook_queues.remove("app", 0, [got[0].sequence])
    else:
        await bury(state, got[0])

    page = await state.webhook_queues.read("app", 0, max_entries=1, max_bytes=1)
    assert page == QueuePage((got[1],))
    assert (await fail(state, got[1].sequence)).failures == 1


async def test_failures_stay_when_a_later_notification_is_removed(state: StateUnderTest) -> None:
    await claimed(state)
    got = await queue(state, notification(), notification())
    await fail(state, got[0].sequence)

    await state.webhook_queues.remove("app", 0, [got[1].sequence])

    assert (await fail(state, got[0].sequence)).failures == 2


async def test_failure_of_a_notification_that_is_not_the_first_changes_nothing(state: StateUnderTest) -> None:
    await claimed(state)
    got = await queue(state, notification(), notification())
    await fail(state, got[0].sequence)

    assert (await fail(state, got[1].sequence)).failures == 0

    assert (await fail(state, got[0].sequence)).failures == 2


async def test_failures_between_which_the_webhook_accepted_others_are_counted(state: StateUnderTest) -> None:
    await claimed(state)
    (bad,) = await queue(state, notification())
    await queue(state, *[notification(partition=1) for _ in range(3)])
    beside = [each.sequence for each in await queued(state, 1)]

    counts = [(await fail(state, bad.sequence)).beside_success]
    await state.webhook_queues.remove("app", 1, beside[:2])
    counts.append((await fail(state, bad.sequence)).beside_success)
    counts.append((await fail(state, bad.sequence)).beside_success)
    await state.webhook_queues.remove("app", 1, beside)
    counts.append((await fail(state, bad.sequence)).beside_success)

    assert counts == [0, 1, 1, 2]


async def test_buried_notifications_and_other_webhooks_are_no_success(state: StateUnderTest) -> None:
    await claimed(state, "app", "shop")
    (bad, worse) = await queue(state, notification(), notification())
    await queue(state, notification(webhook="shop"))
    await fail(state, bad.sequence)

    await bury(state, worse)
    (other,) = await queued(state, webhook="shop")
    await state.webhook_queues.remove("shop", 0, [other.sequence])

    assert (await fail(state, bad.sequence)).beside_success == 0


# --- dead letters ---


async def test_buried_notification_is_a_dead_letter_and_queued_no_more(state: StateUnderTest) -> None:
    await claimed(state)
    given = [notification("änn", data='{"a":"ä"}'), notification()]
    got = await queue(state, *given)

    await state.webhook_queues.bury("app", 0, [got[0].sequence], reason=DeadReason.FAILED, status=503)

    assert await queued(state) == got[1:]
    (letter,) = await state.webhook_queues.dead_letters("app", limit=10)
    assert (letter.id, letter.user, letter.type, letter.data) == (
        given[0].id, given[0].user, given[0].type, given[0].data,
    )  # fmt: skip
    assert letter.at == pytest.approx(given[0].at, abs=0.001)
    assert (letter.reason, letter.status) == (DeadReason.FAILED, 503)
    assert letter.dead_at == pytest.approx(state.now(), abs=CLOCKS_AGREE_WITHIN_SECONDS)


@pytest.mark.parametrize("reason", list(DeadReason))
async def test_dead_letter_without_an_answer_has_no_status(state: StateUnderTest, reason: DeadReason) -> None:
    await claimed(state)
    (got,) = await queue(state, notification())

    await state.webhook_queues.bury("app", 0, [got.sequence], reason=reason, status=None)

    (letter,) = await state.webhook_queues.dead_letters("app", limit=10)
    assert (letter.reason, letter.status) == (reason, None)


async def test_burying_what_is_gone_changes_nothing(state: StateUnderTest) -> None:
    await claimed(state)
    first, second = await queue(state, notification(), notification())
    await state.webhook_queues.remove("app", 0, [first.sequence])

    await bury(state, first)

    assert await dead_ids(state) == []
    assert await queued(state) == [second]


async def test_dead_letters_are_read_in_pages_oldest_first(state: StateUnderTest) -> None:
    await claimed(state)
    got = await queue(state, *[notification() for _ in range(5)])
    await bury(state, got[2])
    await bury(state, got[0], got[1])
    await bury(state, got[3], got[4])
    order = ids([got[2], got[0], got[1], got[3], got[4]])

    assert await dead_ids(state) == order
    assert await dead_ids(state, limit=2) == order[:2]
    assert await dead_ids(state, after=order[1], limit=2) == order[2:4]
    assert await dead_ids(state, after=order[4]) == []


async def test_there_is_no_dead_letter_after_an_unknown_id_or_of_an_unknown_webhook(
    state: StateUnderTest,
) -> None:
    await claimed(state)
    await bury(state, *await queue(state, notification()))

    assert await dead_ids(state, after="unknown") == []
    assert list(await state.webhook_queues.dead_letters("unknown", limit=10)) == []


async def test_newest_dead_letters_are_kept(make_state: MakeState) -> None:
    state = await claimed(await make_state(max_dead_letters=3))
    got = await queue(state, *[notification() for _ in range(6)])

    await bury(state, got[0])
    await bury(state, *got[1:4])
    await bury(state, got[4])

    assert await dead_ids(state) == ids(got[2:5])
    assert await dead_ids(state, after=got[0].id) == []
    assert (await state.webhook_queues.summaries(["app"]))["app"].dead_letters == 3


async def test_dead_letters_take_no_more_than_their_bytes(make_state: MakeState) -> None:
    state = await claimed(await make_state(max_dead_letter_bytes=10_000))
    got = await queue(state, *[notification(data=f'{{"text":"{"x" * 2_000}"}}') for _ in range(8)])
    kept = 10_000 // got[0].size
    assert 2 <= kept <= 4

    for each in got:
        await bury(state, each)

    assert await dead_ids(state) == ids(got[-kept:])


async def test_space_of_dropped_dead_letters_is_free_again(make_state: MakeState) -> None:
    state = await claimed(await make_state(max_dead_letter_bytes=10_000))
    got = await queue(state, *[notification(data=f'{{"text":"{"x" * 2_000}"}}') for _ in range(8)])
    kept = 10_000 // got[0].size
    for number, each in enumerate(got):
        await bury(state, each)
        if number >= kept - 1:
            await state.webhook_queues.drop("app", await dead_ids(state, limit=1))

    assert await dead_ids(state) == ids(got[1 - kept :])


async def test_dead_letter_is_kept_for_its_time_and_no_longer(state: StateUnderTest) -> None:
    await claimed(state)
    first, second = await queue(state, notification(), notification())
    await bury(state, first)
    await state.advance(DEAD_LETTER_SECONDS / 2)
    await claimed(state)
    await bury(state, second)
    assert await dead_ids(state) == [first.id, second.id]

    await state.advance(DEAD_LETTER_SECONDS / 2 + 100)

    assert await dead_ids(state) == [second.id]
    assert await state.webhook_queues.replay("app", [first.id], partitions=PARTITIONS) == 0
    assert await state.webhook_queues.drop("app", [first.id]) == 0
    assert (await state.webhook_queues.summaries(["app"]))["app"].dead_letters == 1


# --- replaying and dropping ---


async def test_replayed_dead_letters_are_at_the_end_of_their_queue_with_their_ids(
    state: StateUnderTest,
) -> None:
    await claimed(state)
    partition = partition_of("ann", PARTITIONS)
    given = [notification(partition=partition, data=f'{{"n":{number}}}') for number in range(4)]
    await queue(state, *given)
    got = await queued(state, partition)
    for each in got[:3]:
        await state.webhook_queues.bury(
            "app", partition, [each.sequence], reason=DeadReason.EXPIRED, status=None
        )

    replayed = await state.webhook_queues.replay(
        "app", [given[2].id, given[0].id, given[2].id], partitions=PARTITIONS
    )

    assert replayed == 2
    now = await queued(state, partition)
    assert ids(now) == ids([given[3], given[0], given[2]])
    assert [each.data for each in now[1:]] == [given[0].data, given[2].data]
    assert now[1].at == pytest.approx(given[0].at, abs=0.001)
    assert got[3].sequence < now[1].sequence < now[2].sequence
    assert await dead_ids(state) == [given[1].id]


async def test_dead_letter_is_replayed_into_the_partition_that_its_user_has_now(
    state: StateUnderTest,
) -> None:
    await claimed(state)
    users = [f"user-{number}" for number in range(20)]
    got = await queue(state, *[notification(user) for user in users])
    await bury(state, *got)

    assert await state.webhook_queues.replay("app", ids(got), partitions=PARTITIONS) == 20

    for partition in range(PARTITIONS):
        assert [each.user for each in await queued(state, partition)] == [
            user for user in users if partition_of(user, PARTITIONS) == partition
        ]


async def test_replayed_notification_may_be_buried_again(state: StateUnderTest) -> None:
    await claimed(state)
    partition = partition_of("ann", PARTITIONS)
    letter = notification()
    await bury(state, *await queue(state, letter))
    await state.webhook_queues.replay("app", [letter.id], partitions=PARTITIONS)
    (again,) = await queued(state, partition)

    await state.webhook_queues.bury("app", partition, [again.sequence], reason=DeadReason.FAILED, status=500)

    (dead,) = await state.webhook_queues.dead_letters("app", limit=10)
    assert (dead.id, dead.reason, dead.status) == (letter.id, DeadReason.FAILED, 500)


async def test_replaying_and_dropping_unknown_ids_changes_nothing(state: StateUnderTest) -> None:
    await claimed(state)
    got = await queue(state, notification(), notification())
    await bury(state, got[0])

    assert await state.webhook_queues.replay("app", ["unknown", got[1].id], partitions=PARTITIONS) == 0
    assert await state.webhook_queues.drop("app", ["unknown", got[1].id]) == 0
    assert await state.webhook_queues.replay("unknown", [got[0].id], partitions=PARTITIONS) == 0
    assert await state.webhook_queues.drop("unknown", [got[0].id]) == 0
    assert await state.webhook_queues.replay("app", [], partitions=PARTITIONS) == 0

    assert await dead_ids(state) == [got[0].id]
    assert await queued(state) == got[1:]


async def test_replay_into_a_full_queue_is_rejected_and_changes_nothing(make_state: MakeState) -> None:
    state = await claimed(await make_state(max_queued=3))
    dead = await queue(state, *[notification() for _ in range(3)])
    await bury(state, *dead)
    held = await queue(state, notification(), notification())

    with pytest.raises(QueueFull):
        await state.webhook_queues.replay("app", ids(dead), partitions=PARTITIONS)

    assert await dead_ids(state) == ids(dead)
    assert (await state.webhook_queues.summaries(["app"]))["app"].entries == 2
    await state.webhook_queues.remove("app", 0, [held[0].sequence])
    assert await state.webhook_queues.replay("app", ids(dead[:2]), partitions=PARTITIONS) == 2


async def test_dropped_dead_letters_are_gone(state: StateUnderTest) -> None:
    await claimed(state)
    got = await queue(state, *[notification() for _ in range(3)])
    await bury(state, *got)

    assert await state.webhook_queues.drop("app", [got[0].id, got[2].id, got[0].id]) == 2

    assert await dead_ids(state) == [got[1].id]
    assert await state.webhook_queues.replay("app", [got[0].id], partitions=PARTITIONS) == 0


# --- ownership ---

LOST: dict[str, Callable[[StateUnderTest, int], Awaitable[object]]] = {
    "read": lambda state, _: state.webhook_queues.read("app", 0, max_entries=1, max_bytes=1),
    "remove": lambda state, sequence: state.webhook_queues.remove("app", 0, [sequence]),
    "record_failure": lambda state, sequence: state.webhook_queues.record_failure(
        "app", 0, sequence, retry_at=0.0, status=None
    ),
    "bury": lambda state, sequence: state.webhook_queues.bury(
        "app", 0, [sequence], reason=DeadReason.FAILED, status=None
    ),
}


@pytest.mark.parametrize("method", LOST)
@pytest.mark.parametrize("how", ["never claimed", "released", "left"])
async def test_partition_of_no_owner_is_neither_read_nor_changed(
    state: StateUnderTest, method: str, how: str
) -> None:
    sequence = 1
    if how != "never claimed":
        await claimed(state)
        (got,) = await queue(state, notification())
        sequence = got.sequence
    else:
        await state.broker.append_all([], notifications=[notification()])
    if how == "released":
        await state.partitions.release("app", [0])
    if how == "left":
        await state.partitions.leave("app")

    with pytest.raises(PartitionLost):
        await LOST[method](state, sequence)

    await claimed(state)
    page = await state.webhook_queues.read("app", 0, max_entries=10, max_bytes=10_000)
    assert (len(page.notifications), page.failures) == (1, None)
    assert await dead_ids(state) == []


# --- summaries ---


async def test_summary_is_what_the_queue_holds(state: StateUnderTest) -> None:
    await claimed(state, "app", "shop")
    await state.partitions.release("app", [1, 3])
    await queue(
        state,
        notification(happened_at=1_700_000_002.0),
        notification(happened_at=1_700_000_003.0),
        notification(partition=2, happened_at=1_700_000_001.5),
    )
    got = [*await queued(state), *await queued(state, 2)]
    await queue(state, notification(happened_at=1_700_000_004.0))
    last = (await queued(state))[-1]
    await bury(state, last)

    found = await state.webhook_queues.summaries(["app", "shop", "unknown"])

    everywhere = tuple((partition, REPLICA) for partition in range(PARTITIONS))
    size = sum(each.size for each in got)
    app = found["app"]
    assert app.oldest_at == pytest.approx(1_700_000_001.5, abs=0.001)
    assert app == QueueSummary(3, size, app.oldest_at, 1, everywhere[::2])
    assert (found["shop"], found["unknown"]) == (QueueSummary(owners=everywhere), QueueSummary())
    await state.webhook_queues.remove("app", 0, [each.sequence for each in got])
    await state.webhook_queues.remove("app", 2, [each.sequence for each in got])
    await state.webhook_queues.drop("app", [last.id])
    assert (await state.webhook_queues.summaries(["app"]))["app"] == QueueSummary(owners=everywhere[::2])
