"""What the memory state keeps of queues and of the presence of users has a bound and an end."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.errors import QueueFull
from gateway.domain.messages import MAX_BATCH
from gateway.domain.notifications import (
    DEAD_LETTER_SECONDS,
    PRESENCE_PARTITIONS,
    QUEUE_SECONDS,
    DeadReason,
    queued_bytes,
)
from gateway.domain.presence import PresenceConsumer, PresenceRules
from gateway.state.memory import MemoryState
from gateway.state.memory.queues import MAX_WEBHOOKS
from tests.contract.values import connection, message, notification
from tests.unit.memory_state.steps import result_of

ALL = range(PRESENCE_PARTITIONS)
WEBHOOK = PresenceConsumer.WEBHOOK
RULES = PresenceRules(10.0, frozenset({WEBHOOK}))


async def bury_all(state: MemoryState, webhook: str = "app") -> None:
    await state.partitions.claim(webhook, 1)
    page = await state.webhook_queues.read(webhook, 0, max_entries=1_000, max_bytes=1_000_000)
    sequences = [each.sequence for each in page.notifications]
    await state.webhook_queues.bury(webhook, 0, sequences, reason=DeadReason.FAILED, status=None)


# --- queues ---


async def test_queue_that_got_nothing_for_its_time_is_removed_with_its_dead_letters(
    make_memory, clock
) -> None:
    state = make_memory()
    await state.broker.append_all([], notifications=[notification(), notification()])
    await bury_all(state)
    await state.broker.append_all([], notifications=[notification()])
    clock.advance(QUEUE_SECONDS - 1)
    assert (await state.webhook_queues.summaries(["app"]))["app"].entries == 1

    clock.advance(2)
    await state.broker.append_all([], notifications=[notification(webhook="shop")])

    assert (await state.webhook_queues.summaries(["app"]))["app"].entries == 0
    assert (state.sizes()["queued_notifications"], state.sizes()["dead_letters"]) == (1, 0)


async def test_dead_letters_of_an_idle_queue_live_for_their_whole_time(make_memory, clock) -> None:
    state = make_memory()
    await state.broker.append_all([], notifications=[notification()])
    clock.advance(QUEUE_SECONDS - 1)
    await bury_all(state)

    clock.advance(DEAD_LETTER_SECONDS - 1)

    assert len(await state.webhook_queues.dead_letters("app", limit=10)) == 1
    clock.advance(2)
    assert list(await state.webhook_queues.dead_letters("app", limit=10)) == []


async def test_webhooks_beyond_their_number_get_no_queue_until_another_one_expires(
    make_memory, clock
) -> None:
    state = make_memory()
    for first in range(0, MAX_WEBHOOKS, MAX_BATCH):
        names = [f"webhook-{number}" for number in range(first, first + MAX_BATCH)]
        await state.broker.append_all([], notifications=[notification(webhook=name) for name in names])

    with pytest.raises(QueueFull):
        await state.broker.append_all([message("a")], notifications=[notification(webhook="new")])

    await state.broker.append_all([], notifications=[notification(webhook="webhook-7")])
    assert state.sizes()["queued_notifications"] == MAX_WEBHOOKS + 1
    clock.advance(QUEUE_SECONDS + 1)
    await state.broker.append_all([message("a")], notifications=[notification(webhook="new")])


async def test_ids_of_notifications_are_bounded_and_take_no_space_from_those_of_messages(
    make_memory, clock
) -> None:
    state = make_memory(history_length=1_000)
    sent = message("a")
    first = await state.broker.append(sent)
    for _ in range(30):
        given = [notification() for _ in range(MAX_BATCH)]
        await state.broker.append_all([], notifications=given)

    assert state.sizes()["notification_ids"] == 1_000
    assert await state.broker.append(sent) == first
    clock.advance(1_000)
    for _ in range(100):
        await state.broker.append_all([], notifications=[notification()])
    assert state.sizes()["notification_ids"] == 100


async def test_dead_letter_with_an_id_that_was_forgotten_and_came_again_is_kept_once(
    make_memory, clock
) -> None:
    given = notification()
    state = make_memory(max_dead_letter_bytes=2 * queued_bytes(given))
    for _ in range(3):
        await state.broker.append_all([], notifications=[given])
        await bury_all(state)
        clock.advance(1_000)
    other = notification()
    await state.broker.append_all([], notifications=[other])
    await bury_all(state)

    letters = await state.webhook_queues.dead_letters("app", limit=10)

    assert [letter.id for letter in letters] == [given.id, other.id]


async def test_many_waits_end_and_leave_nothing(make_memory) -> None:
    state = make_memory()
    await state.partitions.claim("app", 1)
    waits = [asyncio.create_task(state.webhook_queues.wait("app", 0)) for _ in range(3)]
    await asyncio.sleep(0)
    waits[0].cancel()

    await state.broker.append_all([], notifications=[notification()])
    await asyncio.wait(waits, timeout=5)

    assert [wait.cancelled() for wait in waits] == [True, False, False]
    assert state.webhook_queues.waits == 0


# --- presence ---


async def come_and_go(state: MemoryState, clock, *users: str) -> None:
    for user in users:
        await state.presence.register(connection(f"~{user}", user), ["a"])
    await state.presence_events.undelivered(WEBHOOK, ALL, limit=1_000)
    for user in users:
        await state.presence.unregister(f"~{user}")
    clock.advance(11)
    await state.presence_events.sweep(ALL, limit=1_000)


async def undelivered(state: MemoryState) -> list[str]:
    changes = await state.presence_events.undelivered(WEBHOOK, ALL, limit=1_000)
    return [change.user for change in changes]


async def test_oldest_undelivered_offline_state_is_removed_beyond_the_limit(make_memory, clock) -> None:
    state = make_memory(max_offline_states=3)
    state.presence_events.configure(RULES)
    await state.presence.register(connection("~ann", "ann"), [])
    await come_and_go(state, clock, "bob")
    await come_and_go(state, clock, "cid", "dan", "eve")

    assert sorted(await undelivered(state)) == ["ann", "cid", "dan", "eve"]
    assert (await state.presence_events.undelivered_counts())[WEBHOOK][0] == 4
    assert state.sizes()["presence_states"] == 4


async def test_undelivered_offline_state_ends_and_the_next_one_removes_it(make_memory, clock) -> None:
    state = make_memory()
    state.presence_events.configure(RULES)
    await come_and_go(state, clock, "ann")
    clock.advance(QUEUE_SECONDS + 1)
    assert await undelivered(state) == []

    await come_and_go(state, clock, "bob")

    assert await undelivered(state) == ["bob"]
    assert state.sizes()["presence_states"] == 1
    assert (await state.presence_events.undelivered_counts())[WEBHOOK][0] == 1


async def test_user_whose_offline_state_has_ended_is_online_as_a_new_one(make_memory, clock) -> None:
    state = make_memory()
    state.presence_events.configure(RULES)
    await come_and_go(state, clock, "ann")
    clock.advance(QUEUE_SECONDS + 1)

    await state.presence.register(connection("~ann", "ann"), [])

    assert await undelivered(state) == ["ann"]
    assert state.sizes()["presence_states"] == 1


async def test_versions_of_users_who_left_are_bounded_and_end(make_memory, clock) -> None:
    state = make_memory(max_offline_states=5)
    state.presence_events.configure(RULES)
    for number in range(20):
        await come_and_go(state, clock, f"user-{number}")
        changes = await state.presence_events.undelivered(WEBHOOK, ALL, limit=1_000)
        await state.presence_events.delivered(WEBHOOK, changes)
    assert (state.sizes()["presence_states"], state.sizes()["former_presence_states"]) == (0, 5)
    clock.advance(QUEUE_SECONDS + 1)

    await come_and_go(state, clock, "ann")
    changes = await state.presence_events.undelivered(WEBHOOK, ALL, limit=1_000)
    await state.presence_events.delivered(WEBHOOK, changes)

    assert state.sizes()["former_presence_states"] == 1


async def test_versions_rise_although_the_user_was_forgotten_and_the_clock_set_back(
    make_memory, clock
) -> None:
    state = make_memory(max_offline_states=1)
    state.presence_events.configure(RULES)
    await come_and_go(state, clock, "ann")
    (before,) = await state.presence_events.undelivered(WEBHOOK, ALL, limit=10)
    await come_and_go(state, clock, "bob")
    clock.set_back(3_600)

    await state.presence.register(connection("~ann", "ann"), [])

    changes = await state.presence_events.undelivered(WEBHOOK, ALL, limit=10)
    assert [change.version > before.version for change in changes if change.user == "ann"] == [True]


async def test_user_who_came_and_went_before_anyone_was_notified_is_skipped(make_memory, clock) -> None:
    state = make_memory()
    state.presence_events.configure(RULES)
    await come_and_go(state, clock, "ann")
    changes = await state.presence_events.undelivered(WEBHOOK, ALL, limit=10)
    await state.presence_events.delivered(WEBHOOK, changes)
    await state.presence.register(connection("~ann", "ann"), [])
    await state.presence.unregister("~ann")
    clock.advance(11)

    assert await state.presence_events.sweep(ALL, limit=10) == 1

    assert await undelivered(state) == []
    assert (state.sizes()["presence_states"], state.sizes()["former_presence_states"]) == (0, 1)


async def test_unknown_user_who_came_and_went_is_not_skipped(make_memory, clock) -> None:
    """A former process may have notified a backend that the user is online."""
    state = make_memory()
    state.presence_events.configure(RULES)
    await state.presence.register(connection("~ann", "ann"), [])
    await state.presence.unregister("~ann")
    clock.advance(11)

    await state.presence_events.sweep(ALL, limit=10)

    (change,) = await state.presence_events.undelivered(WEBHOOK, ALL, limit=10)
    assert (change.user, change.is_online) == ("ann", False)


def test_users_who_were_connected_before_are_recorded_in_steps(make_memory) -> None:
    state = make_memory()
    for number in range(250):
        result_of(state.presence.register(connection(f"~{number}", f"user-{number}"), []))
    state.presence_events.configure(RULES)

    recorded = [result_of(state.presence_events.sweep(ALL, limit=100)) for _ in range(4)]

    assert recorded == [100, 100, 50, 0]
    assert state.sizes()["presence_states"] == 250


async def test_pauses_of_changes_that_were_overtaken_are_removed(make_memory, clock) -> None:
    state = make_memory()
    state.presence_events.configure(RULES)
    for _ in range(50):
        await state.presence.register(connection("~ann", "ann"), [])
        for _ in range(2):
            changes = await state.presence_events.undelivered(WEBHOOK, ALL, limit=10)
            await state.presence_events.postpone(WEBHOOK, changes, seconds=3_600)
            await state.presence.unregister("~ann")
            clock.advance(11)
            await state.presence_events.sweep(ALL, limit=10)
    assert state.presence_events.pauses <= 20

    clock.advance(3_600)

    assert await undelivered(state) == ["ann"]
    assert state.presence_events.pauses == 0
