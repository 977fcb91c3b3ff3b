"""Changes of presence: what the webhook and the clients are notified of, in which order, and what failures change."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import BrokerTimeout
from gateway.domain.event_catalogue import Announcement, Glob, Target, TargetKind
from gateway.domain.messages import MAX_BATCH, Message, batches_by_rooms
from gateway.domain.notifications import PRESENCE_PARTITIONS, partition_of
from gateway.domain.presence import PresenceChange, PresenceConsumer
from gateway.domain.templates import ObjectTemplate, Reference
from gateway.domain.webhooks import Delivery, DeliveryOutcome, WebhookEvent
from gateway.services.presence_events import announcements
from gateway.services.presence_events.announcements import MAX_BATCH_ROOMS
from gateway.services.presence_events.webhook import id_of_user, webhook_event
from tests.unit.services.presence_setup import ACCEPTED, FAILED, REJECTED, PresenceSetup

DATA = (ObjectTemplate((("user", Reference("user")),)),)
TO_EVERYONE = Announcement(True, "/", (Target(TargetKind.EVERYONE),), "user:online", DATA)
TO_ROOMS = Announcement(True, "/", (Target(TargetKind.OWN_ROOMS, glob=Glob("org:*")),), "user:online", DATA)
OFFLINE_TO_ROOMS = replace(TO_ROOMS, when_online=False, event="user:offline")
USERS_OF_ONE_PARTITION = [
    user for user in map(str, range(100)) if partition_of(user, PRESENCE_PARTITIONS) == 0
][:2]
ALL_ONLINE = Announcement(True, "/", (Target(TargetKind.EVERYONE),), "all:online", DATA)


@pytest_asyncio.fixture
async def presence() -> AsyncIterator[PresenceSetup]:
    made = PresenceSetup()
    yield made
    await made.close()


def rejects(user: str, events: Sequence[WebhookEvent]) -> Delivery:
    """Reject requests that hold an event of the user."""
    users = [json.loads(event.data)["user"] for event in events]
    return REJECTED if user in users else ACCEPTED


@contextmanager
def failing_delivered(presence: PresenceSetup) -> Iterator[None]:
    """Let the state fail to record what was delivered."""
    events = presence.state.presence_events
    recorded = events.delivered

    async def fail(consumer: PresenceConsumer, changes: Collection[PresenceChange]) -> None:
        raise BrokerTimeout("a test made the state fail")

    events.delivered = fail  # type: ignore[method-assign]
    yield
    events.delivered = recorded  # type: ignore[method-assign]


# what is sent


def test_event_has_user_version_time_and_connections() -> None:
    change = PresenceChange("42", False, 1795262400123, 1795262400.0, 0, 3)

    event = webhook_event(change)

    assert event == WebhookEvent("p-42-1795262400123", "user.offline", 1795262400.0, event.data)
    assert json.loads(event.data) == {
        "user": "42", "version": 1795262400123, "since": "2026-11-21T12:00:00.000Z", "connections": 0,
    }  # fmt: skip


@given(st.text(min_size=1, max_size=255).filter(lambda text: text.isprintable()))
def test_id_of_every_user_is_valid_in_a_webhook_id_and_in_a_message_id(user: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", id_of_user(user))


def test_users_that_look_like_digests_share_no_id_with_others() -> None:
    digest = id_of_user("ann@example.com")

    assert id_of_user(digest) != digest
    assert id_of_user("ann@example.com") != id_of_user("bob@example.com")
    assert id_of_user("user_42-a") == "user_42-a"


# the webhook


async def test_webhook_is_notified_once_that_a_user_is_online_and_offline(presence: PresenceSetup) -> None:
    presence.configure()
    await presence.connect("ann")
    await presence.connect("ann", "~2")
    await presence.pass_time(1.0)
    await presence.disconnect("ann")
    await presence.disconnect("ann", "~2")
    await presence.pass_time(9.0)
    assert [kind for kind, _, _ in presence.notified()] == ["user.online"]

    await presence.pass_time(2.0)

    kinds, _, versions = zip(*presence.notified(), strict=True)
    assert kinds == ("user.online", "user.offline")
    assert versions[0] < versions[1]
    await presence.pass_time(30.0)
    assert len(presence.webhooks.requests) == 2
    assert (
        presence.metrics.registry.get_sample_value(
            "sio_gateway_presence_changes_total", {"consumer": "webhook", "state": "offline"}
        )
        == 1
    )


async def test_page_that_is_loaded_again_is_no_change(presence: PresenceSetup) -> None:
    presence.configure()
    await presence.connect("ann")
    await presence.pass_time(1.0)

    for _ in range(20):
        await presence.disconnect("ann")
        await presence.pass_time(3.0)
        await presence.connect("ann")
        await presence.pass_time(1.0)

    assert [kind for kind, _, _ in presence.notified()] == ["user.online"]


async def test_batch_of_the_webhook_is_sent_in_one_request(presence: PresenceSetup) -> None:
    presence.webhooks.webhook = replace(presence.webhooks.webhook, batch=50)
    presence.configure()
    users = [f"user-{number}" for number in range(200)]
    for user in users:
        await presence.connect(user)

    await presence.pass_time(2.0)

    assert sorted(user for _, user, _ in presence.notified()) == sorted(users)
    assert 4 <= len(presence.webhooks.requests) <= 6


async def test_few_changes_of_all_partitions_share_one_request(presence: PresenceSetup) -> None:
    presence.webhooks.webhook = replace(presence.webhooks.webhook, batch=100)
    presence.configure(offline_after_seconds=0.5)
    await presence.pass_time(1.0)
    users = [f"user-{number}" for number in range(60)]
    for user in users:
        await presence.connect(user)
    await presence.pass_time(1.0)
    for user in users:
        await presence.disconnect(user)
    await presence.pass_time(2.0)

    online, offline = presence.webhooks.requests
    assert {partition_of(user, PRESENCE_PARTITIONS) for user in users} == set(range(PRESENCE_PARTITIONS))
    assert {event.type for event in online} == {"user.online"}
    assert {event.type for event in offline} == {"user.offline"}
    assert len(online) == len(offline) == 60


async def test_partition_with_a_request_under_way_is_part_of_no_other_request(
    presence: PresenceSetup,
) -> None:
    presence.webhooks.webhook = replace(presence.webhooks.webhook, batch=100)
    presence.configure(offline_after_seconds=0.5)
    presence.webhooks.gate.clear()
    await presence.connect("ann")
    await presence.pass_time(1.0)
    for number in range(60):
        await presence.connect(f"user-{number}")
    await presence.disconnect("ann")
    await presence.pass_time(2.0)

    first, second = presence.webhooks.requests
    busy = partition_of("ann", PRESENCE_PARTITIONS)
    sent = {partition_of(json.loads(event.data)["user"], PRESENCE_PARTITIONS) for event in second}
    assert len(first) == 1
    assert sent == set(range(PRESENCE_PARTITIONS)) - {busy}
    presence.webhooks.gate.set()
    await presence.pass_time(1.0)
    assert [kind for kind, _, _ in presence.notified("ann")] == ["user.online", "user.offline"]
    assert len(presence.notified()) == 62


async def test_changes_of_a_request_that_failed_wait_and_others_do_not(presence: PresenceSetup) -> None:
    presence.webhooks.webhook = replace(presence.webhooks.webhook, batch=100)
    presence.configure()
    await presence.pass_time(1.0)
    retry_later = Delivery(DeliveryOutcome.FAILED, 503, 20.0)
    presence.webhooks.answer = lambda _: retry_later
    first = ["ann", "bob", "eve"]
    for user in first:
        await presence.connect(user)
    await presence.pass_time(1.0)
    assert len(presence.webhooks.requests) == 1
    presence.webhooks.answer = lambda _: ACCEPTED
    users = [f"user-{number}" for number in range(60)]
    for user in users:
        await presence.connect(user)

    await presence.pass_time(5.0)

    waiting = {partition_of(user, PRESENCE_PARTITIONS) for user in first}
    others = {user for user in users if partition_of(user, PRESENCE_PARTITIONS) not in waiting}
    assert {user for _, user, _ in presence.notified()} == others
    await presence.pass_time(20.0)
    assert {user for _, user, _ in presence.notified()} == {*first, *users}


async def test_each_partition_has_one_request_at_a_time(presence: PresenceSetup) -> None:
    presence.configure()
    presence.webhooks.gate.clear()
    for number in range(200):
        await presence.connect(f"user-{number}")

    await presence.pass_time(2.0)
    assert presence.webhooks.at_once == 16
    presence.webhooks.gate.set()
    await presence.pass_time(2.0)

    assert presence.webhooks.most_at_once == 16
    assert len(presence.notified()) == 200


async def test_newest_version_of_a_user_is_sent_after_an_outage_of_the_webhook(
    presence: PresenceSetup,
) -> None:
    presence.configure(offline_after_seconds=1.0)
    presence.webhooks.answer = lambda _: FAILED
    for _ in range(5):
        await presence.connect("ann")
        await presence.pass_time(2.0)
        await presence.disconnect("ann")
        await presence.pass_time(2.0)
    await presence.connect("ann")
    await presence.pass_time(1.0)
    assert presence.notified() == []
    tried = [json.loads(events[0].data)["version"] for events in presence.webhooks.requests]
    presence.webhooks.answer = lambda _: ACCEPTED

    await presence.pass_time(60.0)

    (last,) = presence.notified()
    assert last[0] == "user.online"
    assert tried == sorted(tried)
    assert last[2] >= max(tried)


async def test_pauses_after_failures_grow_and_retry_after_is_obeyed(presence: PresenceSetup) -> None:
    presence.configure()
    presence.webhooks.answer = lambda _: FAILED
    await presence.connect("ann")
    await presence.pass_time(7.0)  # tries after 0, 1, 1 + 2 and 1 + 2 + 3 s
    assert len(presence.webhooks.requests) == 4

    presence.webhooks.answer = lambda _: Delivery(DeliveryOutcome.FAILED, 503, 40.0)
    await presence.pass_time(4.0)
    assert len(presence.webhooks.requests) == 5
    await presence.pass_time(35.0)
    assert len(presence.webhooks.requests) == 5
    presence.webhooks.answer = lambda _: ACCEPTED
    await presence.pass_time(6.0)

    assert len(presence.notified()) == 1


@pytest.mark.parametrize("batch", [1, 100])
async def test_rejected_user_delays_no_other_user(presence: PresenceSetup, batch: int) -> None:
    presence.webhooks.webhook = replace(presence.webhooks.webhook, batch=batch)
    presence.webhooks.answer = lambda events: rejects("poison", events)
    presence.configure()
    users = [f"user-{number}" for number in range(50)]
    for user in ("poison", *users):
        await presence.connect(user)

    await presence.pass_time(3.0)

    assert sorted(user for _, user, _ in presence.notified()) == sorted(users)
    tries = [events for events in presence.webhooks.requests if rejects("poison", events) is REJECTED]
    assert 2 <= len(tries) <= 4
    presence.webhooks.answer = lambda _: ACCEPTED
    await presence.pass_time(10.0)
    assert len(presence.notified("poison")) == 1


@pytest.mark.parametrize("batch", [1, 100])
async def test_user_for_whom_the_webhook_fails_delays_others_for_seconds_at_most(
    presence: PresenceSetup, batch: int
) -> None:
    presence.webhooks.webhook = replace(presence.webhooks.webhook, batch=batch)
    presence.webhooks.answer = lambda events: FAILED if rejects("poison", events) is REJECTED else ACCEPTED
    presence.configure()
    await presence.connect("poison")
    users = [f"user-{number}" for number in range(200)]
    for user in users:
        await presence.connect(user)
    await presence.pass_time(5.0)
    assert sorted(user for _, user, _ in presence.notified()) == sorted(users)

    # Others of the same partition, later.
    partition = partition_of("poison", PRESENCE_PARTITIONS)
    others = [f"late-{n}" for n in range(400) if partition_of(f"late-{n}", PRESENCE_PARTITIONS) == partition]
    delays = []
    for user in others:
        await presence.connect(user)
        connected_at = presence.clock.monotonic()
        while not presence.notified(user):
            await presence.pass_time(0.05)
        delays.append(presence.clock.monotonic() - connected_at)
    assert len(delays) > 10
    assert max(delays) <= 8
    assert max(delays[5:]) <= 0.5

    presence.webhooks.answer = lambda _: ACCEPTED
    await presence.pass_time(70.0)
    assert len(presence.notified("poison")) == 1


async def test_rejected_change_is_given_up_once_it_is_too_old(presence: PresenceSetup) -> None:
    presence.webhooks.webhook = replace(presence.webhooks.webhook, keep_seconds=60.0)
    presence.webhooks.answer = lambda events: rejects("poison", events)
    presence.configure()
    await presence.connect("poison")

    await presence.pass_time(120.0)

    assert await presence.undelivered(PresenceConsumer.WEBHOOK) == 0
    tries = len(presence.webhooks.requests)
    await presence.pass_time(120.0)
    assert len(presence.webhooks.requests) == tries


async def test_reload_tries_a_webhook_that_failed_at_once(presence: PresenceSetup) -> None:
    presence.configure()
    presence.webhooks.answer = lambda _: Delivery(DeliveryOutcome.FAILED, 503, 1000.0)
    await presence.connect("ann")
    await presence.pass_time(1.0)
    presence.webhooks.answer = lambda _: ACCEPTED

    presence.configure()
    await presence.pass_time(0.5)

    assert len(presence.notified()) == 1


async def test_change_that_a_newer_one_replaced_while_the_webhook_was_slow_is_not_sent(
    presence: PresenceSetup,
) -> None:
    presence.configure(offline_after_seconds=0.5)
    first, second = USERS_OF_ONE_PARTITION
    presence.webhooks.gate.clear()
    await presence.connect(first)
    await presence.connect(second)
    await presence.pass_time(0.5)
    await presence.disconnect(second)
    await presence.pass_time(2.0)

    presence.webhooks.gate.set()
    await presence.pass_time(1.0)

    assert [kind for kind, _, _ in presence.notified(first)] == ["user.online"]
    assert [kind for kind, _, _ in presence.notified(second)] == ["user.offline"]


# clients


@given(st.lists(st.integers(1, 300), max_size=300))
def test_announcements_are_appended_in_order_and_few_rooms_at_once(rooms: list[int]) -> None:
    messages = [
        Message(str(number), "/", tuple(f"r{room}" for room in range(of_message)), "user:online", ())
        for number, of_message in enumerate(rooms)
    ]

    batches = list(batches_by_rooms(messages, max_items=MAX_BATCH, max_rooms=MAX_BATCH_ROOMS))

    assert [message for batch in batches for message in batch] == messages
    assert all(0 < len(batch) <= MAX_BATCH for batch in batches)
    assert all(
        len(batch) == 1 or sum(len(each.rooms) for each in batch) <= MAX_BATCH_ROOMS for batch in batches
    )


async def test_rooms_of_a_user_get_the_announcements(presence: PresenceSetup) -> None:
    await presence.subscribe("/", "/chat", rooms=["org:7", "user:ann"])
    presence.configure(TO_ROOMS, OFFLINE_TO_ROOMS, notify=None, offline_after_seconds=1.0)
    await presence.connect("ann", None, "org:7", "user:ann")
    await presence.pass_time(1.0)
    await presence.disconnect("ann")
    await presence.pass_time(3.0)

    assert [(m.namespace, m.rooms, m.event, m.arguments) for _, m in presence.received] == [
        ("/", ("org:7",), "user:online", ('{"user":"ann"}',)),
        ("/", ("org:7",), "user:offline", ('{"user":"ann"}',)),
    ]
    assert presence.webhooks.requests == []


async def test_everyone_gets_at_most_20_announcements_a_second_and_rooms_do_not_wait(
    presence: PresenceSetup,
) -> None:
    await presence.subscribe("/", rooms=["org:7"])
    presence.configure(TO_ROOMS, ALL_ONLINE, notify=None)
    for number in range(100):
        await presence.connect(f"user-{number}", None, "org:7")

    await presence.pass_time(1.0)
    in_rooms = [message for _, message in presence.received if message.rooms]
    assert len(in_rooms) == 100
    await presence.pass_time(9.0, step_seconds=0.005)

    at = [at for at, message in presence.received if not message.rooms]
    assert len(at) == 100
    assert all(later - earlier >= 0.999 for earlier, later in zip(at, at[20:], strict=False))
    assert len(presence.received) == 200
    assert await presence.undelivered(PresenceConsumer.CLIENTS) == 0


async def test_change_that_waits_for_the_rate_is_replaced_by_a_newer_one(presence: PresenceSetup) -> None:
    await presence.subscribe("/")
    presence.configure(ALL_ONLINE, notify=None, offline_after_seconds=0.5)
    for number in range(100):
        await presence.connect(f"user-{number}")
    await presence.connect("ann")
    await presence.pass_time(0.5)

    await presence.disconnect("ann")
    await presence.pass_time(10.0)

    announced = [json.loads(message.arguments[0])["user"] for _, message in presence.received]
    assert "ann" not in announced
    assert len(announced) == 100


async def test_webhook_that_hangs_delays_no_announcement(presence: PresenceSetup) -> None:
    await presence.subscribe("/")
    presence.webhooks.gate.clear()
    presence.configure(TO_EVERYONE)
    await presence.connect("ann")

    await presence.pass_time(1.0)

    assert [message.event for _, message in presence.received] == ["user:online"]
    assert presence.notified() == []


async def test_announcement_ids_of_different_users_never_share_what_follows_a_dot(
    presence: PresenceSetup,
) -> None:
    await presence.subscribe("/")
    presence.configure(TO_EVERYONE, notify=None)
    await presence.connect("ann@example.com")
    await presence.connect("bob@example.com")

    await presence.pass_time(1.0)

    ids = [message.id for _, message in presence.received]
    assert len(set(ids)) == 2
    assert not any("." in each for each in ids)


# start, reload, stop


async def test_nothing_runs_without_presence_in_the_catalogue(presence: PresenceSetup) -> None:
    presence.worker.configure(None)
    await presence.connect("ann")

    await presence.pass_time(5.0)

    assert len(presence.schedule) == 0
    assert presence.state.partitions.owners("!presence") == ()


async def test_partitions_are_left_when_presence_is_removed_from_the_catalogue(
    presence: PresenceSetup,
) -> None:
    presence.configure(TO_EVERYONE)
    await presence.connect("ann")
    await presence.pass_time(2.0)
    assert len(presence.state.partitions.owners("!presence")) == 16

    presence.worker.configure(None)
    await presence.pass_time(2.0)

    assert presence.state.partitions.owners("!presence") == ()
    await presence.connect("bob")
    await presence.pass_time(2.0)
    assert [user for _, user, _ in presence.notified()] == ["ann"]


async def test_users_that_are_connected_are_reported_when_presence_is_added(presence: PresenceSetup) -> None:
    await presence.connect("ann")
    await presence.pass_time(1.0)

    assert presence.configure()
    await presence.state.presence.register_again({"~ann": None})  # as Listings does
    await presence.pass_time(2.0)

    assert [(kind, user) for kind, user, _ in presence.notified()] == [("user.online", "ann")]
    assert not presence.configure()


async def test_close_waits_for_the_request_under_way_and_begins_no_other(presence: PresenceSetup) -> None:
    presence.configure()
    presence.webhooks.gate.clear()
    for user in [f"user-{number}" for number in range(200)]:
        await presence.connect(user)
    await presence.pass_time(1.0)

    presence.schedule.after(1.0, presence.webhooks.gate.set)
    presence.schedule.advance(1.0)
    await presence.worker.close(finish_seconds=5.0)

    assert len(presence.webhooks.requests) == 16
    assert len(presence.notified()) == 16
    assert await presence.undelivered(PresenceConsumer.WEBHOOK) == 184
    assert presence.state.partitions.owners("!presence") == ()


async def test_close_sends_nothing_that_still_waits_for_another_request(presence: PresenceSetup) -> None:
    presence.configure()
    presence.webhooks.slot.clear()
    await presence.connect("ann")
    await presence.pass_time(1.0)

    closing = asyncio.create_task(presence.worker.close(finish_seconds=5.0))
    await asyncio.sleep(0)
    presence.webhooks.slot.set()
    await closing

    assert presence.webhooks.requests == []
    assert await presence.undelivered(PresenceConsumer.WEBHOOK) == 1


async def test_close_cancels_a_request_that_takes_too_long(presence: PresenceSetup) -> None:
    presence.configure()
    presence.webhooks.gate.clear()
    await presence.connect("ann")
    await presence.pass_time(1.0)

    await presence.worker.close(finish_seconds=0.01)

    assert presence.webhooks.at_once == 0
    assert presence.state.partitions.owners("!presence") == ()


async def test_replica_that_is_alone_notifies_of_what_changed_before_it_stops() -> None:
    presence = PresenceSetup(is_alone=True)
    presence.configure(offline_after_seconds=1.0)
    await presence.connect("ann")
    await presence.pass_time(1.0)
    await presence.disconnect("ann")
    presence.clock.advance(2.0)  # No task has run since.

    await presence.worker.close(finish_seconds=5.0)

    assert [kind for kind, _, _ in presence.notified()] == ["user.online", "user.offline"]
    await presence.close()


async def test_replica_that_stops_hands_over_the_announcements_that_wait_for_the_rate(
    presence: PresenceSetup,
) -> None:
    await presence.subscribe("/")
    presence.configure(TO_EVERYONE, notify=None)
    for number in range(100):
        await presence.connect(f"user-{number}")
    await presence.pass_time(1.0)

    await presence.worker.close(finish_seconds=1.0)

    left = await presence.state.presence_events.undelivered(
        PresenceConsumer.CLIENTS, range(PRESENCE_PARTITIONS), limit=1_000
    )
    assert 0 < len(presence.received) < 30
    assert len(left) == 100 - len(presence.received)


async def test_more_changes_than_a_replica_holds_are_all_announced(
    presence: PresenceSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "MAX_HELD", 20)
    await presence.subscribe("/", rooms=["org:7"])
    presence.configure(TO_ROOMS, ALL_ONLINE, notify=None)
    for number in range(100):
        await presence.connect(f"user-{number}", None, "org:7")

    await presence.pass_time(20.0)

    to_rooms = [message for _, message in presence.received if message.rooms]
    assert len(to_rooms) == 100
    assert len(presence.received) == 200
    assert await presence.undelivered(PresenceConsumer.CLIENTS) == 0


async def test_accepted_change_is_recorded_and_not_sent_again_after_the_state_failed(
    presence: PresenceSetup,
) -> None:
    presence.configure()
    await presence.connect("ann")
    with failing_delivered(presence):
        await presence.pass_time(5.0)
    assert len(presence.webhooks.requests) == 1

    await presence.pass_time(5.0)

    assert len(presence.webhooks.requests) == 1
    assert await presence.undelivered(PresenceConsumer.WEBHOOK) == 0
