"""ClientEvents over the memory state: order, effects, acknowledgements, errors and limits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, ClientEventRejected
from gateway.domain.event_catalogue import (
    RESERVED_PREFIXES,
    Allow,
    AllowKind,
    Arguments,
    Glob,
    OnError,
    RoomRule,
)
from gateway.domain.webhooks import WebhookAnswer, WebhookEmission
from gateway.services.client_events import UNKNOWN_EVENT
from gateway.services.client_events.queue import MAX_CALLS, MAX_WAITING, SLOW_SECONDS
from tests.support.metrics import counted
from tests.support.waiter import await_until
from tests.unit.services.catalogue import (
    ANYONE,
    EVERYONE,
    MEMBERS,
    OTHERS,
    SELF,
    ask,
    catalogue,
    emit,
    entry,
    rule,
    template,
    to,
)
from tests.unit.services.harness import Services
from tests.unit.services.senders import Sender, Setup

OPEN = (rule("*", join=ANYONE, send=ANYONE),)


# without a catalogue, and unknown events


async def test_event_without_a_catalogue_is_unknown(setup: Setup) -> None:
    alice = await setup.connect("alice")

    assert await alice.ask("chat") == {"error": {"code": "unknown_event", "message": UNKNOWN_EVENT}}
    await alice.send("chat")

    assert alice.transport.emitted == [
        ("error", {"status": "error", "code": "unknown_event", "message": UNKNOWN_EVENT})
    ]


@pytest.mark.parametrize(
    ("error_event", "extra"), [("error", {}), ("exception", {"cause": {"pattern": "chat"}})]
)
async def test_unknown_event_is_named_where_there_is_a_catalogue(
    setup: Setup, error_event: str, extra: dict[str, object]
) -> None:
    setup.use(catalogue(error_event=error_event))
    alice = await setup.connect("alice")

    await alice.send("chat")
    await alice.send("chat")

    error = {"status": "error", "code": "unknown_event", "message": UNKNOWN_EVENT, "event": "chat"}
    assert alice.transport.emitted == [(error_event, error | extra)]
    assert setup.outcomes() == {"/  unknown_event": 2}


async def test_longest_pattern_decides_and_the_catalogue_can_be_replaced(setup: Setup) -> None:
    alice = await setup.connect("alice")
    setup.use(catalogue(entry("chat:*", ack="chat"), entry("*", ack="any")))

    assert [await alice.ask("chat:send"), await alice.ask("other")] == ["chat", "any"]
    setup.use(catalogue())
    assert await alice.code("other") == "unknown_event"


# join, leave, emit, ack


async def test_join_announces_to_others_and_answers_the_sender_behind_its_events(setup: Setup) -> None:
    setup.use(
        catalogue(
            entry(
                "join",
                join="$0",
                emit=(
                    emit(OTHERS, event="userJoined", data={"user": "$user"}),
                    emit(SELF, event="joinedRoom", data={"room": "$0"}),
                ),
                ack={"event": "joinedRoom", "room": "$0"},
            ),
            rules=OPEN,
        )
    )
    alice, bob = await setup.connect("alice"), await setup.connect("bob")
    await alice.ask("join", "lobby")

    assert await bob.ask("join", "lobby") == {"event": "joinedRoom", "room": "lobby"}
    assert bob.order == ["event", "ack"]
    assert bob.events == ["joinedRoom"]
    assert alice.events == ["joinedRoom", "userJoined"]
    assert "lobby" in bob.connection.rooms


async def test_joining_twice_announces_nothing_and_is_acknowledged(setup: Setup) -> None:
    setup.use(catalogue(entry("join", join="$0", emit=(emit(OTHERS, event="userJoined"),)), rules=OPEN))
    alice, bob = await setup.connect("alice"), await setup.connect("bob")
    await alice.ask_all("join", "lobby")
    await bob.ask_all("join", "lobby")

    assert await bob.ask_all("join", "lobby") == ()
    await setup.services.wait_delivered()
    assert alice.events == ["userJoined"]


async def test_event_that_is_only_acknowledged_is_handled_without_a_task(setup: Setup) -> None:
    setup.use(catalogue(entry("ask", ack="$0", args=Arguments((None,)))))
    alice = await setup.connect("alice")
    acks: list[object] = []

    handling = setup.services.client_events.handle(
        alice.connection, "ask", [5], lambda *given: acks.append(given)
    )

    assert (handling, acks) == (None, [(5,)])


async def test_leaving_announces_to_others(setup: Setup) -> None:
    setup.use(
        catalogue(
            entry("join", join="$0"),
            entry("leave", leave="$0", emit=(emit(OTHERS, event="userLeft"),), ack="left"),
            rules=OPEN,
        )
    )
    alice, bob = await setup.connect("alice", "org:7"), await setup.connect("bob")
    for each in (alice, bob):
        await each.ask_all("join", "lobby")

    assert [await alice.ask("leave", "lobby"), await alice.ask("leave", "lobby")] == ["left", "left"]
    await setup.services.wait_delivered()
    assert bob.events == ["userLeft"]
    assert "lobby" not in alice.connection.rooms
    assert await alice.code("leave", "org:7") == "not_allowed"
    assert await alice.code("leave", alice.connection.sid) == "not_allowed"


async def test_relay_reaches_each_connection_once(setup: Setup) -> None:
    targets = (to("room", ["a", "b", 7]), to("user", "$1"))
    setup.use(catalogue(entry("say", emit=(emit(*targets),)), rules=(rule("user:*", send=ANYONE), *OPEN)))
    alice = await setup.connect("alice", "a", "b")
    bob = await setup.connect("bob", "b")

    assert await alice.ask_all("say", "hi", "bob") == ()

    assert (alice.events, bob.events) == (["message"], ["message"])


async def test_everyone_needs_the_right_to_broadcast(setup: Setup) -> None:
    say = entry("say", emit=(emit(EVERYONE, except_self=True),))
    alice, bob = await setup.connect("alice"), await setup.connect("bob")
    setup.use(catalogue(say))
    assert await alice.code("say", 1) == "not_allowed"

    setup.use(catalogue(say, broadcast=ANYONE))
    assert await alice.ask_all("say", 1) == ()
    await setup.services.wait_delivered()
    assert (alice.events, bob.events) == ([], ["message"])


async def test_ack_is_sent_after_a_second_when_its_message_is_not_delivered(setup: Setup) -> None:
    setup.use(catalogue(entry("say", emit=(emit(SELF),), ack="sent")))
    alice = await setup.connect("alice")
    setup.services.delivery_gate.clear()
    await alice.start("say", 1)
    assert alice.acks == []

    setup.services.schedule.advance(1.0)
    assert alice.acks == [("sent",)]
    setup.services.delivery_gate.set()
    await setup.services.wait_delivered()
    assert alice.order == ["ack", "event"]
    assert setup.services.hub.delivery_callbacks == {}


# rights and limits


@pytest.mark.parametrize(
    ("event", "arguments", "code"),
    [
        ("say", [{"a": float("nan")}], "invalid_payload"),
        ("say", [b"\x00", {"_placeholder": True}], "invalid_payload"),
        ("say", [2**64], "invalid_payload"),
        ("say", ["\ud800"], "invalid_payload"),
        ("rejected", [], "rejected"),
        ("for_staff", [], "not_allowed"),
        ("to_room", ["members"], "not_a_member"),
        ("to_room", ["closed"], "not_allowed"),
        ("to_room", ["role:admin"], "not_allowed"),
        ("to_room", [7], "invalid_payload"),
        ("to_room", [[]], "invalid_payload"),
        ("to_room", [[""]], "invalid_payload"),
        ("to_room", [["open", "closed"]], "not_allowed"),
        ("to_room", [[f"room{number}" for number in range(101)]], "invalid_payload"),
        ("join", ["closed"], "not_allowed"),
        ("join", ["user:bob"], "not_allowed"),
        ("join", ["~abcdefghijklmnopqrst"], "not_allowed"),
        ("join", [{}], "invalid_payload"),
    ],
)
async def test_event_that_breaks_a_rule_has_no_effect(
    setup: Setup, event: str, arguments: list[object], code: str
) -> None:
    setup.use(
        catalogue(
            entry("say"),
            entry("rejected", reject="use the other event"),
            entry("for_staff", allow=(Glob("role:staff"),)),
            entry("to_room", emit=(emit(to("room", "$0")),)),
            entry("join", join="$0", emit=(emit(SELF),)),
            rules=(
                rule("members", send=MEMBERS),
                rule("open", send=ANYONE),
                rule("room*", send=ANYONE),
                rule("closed"),
            ),
        )
    )
    alice = await setup.connect("alice")
    before = alice.connection.rooms

    assert await alice.code(event, *arguments) == code
    assert (alice.connection.rooms, alice.events) == (before, [])
    assert setup.outcomes() == {f"/ {event} {code}": 1}


async def test_depth_of_arguments_is_limited(setup: Setup) -> None:
    setup.use(catalogue(entry("say")))
    alice = await setup.connect("alice")
    nested: list[Any] = []
    for _ in range(63):
        nested = [nested]

    assert await alice.ask_all("say", nested) == ()
    assert await alice.code("say", [nested]) == "invalid_payload"


async def test_rate_counts_each_connection_with_a_burst_of_two_seconds(setup: Setup) -> None:
    setup.use(catalogue(entry("say", rate=2, ack="sent")))
    alice, bob = await setup.connect("alice"), await setup.connect("bob")

    answers = [await alice.ask("say") for _ in range(5)]

    assert answers[:4] == ["sent"] * 4
    assert (answers[4]["error"]["code"], answers[4]["error"]["retryAfter"]) == ("rate_limited", 0.5)
    assert await bob.ask("say") == "sent"
    setup.services.schedule.advance(0.5)
    assert await alice.ask("say") == "sent"


async def test_user_rate_is_shared_by_the_connections_of_a_user(setup: Setup) -> None:
    setup.use(catalogue(entry("say", user_rate=1, ack="sent")))
    one, two = await setup.connect("alice"), await setup.connect("alice")

    assert [await one.ask("say"), await two.ask("say")] == ["sent", "sent"]
    assert await two.code("say") == "rate_limited"


async def test_too_many_rooms_are_rejected() -> None:
    setup = Setup(max_rooms=2)
    setup.use(catalogue(entry("join", join="$0"), rules=OPEN))
    alice = await setup.connect("alice")

    assert await alice.ask_all("join", "one") == ()
    assert await alice.code("join", "two") == "too_many_rooms"
    await setup.services.close()


# failures of the state


@pytest.mark.parametrize(
    ("error", "code", "stays"),
    [
        (BrokerUnavailable("away", retry_after_seconds=3), "broker_unavailable", False),
        (BrokerTimeout("unknown"), "broker_timeout", True),
    ],
)
async def test_join_is_undone_only_when_the_append_certainly_failed(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str, stays: bool
) -> None:
    setup.use(catalogue(entry("join", join="$0", emit=(emit(SELF),)), rules=OPEN))
    alice = await setup.connect("alice")

    async def fail(*_: object) -> Any:
        raise error

    monkeypatch.setattr(setup.services.broker, "append", fail)

    assert await alice.code("join", "lobby") == code
    assert ("lobby" in alice.connection.rooms) is stays
    assert setup.services.hub.delivery_callbacks == {}


async def test_errors_without_ack_are_one_event_a_second(setup: Setup) -> None:
    setup.use(catalogue(entry("say", reject="no")))
    alice = await setup.connect("alice")
    for _ in range(3):
        await alice.send("say")
    setup.services.schedule.advance(1.0)
    await alice.send("say")

    expected = ("error", {"status": "error", "code": "rejected", "message": "no", "event": "say"})
    assert alice.transport.emitted == [expected, expected]


async def test_on_error_emits_and_answers(setup: Setup) -> None:
    on_error = OnError(
        (emit(SELF, event="sorry", data="$error.code"),), template({"failed": "$error.message"})
    )
    setup.use(catalogue(entry("say", reject="no", on_error=on_error)))
    alice = await setup.connect("alice")

    assert await alice.ask("say") == {"failed": "no"}
    await setup.services.wait_delivered()
    assert alice.events == ["sorry"]
    await alice.send("say")
    await setup.services.wait_delivered()
    assert alice.events == ["sorry", "sorry"]
    assert alice.transport.emitted == []


# calls


async def test_answer_of_a_call_becomes_the_ack_and_takes_effect(setup: Setup) -> None:
    setup.use(catalogue(entry("buy", call="app")))
    setup.webhooks.answer = lambda _: WebhookAnswer(
        ack={"ok": True},
        has_ack=True,
        emit=(WebhookEmission("bought", (1,)), WebhookEmission("sold", (1,), {"room": "shop"})),
        join=("buyers",),
        set={"cart": 1},
        disconnect=True,
    )
    setup.webhooks.allowed = {"app emit:room shop", "app join buyers", "app disconnect alice"}
    alice, shop = await setup.connect("alice"), await setup.connect("keeper", "shop")

    assert await alice.ask("buy", {"id": 1}) == {"ok": True}

    assert alice.order == ["event", "ack"]
    assert (alice.events, shop.events) == (["bought"], ["sold"])
    assert "buyers" in alice.connection.rooms
    assert alice.connection.data == {"cart": 1}
    assert alice.transport.disconnects == [DISCONNECTED_BY_BACKEND]
    ((_, kind, data),) = setup.webhooks.calls
    assert kind == "client.event"
    assert data == {
        "namespace": "/",
        "event": "buy",
        "args": [{"id": 1}],
        "wants_ack": True,
        "mode": "call",
        "sequence": None,
        "connection": {
            "sid": alice.connection.sid,
            "user": "alice",
            "rooms": ["user:alice"],
            "data": {},
            "connected_at": "2023-11-14T22:13:20.000Z",
            "replica": "replica-1",
        },
    }


@pytest.mark.parametrize(
    "answer",
    [
        WebhookAnswer(emit=(WebhookEmission("message", (), {"room": "shop"}),)),
        WebhookAnswer(emit=(WebhookEmission("message", (), {"user": "bob"}),)),
        WebhookAnswer(emit=(WebhookEmission("message", (), "everyone"),)),
        WebhookAnswer(emit=(WebhookEmission("message", (), {"unknown": 1}),)),
        WebhookAnswer(emit=(WebhookEmission("message", (), 7),)),
        WebhookAnswer(emit=(WebhookEmission("connect", ()),)),
        WebhookAnswer(join=("lobby",)),
        WebhookAnswer(join=("user:bob",)),
        WebhookAnswer(leave=("lobby",)),
        WebhookAnswer(disconnect=True),
        WebhookAnswer(set={"text": "x" * 5000}),
    ],
)
async def test_answer_that_asks_for_too_much_has_no_effect(setup: Setup, answer: WebhookAnswer) -> None:
    setup.use(catalogue(entry("buy", call="app", emit=(emit(SELF),))))
    setup.webhooks.answer = lambda _: answer
    alice = await setup.connect("alice")
    before = alice.connection.rooms

    assert await alice.code("buy", 1) == "backend_error"
    await setup.services.wait_delivered()
    assert (alice.events, alice.connection.rooms, alice.connection.data) == ([], before, {})


async def test_room_rule_asks_the_webhook(setup: Setup) -> None:
    setup.use(catalogue(entry("join", join="$0", ack="joined"), rules=(rule("*", join=ask()),)))
    alice = await setup.connect("alice")

    assert await alice.ask("join", "lobby") == "joined"
    ((_, kind, data),) = setup.webhooks.calls
    assert (kind, data["room"]) == ("room.join", "lobby")
    setup.webhooks.error = ClientEventRejected("private", "the room is private")
    assert await alice.ask("join", "other") == {
        "error": {"code": "private", "message": "the room is private"}
    }
    assert "other" not in alice.connection.rooms
    assert setup.outcomes() == {"/ join ok": 1, "/ join rejected": 1}


async def test_call_lets_later_events_pass_but_not_if_it_is_serial(setup: Setup) -> None:
    setup.use(
        catalogue(
            entry("slow", call="app", ack="slow"),
            entry("serial", call="app", serial=True, ack="serial"),
            entry("fast", ack="fast"),
        )
    )
    alice = await setup.connect("alice")
    setup.webhooks.gate.clear()

    await alice.start("slow")
    assert await alice.ask("fast") == "fast"
    await alice.start("serial")
    await alice.start("fast")
    await await_until(lambda: len(setup.webhooks.calls) == 2, "both calls", pause_seconds=0)
    assert alice.acks == [("fast",)]
    setup.webhooks.gate.set()

    assert [first for (first,) in await alice.wait_acks(4)] == ["fast", "slow", "serial", "fast"]


async def test_call_whose_answer_may_change_rooms_lets_no_later_event_pass(setup: Setup) -> None:
    setup.use(
        catalogue(
            entry("enter", call="game"),
            entry("say", emit=(emit(to("room", "match:1")),)),
            rules=(rule("*", send=MEMBERS),),
        )
    )
    setup.webhooks.allowed = {"game join match:1"}
    setup.webhooks.answer = lambda _: WebhookAnswer(join=("match:1",))
    alice = await setup.connect("alice")
    setup.webhooks.gate.clear()
    await alice.start("enter")
    await alice.start("say", "hello")
    await await_until(lambda: len(setup.webhooks.calls) == 1, "the call", pause_seconds=0)
    assert alice.acks == []

    setup.webhooks.gate.set()
    assert await alice.wait_acks(2) == [(), ()]
    await setup.services.wait_delivered()
    assert alice.events == ["message"]


async def test_calls_and_waiting_events_of_a_connection_are_limited(setup: Setup) -> None:
    setup.use(catalogue(entry("slow", call="app"), entry("serial", call="app", serial=True), entry("fast")))
    alice, bob = await setup.connect("alice"), await setup.connect("bob")
    setup.webhooks.gate.clear()

    for _ in range(MAX_CALLS):
        await alice.start("slow")
    assert await alice.code("slow") == "busy"
    await bob.start("serial")
    for _ in range(MAX_WAITING):
        await bob.start("fast")
    assert await bob.code("fast") == "busy"
    carol = await setup.connect("carol")
    await carol.start("serial")
    await carol.start("fast", "x" * 200_000)
    assert await carol.code("fast", "x" * 100_000) == "busy"

    setup.webhooks.gate.set()
    await alice.wait_acks(MAX_CALLS + 1)
    assert len(await bob.wait_acks(MAX_WAITING + 2)) == MAX_WAITING + 2


async def test_events_that_wait_are_dropped_when_the_connection_is_closed(setup: Setup) -> None:
    setup.use(
        catalogue(entry("serial", call="app", serial=True, emit=(emit(to("room", "log")),)), rules=OPEN)
    )
    alice, witness = await setup.connect("alice"), await setup.connect("bob", "log")
    setup.webhooks.gate.clear()
    await alice.start("serial", 1)
    await alice.start("serial", 2)
    await await_until(lambda: len(setup.webhooks.calls) == 1, "the first call", pause_seconds=0)

    setup.services.disconnector.disconnect(alice.connection)
    setup.services.client_events.connection_closed(alice.connection)
    setup.webhooks.gate.set()
    await await_until(lambda: witness.events == ["message"], "the effect of the first", pause_seconds=0)
    await setup.services.wait_delivered()

    assert len(setup.webhooks.calls) == 1
    assert (witness.events, alice.acks) == (["message"], [])


async def test_tasks_end_when_the_gateway_stops(setup: Setup) -> None:
    setup.use(catalogue(entry("slow", call="app")))
    alice = await setup.connect("alice")
    setup.webhooks.gate.clear()
    await alice.start("slow")
    await await_until(lambda: len(setup.webhooks.calls) == 1, "the call", pause_seconds=0)

    await asyncio.wait_for(setup.services.client_events.close(), 5)

    assert counted(setup.services.metrics, "client_events_in_progress") == {}


# failures that leave nothing half done


async def test_rooms_that_only_tokens_grant_are_not_joined(setup: Setup) -> None:
    services = Services(webhooks=setup.webhooks, reserved_prefixes=(*RESERVED_PREFIXES, "team:"))
    services.client_events.catalogue = catalogue(entry("join", join="$0"), rules=OPEN)
    connection, transport = await services.connect_live(services.identity("alice"))
    alice = Sender(services, connection, transport)

    assert await alice.code("join", "team:admins") == "not_allowed"
    assert await alice.ask_all("join", "lobby") == ()
    await services.client_events.close()
    await services.close()


async def test_binary_argument_stops_no_queue(setup: Setup) -> None:
    on_error = OnError((emit(SELF, event="sorry", data="$0"),), template({"failed": "$0"}))
    setup.use(
        catalogue(entry("serial", call="app", serial=True), entry("say", args=Arguments(), on_error=on_error))
    )
    alice = await setup.connect("alice")
    setup.webhooks.gate.clear()
    await alice.start("serial")
    await alice.start("say", b"binary")
    await alice.start("say", b"binary", {"_placeholder": True})
    await alice.start("serial")
    setup.webhooks.gate.set()

    acks = await alice.wait_acks(4)

    assert [each for each in acks if each] == [({"failed": b"binary"},)]


async def test_event_whose_connection_closes_before_it_joins_has_no_effect(setup: Setup) -> None:
    asked = RoomRule(Glob("c:*"), Allow(AllowKind.CALL, webhook="app"))
    setup.use(catalogue(entry("join", join="$0", emit=(emit(SELF, event="joined"),)), rules=(asked,)))
    alice = await setup.connect("alice")
    setup.webhooks.gate.clear()
    await alice.start("join", "c:1")
    await await_until(lambda: len(setup.webhooks.calls) == 1, "the call", pause_seconds=0)

    setup.services.disconnector.disconnect(alice.connection)
    setup.webhooks.gate.set()
    await await_until(
        lambda: setup.outcomes().get("/ join dropped", 0) == 1, "the event is dropped", pause_seconds=0
    )

    assert alice.events == []


async def test_answer_to_a_join_that_asks_for_more_is_rejected(setup: Setup) -> None:
    asked = RoomRule(Glob("c:*"), Allow(AllowKind.CALL, webhook="app"))
    setup.use(catalogue(entry("join", join="$0"), rules=(asked,)))
    setup.webhooks.answer = lambda _: WebhookAnswer(set={"a": 1})
    alice = await setup.connect("alice")

    assert await alice.code("join", "c:1") == "backend_error"
    assert "c:1" not in alice.connection.rooms


async def test_event_joins_few_rooms_that_ask_a_webhook(setup: Setup) -> None:
    asked = RoomRule(Glob("c:*"), Allow(AllowKind.CALL, webhook="app"))
    setup.use(catalogue(entry("join", join="$0"), rules=(asked,)))
    alice = await setup.connect("alice")

    assert await alice.code("join", [f"c:{number}" for number in range(9)]) == "invalid_payload"
    assert setup.webhooks.calls == []


async def test_socket_data_stays_as_it_was_if_the_append_fails(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.use(catalogue(entry("buy", call="app", emit=(emit(SELF, event="bought"),))))
    setup.webhooks.answer = lambda _: WebhookAnswer(set={"a": 1})
    alice = await setup.connect("alice")

    async def fail(*_: object) -> Any:
        raise BrokerUnavailable("away")

    monkeypatch.setattr(setup.services.broker, "append", fail)

    assert await alice.code("buy", 1) == "broker_unavailable"
    assert alice.connection.data == {}


async def test_after_a_slow_event_the_next_ones_do_not_hold_up_the_reading(setup: Setup) -> None:
    setup.use(catalogue(entry("join", join="$0"), rules=OPEN))
    alice = await setup.connect("alice")
    broker, clock = setup.services.broker, setup.services.clock

    def take_long(_: object) -> None:
        clock.advance(2 * SLOW_SECONDS)

    broker.on_subscribe = take_long
    await alice.start("join", "a")
    broker.gate.clear()

    await alice.start("join", "b")
    await alice.start("join", "c")

    assert alice.acks == [()]
    broker.gate.set()
    await alice.wait_acks(3)
    assert alice.connection.joined_rooms == {"a", "b", "c"}


async def test_error_event_of_the_catalogue_is_sent_before_the_ack_of_the_error(setup: Setup) -> None:
    sorry = OnError((emit(SELF, event="sorry"),))
    setup.use(catalogue(entry("join", join="$0", on_error=sorry)))
    alice = await setup.connect("alice")

    assert await alice.code("join", "a") == "not_allowed"

    assert alice.order == ["event", "ack"]
