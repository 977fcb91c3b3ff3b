"""Client events with ``notify``: they are queued for a webhook in one step with their messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.event_catalogue import Arguments
from gateway.domain.messages import Message, PublishResult
from gateway.domain.notifications import MAX_QUEUED, Notification, QueuedNotification, partition_of
from gateway.domain.times import iso_timestamp
from gateway.domain.webhooks import Webhook
from tests.unit.services.catalogue import ANYONE, OTHERS, SELF, catalogue, emit, entry, rule
from tests.unit.services.harness import REPLICA
from tests.unit.services.senders import Setup

OPEN = (rule("*", join=ANYONE, send=ANYONE),)
PARTITIONS = 5
APP = Webhook(id="app", url="http://app/", partitions=PARTITIONS)


@pytest.fixture(autouse=True)
def _configured(setup: Setup) -> None:
    setup.webhooks.webhooks["app"] = APP


async def queued(setup: Setup, partition: int | None = None) -> list[QueuedNotification]:
    """Return what is queued for ``app``, in one partition or in all."""
    state = setup.services.state
    await state.partitions.claim("app", PARTITIONS)
    found: list[QueuedNotification] = []
    for each in range(PARTITIONS) if partition is None else [partition]:
        page = await state.webhook_queues.read("app", each, max_entries=1_000_000, max_bytes=2**40)
        found += page.notifications
    return found


async def test_event_is_queued_with_what_a_call_sends(setup: Setup) -> None:
    setup.use(catalogue(entry("mark_*", notify="app", ack="stored")))
    alice = await setup.connect("alice", "org:7")

    assert await alice.ask_all("mark_read", {"id": "n-1", "text": "ä"}, 2) == ("stored",)

    (notification,) = await queued(setup, partition_of("alice", PARTITIONS))
    assert (notification.user, notification.type) == ("alice", "client.event")
    assert notification.at == setup.services.clock.now()
    assert orjson.loads(notification.data) == {
        "namespace": "/",
        "event": "mark_read",
        "args": [{"id": "n-1", "text": "ä"}, 2],
        "wants_ack": True,
        "mode": "notify",
        "connection": {
            "sid": alice.connection.sid,
            "user": "alice",
            "rooms": sorted(alice.connection.rooms - {alice.connection.sid}),
            "data": {},
            "connected_at": iso_timestamp(alice.connection.connected_at),
            "replica": REPLICA,
        },
    }
    assert setup.webhooks.calls == []


async def test_event_without_an_ack_is_queued_as_well(setup: Setup) -> None:
    setup.use(catalogue(entry("note", notify="app")))
    alice = await setup.connect("alice")

    await alice.send("note", 1)

    (notification,) = await queued(setup)
    assert orjson.loads(notification.data)["wants_ack"] is False


async def test_messages_and_notification_are_accepted_together(setup: Setup) -> None:
    setup.use(catalogue(entry("say", notify="app", emit=(emit(SELF, event="echo", data="$0"),), ack="$id")))
    alice = await setup.connect("alice")

    event_id = await alice.ask("say", "hello")
    await setup.services.wait_delivered()

    assert [each.id for each in await queued(setup)] == [event_id]
    assert alice.order == ["event", "ack"]


async def test_events_of_a_user_are_queued_in_the_order_sent(setup: Setup) -> None:
    setup.use(catalogue(entry("note", notify="app")))
    alice = await setup.connect("alice")

    for number in range(50):
        await alice.start("note", number)
    await alice.wait_acks(50)

    notifications = await queued(setup, partition_of("alice", PARTITIONS))
    assert [orjson.loads(each.data)["args"] for each in notifications] == [[number] for number in range(50)]
    assert [each.sequence for each in notifications] == sorted({each.sequence for each in notifications})


async def test_full_queue_is_backend_unavailable_and_nothing_takes_effect(setup: Setup) -> None:
    setup.use(
        catalogue(
            entry("join", notify="app", join="$0", emit=(emit(OTHERS, event="joined"),)),
            entry("look", ack="$0"),
            rules=OPEN,
        )
    )
    alice, bob = await setup.connect("alice"), await setup.connect("bob")
    assert await bob.ask_all("join", "lobby") == ()
    filling = [Notification(f"f-{number}", "app", 0, "u", "t", 0.0, "{}") for number in range(MAX_QUEUED - 1)]
    for begin in range(0, len(filling), 100):
        await setup.services.state.broker.append_all([], notifications=filling[begin : begin + 100])

    error = (await alice.ask("join", "lobby"))["error"]
    await setup.services.wait_delivered()

    assert error["code"] == "backend_unavailable"
    assert error["retryAfter"] > 0
    assert "lobby" not in alice.connection.rooms
    assert bob.events == []
    assert len(await queued(setup)) == MAX_QUEUED
    assert setup.outcomes()["/ join backend_unavailable"] == 1


async def test_webhook_that_is_not_configured_is_backend_unavailable(setup: Setup) -> None:
    setup.use(catalogue(entry("join", notify="gone", join="$0", emit=(emit(SELF),)), rules=OPEN))
    alice = await setup.connect("alice")

    assert await alice.code("join", "lobby") == "backend_unavailable"
    await setup.services.wait_delivered()

    assert alice.events == []
    assert "lobby" not in alice.connection.rooms


@pytest.mark.parametrize("argument", ["\ud800", {"a": ["\udfff"]}, float("nan"), 2**64])
async def test_argument_that_json_cannot_hold_is_an_invalid_payload(setup: Setup, argument: object) -> None:
    setup.use(catalogue(entry("note", args=Arguments(), notify="app")))
    alice = await setup.connect("alice")

    assert await alice.code("note", argument) == "invalid_payload"

    assert await queued(setup) == []


async def test_socket_data_that_json_cannot_hold_is_an_invalid_payload(setup: Setup) -> None:
    setup.use(catalogue(entry("join", notify="app", join="$0"), rules=OPEN))
    alice = await setup.connect("alice")
    alice.connection.data = {"name": "\ud800"}

    assert await alice.code("join", "lobby") == "invalid_payload"

    assert "lobby" not in alice.connection.rooms
    assert await queued(setup) == []


async def test_socket_data_with_a_large_integer_is_queued(setup: Setup) -> None:
    setup.use(catalogue(entry("note", notify="app")))
    alice = await setup.connect("alice")
    alice.connection.data = {"number": 2**70}

    await alice.ask_all("note")

    (notification,) = await queued(setup)
    assert f'"number":{2**70}' in notification.data


class FailingAppend:
    """Fails like a state once, before or after the append took effect."""

    def __init__(self, setup: Setup, error: Exception, *, took_effect: bool) -> None:
        self._inner = setup.services.state.broker.append_all
        self._error: Exception | None = error
        self._took_effect = took_effect
        setup.services.broker.append_all = self

    async def __call__(
        self, messages: Sequence[Message], dedup_key: Any = None, *, notifications: Any = ()
    ) -> tuple[PublishResult, ...]:
        error, self._error = self._error, None
        if error is not None and not self._took_effect:
            raise error
        result = await self._inner(messages, dedup_key, notifications=notifications)
        if error is not None:
            raise error
        return result


async def test_repeat_after_an_unknown_outcome_is_queued_once(setup: Setup) -> None:
    setup.use(
        catalogue(entry("pay", dedupe="$0.id", notify="app", emit=(emit(SELF, event="paid"),), ack="ok"))
    )
    alice = await setup.connect("alice")
    FailingAppend(setup, BrokerTimeout("no answer"), took_effect=True)

    assert await alice.code("pay", {"id": 1}) == "broker_timeout"
    assert await alice.ask("pay", {"id": 1}) == "ok"
    assert await alice.ask("pay", {"id": 1}) == "ok"
    await setup.services.wait_delivered()

    assert len(await queued(setup)) == 1
    assert len(alice.events) == 1
    assert setup.outcomes() == {"/ pay broker_timeout": 1, "/ pay ok": 1, "/ pay repeated": 1}


async def test_repeats_have_the_same_id(setup: Setup) -> None:
    setup.use(catalogue(entry("pay", dedupe="$0.id", notify="app", ack="$id")))
    alice = await setup.connect("alice")
    FailingAppend(setup, BrokerUnavailable("no connection"), took_effect=False)

    assert await alice.code("pay", {"id": 1}) == "broker_unavailable"
    first = await alice.ask("pay", {"id": 1})
    second = await alice.ask("pay", {"id": 2})

    assert first != second
    assert sorted(each.id for each in await queued(setup)) == sorted([first, second])


async def test_join_is_undone_if_the_notification_was_certainly_not_queued(setup: Setup) -> None:
    setup.use(catalogue(entry("join", notify="app", join="$0"), rules=OPEN))
    alice = await setup.connect("alice")
    FailingAppend(setup, BrokerUnavailable("no connection"), took_effect=False)

    assert await alice.code("join", "lobby") == "broker_unavailable"
    assert "lobby" not in alice.connection.rooms
    assert await alice.ask_all("join", "lobby") == ()
    assert "lobby" in alice.connection.rooms

    assert len(await queued(setup)) == 1


async def test_repeat_on_another_connection_joins_it_and_queues_nothing(setup: Setup) -> None:
    setup.use(catalogue(entry("join", dedupe="$0.id", notify="app", join="$0.room"), rules=OPEN))
    alice = await setup.connect("alice")
    other = await setup.connect("alice")

    await alice.ask_all("join", {"id": 1, "room": "lobby"})
    await other.ask_all("join", {"id": 1, "room": "lobby"})

    assert "lobby" in other.connection.rooms
    assert len(await queued(setup)) == 1


async def test_partition_follows_the_number_that_is_configured_now(setup: Setup) -> None:
    setup.use(catalogue(entry("note", notify="app")))
    user = next(f"u{n}" for n in range(100) if partition_of(f"u{n}", PARTITIONS) != partition_of(f"u{n}", 2))
    sender = await setup.connect(user)

    await sender.ask_all("note")
    setup.webhooks.webhooks["app"] = dataclasses.replace(APP, partitions=2)
    await sender.ask_all("note")

    assert len(await queued(setup, partition_of(user, PARTITIONS))) == 1
    assert len(await queued(setup, partition_of(user, 2))) == 1
