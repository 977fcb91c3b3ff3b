"""Events with a dedupe value: one of several equal ones takes effect, in its place in the order of its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.domain.dedup import MAX_USER_ACKS
from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, ClientEventRejected
from gateway.domain.event_catalogue import EventCatalogue
from gateway.domain.messages import Message, PublishResult
from gateway.domain.webhooks import WebhookAnswer, WebhookEmission
from tests.support.waiter import TIMEOUT_SECONDS, await_until
from tests.unit.services.catalogue import (
    ANYONE,
    OTHERS,
    SELF,
    ask,
    catalogue,
    emit,
    entry,
    rule,
)
from tests.unit.services.senders import Sender, Setup

OPEN = (rule("*", join=ANYONE, send=ANYONE),)
JOIN = entry(
    "join",
    dedupe="$0.id",
    join="$0.room",
    emit=(emit(OTHERS, event="joined"), emit(SELF, event="entered_room")),
    ack="joined",
)
LEAVE = entry("leave", dedupe="$0.id", leave="$0.room", emit=(emit(OTHERS, event="left"),), ack="left")
ROOMS = catalogue(
    JOIN, LEAVE, entry("plain_join", join="$0"), entry("plain_leave", leave="$0"), entry("note", ack="$0"),
    rules=OPEN,
)  # fmt: skip
LOBBY = {"id": "j1", "room": "lobby"}


async def test_repeat_gets_the_first_ack_and_has_no_effect(setup: Setup) -> None:
    setup.use(catalogue(entry("say", dedupe="$0.id", emit=(emit(SELF),), ack={"id": "$id", "n": "$0.n"})))
    alice = await setup.connect("alice")
    other = await setup.connect("alice")

    first = await alice.ask("say", {"id": "m1", "n": 1})
    assert first["n"] == 1
    assert await alice.ask("say", {"id": "m1", "n": 2}) == first
    assert await other.ask("say", {"id": "m1", "n": 3}) == first
    assert (await alice.ask("say", {"id": "m2", "n": 4}))["id"] != first["id"]
    assert await alice.code("say", {}) == "invalid_payload"
    await setup.services.wait_delivered()

    assert len(alice.events) == 2
    assert setup.outcomes() == {"/ say ok": 2, "/ say repeated": 2, "/ say invalid_payload": 1}


async def test_user_who_fills_what_is_remembered_is_busy_and_others_are_not(setup: Setup) -> None:
    setup.use(catalogue(entry("say", dedupe="$0", ack="$0")))
    alice, bob = await setup.connect("alice"), await setup.connect("bob")
    for number in range(MAX_USER_ACKS):
        await alice.start("say", number)
    await alice.wait_acks(MAX_USER_ACKS)

    error = (await alice.ask("say", "one more"))["error"]

    assert error["code"] == "busy"
    assert 0 < error["retryAfter"] <= 750
    assert await alice.ask("say", 0) == 0
    assert await bob.ask("say", 0) == 0
    assert setup.outcomes() == {"/ say ok": MAX_USER_ACKS + 1, "/ say busy": 1, "/ say repeated": 1}


async def test_repeat_waits_while_the_first_is_under_way(setup: Setup) -> None:
    setup.use(catalogue(entry("buy", dedupe="$0", call="app")))
    setup.webhooks.answer = lambda _: WebhookAnswer(ack="bought", has_ack=True)
    alice = await setup.connect("alice")
    setup.webhooks.gate.clear()
    await alice.start("buy", "b1")
    await alice.start("buy", "b1")
    await await_until(lambda: len(setup.webhooks.calls) == 1, "the call", pause_seconds=0)
    setup.webhooks.gate.set()

    assert await alice.wait_acks(2) == [("bought",), ("bought",)]
    assert len(setup.webhooks.calls) == 1


async def test_repeat_after_a_failure_is_sent_with_the_same_id(setup: Setup) -> None:
    setup.use(catalogue(entry("buy", dedupe="$0", call="app")))
    alice = await setup.connect("alice")
    setup.webhooks.error = ClientEventRejected("backend_timeout", "no answer in time")
    assert await alice.code("buy", "b1") == "backend_timeout"
    setup.webhooks.error = None

    assert await alice.ask_all("buy", "b1") == ()
    assert len({event_id for event_id, _, _ in setup.webhooks.calls}) == 1


# order


@pytest.mark.parametrize(
    "events",
    [
        catalogue(JOIN, entry("note", ack="$0"), rules=OPEN),
        catalogue(
            entry("join", dedupe="$0.id", call="app", serial=True, ack="joined"), entry("note", ack="$0")
        ),
    ],
    ids=["join", "serial"],
)
async def test_later_events_wait_behind_a_repeat_that_waits_for_the_first(
    setup: Setup, events: EventCatalogue
) -> None:
    setup.use(events)
    first, second = await setup.connect("alice"), await setup.connect("alice")
    setup.services.broker.gate.clear()
    setup.webhooks.gate.clear()
    begun = asyncio.create_task(first.start("join", LOBBY))
    await await_until(
        lambda: setup.services.broker.entered.is_set() or setup.webhooks.calls != [],
        "the first is in progress",
        pause_seconds=0,
    )

    # The reading path never waits for another event: pings are read behind it.
    await asyncio.wait_for(second.start("join", LOBBY), TIMEOUT_SECONDS)
    await second.start("note", 1)
    await second.start("note", 2)
    assert second.acks == []
    setup.services.broker.gate.set()
    setup.webhooks.gate.set()

    assert await second.wait_acks(3) == [("joined",), (1,), (2,)]
    assert len(setup.webhooks.calls) <= 1
    await begun


async def test_call_that_changes_no_room_lets_others_pass_its_repeat(setup: Setup) -> None:
    setup.use(catalogue(entry("buy", dedupe="$0", call="app", ack="bought"), entry("note", ack="$0")))
    first, second = await setup.connect("alice"), await setup.connect("alice")
    setup.webhooks.gate.clear()
    await first.start("buy", "b1")
    await second.start("buy", "b1")

    assert await second.ask("note", 1) == 1
    setup.webhooks.gate.set()
    assert await second.wait_acks(2) == [(1,), ("bought",)]


async def test_repeat_that_waits_is_dropped_with_its_connection(setup: Setup) -> None:
    setup.use(ROOMS)
    first, second = await setup.connect("alice"), await setup.connect("alice")
    setup.services.broker.gate.clear()
    begun = asyncio.create_task(first.start("join", LOBBY))
    await asyncio.wait_for(setup.services.broker.entered.wait(), TIMEOUT_SECONDS)
    await second.start("join", LOBBY)
    await second.start("note", 1)

    setup.services.disconnector.disconnect(second.connection)
    setup.services.client_events.connection_closed(second.connection)
    setup.services.broker.gate.set()
    await begun

    await await_until(lambda: setup.outcomes().get("/ join dropped") == 1, "it is dropped", pause_seconds=0)
    assert (first.acks, second.acks) == ([("joined",)], [])


# another connection


async def test_repeat_on_another_connection_joins_it_and_announces_nothing(setup: Setup) -> None:
    setup.use(ROOMS)
    witness = await setup.connect("bob", "lobby")
    first, second = await setup.connect("alice"), await setup.connect("alice")

    assert [await first.ask("join", LOBBY), await second.ask("join", LOBBY)] == ["joined", "joined"]
    await setup.services.wait_delivered()

    assert "lobby" in second.connection.rooms
    assert (witness.events, first.events, second.events) == (["joined"], ["entered_room"], [])
    assert setup.outcomes() == {"/ join ok": 1, "/ join repeated": 1}


async def test_repeat_on_another_connection_leaves_the_room_there(setup: Setup) -> None:
    setup.use(ROOMS)
    witness = await setup.connect("bob", "lobby")
    first, second = await setup.connect("alice"), await setup.connect("alice")
    for each in (first, second):
        await each.ask_all("plain_join", "lobby")

    assert [await first.ask("leave", LOBBY), await second.ask("leave", LOBBY)] == ["left", "left"]
    await setup.services.wait_delivered()

    assert "lobby" not in first.connection.rooms | second.connection.rooms
    assert [name for name in witness.events if name == "left"] == ["left"]


async def test_repeat_on_the_same_connection_changes_no_room(setup: Setup) -> None:
    setup.use(ROOMS)
    alice = await setup.connect("alice")
    await alice.ask("join", LOBBY)
    await alice.ask_all("plain_leave", "lobby")

    assert await alice.ask("join", LOBBY) == "joined"
    assert "lobby" not in alice.connection.rooms


async def test_repeat_on_another_connection_needs_the_same_rights() -> None:
    setup = Setup(max_rooms=2)
    setup.use(ROOMS)
    first, second = await setup.connect("alice"), await setup.connect("alice")
    await first.ask("join", LOBBY)
    await second.ask_all("plain_join", "other")

    assert await second.code("join", LOBBY) == "too_many_rooms"
    assert "lobby" not in second.connection.rooms
    await setup.services.close()


async def test_webhook_of_a_room_is_asked_for_each_connection_under_one_id(setup: Setup) -> None:
    setup.use(catalogue(JOIN, rules=(rule("*", join=ask()),)))
    first, second, third = [await setup.connect("alice") for _ in range(3)]
    assert [await first.ask("join", LOBBY), await second.ask("join", LOBBY)] == ["joined", "joined"]
    setup.webhooks.error = ClientEventRejected("private", "the room is private")

    assert await third.code("join", LOBBY) == "private"

    assert ["lobby" in each.connection.rooms for each in (first, second, third)] == [True, True, False]
    asked = [(kind, data["room"]) for _, kind, data in setup.webhooks.calls]
    assert asked == [("room.join", "lobby")] * 3
    assert len({event_id for event_id, _, _ in setup.webhooks.calls}) == 1


async def test_room_keeps_the_id_of_its_question_whatever_other_rooms_the_client_is_in(setup: Setup) -> None:
    setup.use(catalogue(JOIN, entry("plain_join", join="$0"), rules=(rule("*", join=ask()),)))
    first, second = await setup.connect("alice"), await setup.connect("alice")
    both = {"id": "j1", "room": ["a", "b"]}
    await first.ask("join", both)
    await second.ask_all("plain_join", "a")

    await second.ask("join", both)

    ids = [event_id for event_id, _, data in setup.webhooks.calls if data["room"] == "b"]
    assert len(ids) == 2
    assert len(set(ids)) == 1


async def test_repeat_on_another_connection_gets_what_the_answer_gave_to_the_first(setup: Setup) -> None:
    setup.use(catalogue(entry("enter", dedupe="$0", call="app"), entry("note", ack="$data.seat")))
    setup.webhooks.allowed = {"app join match:1", "app disconnect alice"}
    setup.webhooks.answer = lambda _: WebhookAnswer(
        ack="entered",
        has_ack=True,
        emit=(WebhookEmission("entered", ()),),
        join=("match:1",),
        set={"seat": 4},
        disconnect=True,
    )
    first, second = await setup.connect("alice"), await setup.connect("alice")

    assert [await first.ask("enter", 1), await second.ask("enter", 1)] == ["entered", "entered"]
    await setup.services.wait_delivered()

    for each in (first, second):
        assert "match:1" in each.connection.rooms
        assert each.connection.data == {"seat": 4}
        assert each.transport.disconnects == [DISCONNECTED_BY_BACKEND]
    assert (first.events, second.events) == (["entered"], [])
    assert len(setup.webhooks.calls) == 1


async def test_answer_for_a_repeat_is_checked_again(setup: Setup) -> None:
    setup.use(catalogue(entry("enter", dedupe="$0", call="app")))
    setup.webhooks.allowed = {"app join match:1"}
    setup.webhooks.answer = lambda _: WebhookAnswer(join=("match:1",))
    first, second = await setup.connect("alice"), await setup.connect("alice")
    await first.ask_all("enter", 1)
    setup.webhooks.allowed.clear()

    assert await second.code("enter", 1) == "backend_error"
    assert "match:1" not in second.connection.rooms


# unknown outcomes


class UnsureBroker:
    """Appends, or not, and answers BrokerTimeout the first time; later calls pass. It keeps what it was given."""

    def __init__(self, setup: Setup, *, accepts: bool) -> None:
        self._inner = setup.services.state.broker
        self._accepts = accepts
        self._answers = False

    def use(self, setup: Setup, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(setup.services.broker, "append", self._append)
        patch.setattr(setup.services.broker, "append_all", self._append_all)

    async def _append(self, message: Message) -> PublishResult:
        (result,) = await self._append_all([message])
        return result

    async def _append_all(self, messages: Sequence[Message]) -> tuple[PublishResult, ...]:
        if self._answers:
            return await self._inner.append_all(messages)
        self._answers = True
        if self._accepts:
            await self._inner.append_all(messages)
        raise BrokerTimeout("no answer")


ACCEPTS = pytest.mark.parametrize("accepts", [True, False], ids=["appended", "not appended"])


async def announced(setup: Setup, witness: Sender) -> list[str]:
    await setup.services.wait_delivered()
    return [name for name in witness.events if name in {"joined", "left"}]


@ACCEPTS
@pytest.mark.parametrize("same_connection", [True, False], ids=["same connection", "new connection"])
async def test_repeat_after_a_timeout_announces_the_join_once(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, *, accepts: bool, same_connection: bool
) -> None:
    setup.use(ROOMS)
    witness, alice = await setup.connect("bob", "lobby"), await setup.connect("alice")
    UnsureBroker(setup, accepts=accepts).use(setup, monkeypatch)
    assert await alice.code("join", LOBBY) == "broker_timeout"
    again = alice if same_connection else await setup.connect("alice")

    assert await again.ask("join", LOBBY) == "joined"

    assert await announced(setup, witness) == ["joined"]
    assert "lobby" in again.connection.rooms
    assert await again.ask("join", LOBBY) == "joined"
    assert await announced(setup, witness) == ["joined"]


@ACCEPTS
async def test_repeat_after_a_timeout_announces_the_leave_once(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, *, accepts: bool
) -> None:
    setup.use(ROOMS)
    witness, alice = await setup.connect("bob", "lobby"), await setup.connect("alice")
    await alice.ask_all("plain_join", "lobby")
    UnsureBroker(setup, accepts=accepts).use(setup, monkeypatch)
    assert await alice.code("leave", LOBBY) == "broker_timeout"

    assert await alice.ask("leave", LOBBY) == "left"

    assert await announced(setup, witness) == ["left"]
    assert "lobby" not in alice.connection.rooms


async def test_repeat_announces_the_join_when_the_first_ended_before_its_append(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.use(ROOMS)
    witness, alice = await setup.connect("bob", "lobby"), await setup.connect("alice")
    entered = asyncio.Event()

    async def hang(*_: object) -> Any:
        entered.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(setup.services.broker, "append_all", hang)
        begun = asyncio.create_task(alice.start("join", LOBBY))
        await asyncio.wait_for(entered.wait(), TIMEOUT_SECONDS)
        begun.cancel()
        await asyncio.wait([begun])

    assert await alice.ask("join", LOBBY) == "joined"
    assert await announced(setup, witness) == ["joined"]


async def test_new_value_announces_nothing_where_the_client_is_in_the_room(setup: Setup) -> None:
    setup.use(ROOMS)
    witness, alice = await setup.connect("bob", "lobby"), await setup.connect("alice")
    await alice.ask("join", LOBBY)

    assert await alice.ask("join", LOBBY | {"id": "j2"}) == "joined"
    assert await alice.ask("leave", LOBBY | {"id": "l1", "room": "other"}) == "left"

    assert await announced(setup, witness) == ["joined"]


async def test_repeat_after_a_failure_announces_nothing_where_the_client_joined_meanwhile(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.use(ROOMS)
    witness, alice = await setup.connect("bob", "lobby"), await setup.connect("alice")

    async def fail(*_: object) -> Any:
        raise BrokerUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(setup.services.broker, "append_all", fail)
        assert await alice.code("join", LOBBY) == "broker_unavailable"
    await alice.ask_all("plain_join", "lobby")

    assert await alice.ask("join", LOBBY) == "joined"
    assert await announced(setup, witness) == []


async def test_unknown_outcome_is_not_forgotten_when_the_next_attempt_fails(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.use(ROOMS)
    witness, alice = await setup.connect("bob", "lobby"), await setup.connect("alice")
    codes = []
    for error in (BrokerTimeout("unknown"), BrokerUnavailable("away")):

        async def fail(*_: object, error: Exception = error) -> Any:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(setup.services.broker, "append_all", fail)
            codes.append(await alice.code("join", LOBBY))

    assert await alice.ask("join", LOBBY) == "joined"
    assert codes == ["broker_timeout", "broker_unavailable"]
    assert await announced(setup, witness) == ["joined"]


async def test_repeat_that_names_another_room_announces_nothing_there(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.use(ROOMS)
    witness, alice = await setup.connect("bob", "other"), await setup.connect("alice")
    await alice.ask_all("plain_join", "other")
    UnsureBroker(setup, accepts=False).use(setup, monkeypatch)
    assert await alice.code("join", LOBBY) == "broker_timeout"

    assert await alice.ask("join", LOBBY | {"room": "other"}) == "joined"
    assert await announced(setup, witness) == []
