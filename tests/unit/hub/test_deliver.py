"""Delivery by the hub: recipients, order and cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND, REVOKED
from gateway.domain.messages import Address, DisconnectCommand, Message, keyed_id, new_id
from gateway.domain.names import user_room
from gateway.domain.positions import Position
from gateway.hub import Connection, ConnectionState, Hub
from gateway.hub.fan_out import LARGE_BYTES, MAX_SLICE_SECONDS, SLOW_SEND_SECONDS, STEP
from gateway.interfaces import Frames
from gateway.metrics import MetricFactory
from tests.support.loop_turns import with_turns
from tests.support.metrics import counted
from tests.unit.hub.transports import RecordingTransport, connection, encode

POSITION = Position("1-0")


class HubHarness:
    """A hub and its metrics."""

    def __init__(self, *, has_sockets: bool) -> None:
        self.has_sockets = has_sockets
        self.encoded = 0
        self.metrics = MetricFactory()
        self.hub = Hub(self._encode, metrics=self.metrics)

    @property
    def delivered(self) -> float:
        """The connections that messages were sent to, added up."""
        return sum(counted(self.metrics, "deliveries_total").values())

    def _encode(self, message: Message, position: Position | None, /, *, ack_id: int | None = None) -> Frames:
        self.encoded += 1
        return encode(message, position, ack_id=ack_id)

    def join(
        self,
        sid: str,
        *rooms: str,
        user: str = "alice",
        namespace: str = "/",
        state: ConnectionState = ConnectionState.LIVE,
    ) -> tuple[Connection, RecordingTransport]:
        made, transport = connection(sid, user, namespace=namespace, state=state, has_socket=self.has_sockets)
        self.hub.add(made, {user_room(user), sid, *rooms})
        return made, transport

    async def push(self, *rooms: str, event: str = "news", namespace: str = "/", exclude: str = "") -> None:
        excluded = frozenset(exclude.split())
        await self.hub.deliver(Message(new_id(), namespace, rooms, event, (), exclude=excluded), POSITION)

    async def disconnect_user(
        self, user: str, *namespaces: str, revoke: bool = False, exclude: str = ""
    ) -> None:
        command = DisconnectCommand(
            new_id(), user, namespaces or ("/",), 0.0, frozenset(exclude.split()), revoke
        )
        await self.hub.deliver(command, POSITION)


@pytest.fixture(params=[False, True], ids=["by transport", "by socket"])
def harness(request: pytest.FixtureRequest) -> HubHarness:
    return HubHarness(has_sockets=request.param)


def repeated(room: str, key: str = "k") -> Message:
    """Return the message of a request with an idempotency key; each call is another request with it."""
    return Message(keyed_id("backend POST /emit/room", key, "body"), "/", (room,), "news", ())


async def test_repeat_of_a_key_is_not_sent_again_to_a_connection_that_got_the_first_one(
    harness: HubHarness,
) -> None:
    before, got_first = harness.join("a", "room")
    before.go_live()
    await harness.hub.deliver(repeated("room"), POSITION)
    later, _ = harness.join("b", "room", state=ConnectionState.CONNECTING)
    later.go_live()

    await harness.hub.deliver(repeated("room"), POSITION)
    await harness.hub.deliver(repeated("room"), POSITION)

    assert got_first.events == ["news"]
    assert harness.delivered == 2


async def test_repeat_of_a_key_is_sent_to_a_connection_whose_rooms_have_changed(harness: HubHarness) -> None:
    made, transport = harness.join("a")
    made.go_live()
    other, _ = harness.join("b", "room")
    other.go_live()
    await harness.hub.deliver(repeated("room"), POSITION)
    harness.hub.change_rooms(made, {*made.rooms, "room"})

    await harness.hub.deliver(repeated("room"), POSITION)

    assert transport.events == ["news"]


async def test_messages_with_different_keys_are_all_sent(harness: HubHarness) -> None:
    made, transport = harness.join("a", "room")
    made.go_live()

    await harness.hub.deliver(repeated("room", "k1"), POSITION)
    await harness.hub.deliver(repeated("room", "k2"), POSITION)

    assert transport.events == ["news", "news"]


# recipients


async def test_message_is_sent_to_its_room_only(harness: HubHarness) -> None:
    _, inside = harness.join("a", "org:7")
    _, outside = harness.join("b", "org:8")

    await harness.push("org:7")

    assert (inside.events, outside.events, harness.delivered) == (["news"], [], 1)


async def test_connection_in_several_of_the_rooms_gets_a_message_once(harness: HubHarness) -> None:
    _, both = harness.join("a", "x", "y")
    _, one = harness.join("b", "y")

    await harness.push("x", "y", "empty")

    assert (both.events, one.events, harness.delivered) == (["news"], ["news"], 2)


async def test_message_is_sent_only_to_connections_in_each_of_the_rooms_of_all(harness: HubHarness) -> None:
    joined = {
        sid: harness.join(sid, *rooms.split())[1]
        for sid, rooms in {"a": "x p q", "b": "x p", "c": "p q", "d": "y q p", "e": "x q p not"}.items()
    }
    sent = Message(new_id(), "/", ("x", "y"), "news", (), frozenset({"not"}), all_of=("p", "q"))

    await harness.hub.deliver(sent, POSITION)
    await harness.hub.deliver(sent._replace(rooms=(), exclude=frozenset()), POSITION)
    await harness.hub.deliver(sent._replace(all_of=("p", "empty")), POSITION)

    received = {sid: len(transport.events) for sid, transport in joined.items()}
    assert received == {"a": 2, "b": 0, "c": 1, "d": 2, "e": 1}


async def test_message_without_rooms_is_sent_to_everyone_in_the_namespace(harness: HubHarness) -> None:
    _, here = harness.join("a")
    _, there = harness.join("b", namespace="/events")

    await harness.push()

    assert (here.events, there.events) == (["news"], [])


async def test_same_room_name_in_another_namespace_is_another_room(harness: HubHarness) -> None:
    _, here = harness.join("a", "x")
    _, there = harness.join("b", "x", namespace="/events")

    await harness.push("x", namespace="/events")

    assert (here.events, there.events) == ([], ["news"])


@pytest.mark.parametrize("excluded", ["staff", "b", "staff b empty", "user:bob"])
async def test_connection_excluded_by_room_or_sid_gets_nothing(harness: HubHarness, excluded: str) -> None:
    _, alice = harness.join("a", "org:7")
    _, bob = harness.join("b", "org:7", "staff", user="bob")

    await harness.push("org:7", exclude=excluded)

    assert (alice.events, bob.events, harness.delivered) == (["news"], [], 1)


async def test_connection_is_alone_in_the_room_of_its_sid(harness: HubHarness) -> None:
    _, first = harness.join("a")
    _, second = harness.join("b")

    await harness.push("b")

    assert (first.events, second.events) == ([], ["news"])


@pytest.mark.parametrize(
    "state", [ConnectionState.CONNECTING, ConnectionState.REPLAYING, ConnectionState.CLOSED]
)
async def test_connection_that_is_not_live_gets_nothing(harness: HubHarness, state: ConnectionState) -> None:
    _, transport = harness.join("a", "x", state=state)

    await harness.push("x")

    assert (transport.events, harness.delivered) == ([], 0)


async def test_message_is_encoded_once_and_never_without_recipients(harness: HubHarness) -> None:
    transports = [harness.join(str(number), "x")[1] for number in range(10)]

    await harness.push("empty")
    await harness.push("x")

    assert harness.encoded == 1
    assert len({id(transport.frames[0]) for transport in transports}) == 1


async def test_volatile_flag_is_passed_to_the_transport(harness: HubHarness) -> None:
    _, transport = harness.join("a", "x")
    transport.bytes_waiting = 1

    await harness.hub.deliver(Message(new_id(), "/", ("x",), "news", (), volatile=True), POSITION)

    assert transport.volatile == [True]


# disconnect commands


@pytest.mark.parametrize(("revoke", "reason"), [(False, DISCONNECTED_BY_BACKEND), (True, REVOKED)])
async def test_disconnect_command_ends_the_live_connections_of_its_user(
    harness: HubHarness, revoke: bool, reason: object
) -> None:
    _, alice = harness.join("a")
    _, elsewhere = harness.join("b", namespace="/events")
    _, bob = harness.join("c", user="bob")

    await harness.disconnect_user("alice", revoke=revoke)

    assert (alice.disconnects, elsewhere.disconnects, bob.disconnects) == ([reason], [], [])


async def test_disconnect_command_for_several_namespaces_ends_all_but_excluded_connections(
    harness: HubHarness,
) -> None:
    _, spared = harness.join("a")
    _, main = harness.join("b")
    _, events = harness.join("c", namespace="/events")

    await harness.disconnect_user("alice", "/", "/events", exclude="a")

    assert (spared.disconnects, main.disconnects, events.disconnects) == (
        [],
        [DISCONNECTED_BY_BACKEND],
        [DISCONNECTED_BY_BACKEND],
    )


async def test_disconnect_command_marks_a_connection_that_is_connecting(harness: HubHarness) -> None:
    connecting, transport = harness.join("a", state=ConnectionState.CONNECTING)

    await harness.disconnect_user("alice")

    assert (connecting.was_disconnected, transport.disconnects) == (True, [])


async def test_disconnect_command_ignores_a_closed_connection(harness: HubHarness) -> None:
    closed, transport = harness.join("a", state=ConnectionState.CLOSED)

    await harness.disconnect_user("alice")

    assert (closed.state, transport.disconnects) == (ConnectionState.CLOSED, [])


# membership


def test_first_and_last_connection_at_an_address_are_reported(harness: HubHarness) -> None:
    first, _ = connection("a")
    second, _ = connection("b")

    assert set(harness.hub.add(first, {"x", "a"})) == {
        Address("/", None),
        Address("/", "x"),
        Address("/", "a"),
    }
    assert harness.hub.add(second, {"x", "b"}) == [Address("/", "b")]
    assert harness.hub.remove(first) == [Address("/", "a")]
    assert set(harness.hub.remove(second)) == {Address("/", None), Address("/", "x"), Address("/", "b")}
    assert not harness.hub.has(Address("/", "x"))


def test_removing_twice_changes_nothing(harness: HubHarness) -> None:
    made, _ = harness.join("a", "x")
    harness.hub.remove(made)

    assert harness.hub.remove(made) == []
    assert (harness.hub.connections, harness.hub.connections_of("alice")) == ({}, 0)


def test_change_of_rooms_reports_the_difference(harness: HubHarness) -> None:
    made, _ = harness.join("a", "old", "kept")
    harness.join("b", "shared")

    joined, left = harness.hub.change_rooms(made, {user_room("alice"), "a", "kept", "new", "shared"})

    assert (joined, left) == ([Address("/", "new")], [Address("/", "old")])


def test_removed_connection_joins_no_room_again(harness: HubHarness) -> None:
    made, _ = harness.join("a", "x")
    harness.hub.remove(made)

    assert harness.hub.change_rooms(made, {"y"}) == ([], [])
    assert not harness.hub.has(Address("/", "y"))


def test_connections_of_a_user_are_counted_over_namespaces(harness: HubHarness) -> None:
    made, _ = harness.join("a")
    harness.join("b", namespace="/events")
    harness.join("c", user="bob")

    counts = [harness.hub.connections_of(user) for user in ("alice", "bob", "carol")]
    harness.hub.remove(made)

    assert (counts, harness.hub.connections_of("alice")) == ([2, 1, 0], 1)


# long deliveries


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every reading of the clock a slice later."""
    ticks = iter(range(10**9))
    monkeypatch.setattr("gateway.hub.fan_out.time.monotonic", lambda: float(next(ticks)))


@pytest.mark.parametrize(
    ("event", "recipients_a_turn"), [("news", STEP), ("n" * LARGE_BYTES, 1)], ids=["small", "large"]
)
async def test_long_delivery_yields_to_the_event_loop(
    harness: HubHarness, slow: None, event: str, recipients_a_turn: int
) -> None:
    for number in range(1000):
        harness.join(str(number), "x")

    _, turns = await with_turns(harness.push("x", event=event))

    assert turns == pytest.approx(1000 / recipients_a_turn, abs=2)
    assert harness.delivered == 1000


async def test_connections_may_join_and_leave_during_a_long_delivery_and_order_is_kept(
    harness: HubHarness, slow: None
) -> None:
    transports = [harness.join(str(number), "x") for number in range(500)]
    late: list[RecordingTransport] = []

    async def join_and_leave() -> None:
        for number in range(500):
            made = transports[499 - number][0]
            if number % 2:
                harness.hub.remove(made)
                made.close()
            late.append(harness.join(f"late{number}", "x")[1])
            await asyncio.sleep(0)

    joining = asyncio.create_task(join_and_leave())
    for event in ("one", "two", "three"):
        await harness.push("x", event=event)
    joining.cancel()

    everything = ["one", "two", "three"]
    assert late
    for transport in [transport for _, transport in transports]:
        assert transport.events == everything[: len(transport.events)]
    for transport in late:
        assert transport.events == everything[3 - len(transport.events) :]
    assert all(
        transport.events == everything for made, transport in transports if made.state is ConnectionState.LIVE
    )


async def test_client_that_is_dropped_by_its_own_message_does_not_affect_others(harness: HubHarness) -> None:
    made, transport = harness.join("a", "x")
    others = [harness.join(str(number), "x")[1] for number in range(200)]

    def drop() -> None:
        made.close()
        harness.hub.remove(made)

    transport.on_send = drop
    await harness.push("x")

    assert all(other.events == ["news"] for other in others)


# costs


class CountingRooms(dict[tuple[str, str | None], dict[Connection, None]]):
    """Counts look-ups; iterating over all rooms fails."""

    def __init__(self, rooms: dict[tuple[str, str | None], dict[Connection, None]]) -> None:
        super().__init__(rooms)
        self.looked_up = 0

    def __getitem__(self, address: tuple[str, str | None]) -> dict[Connection, None]:
        self.looked_up += 1
        return super().__getitem__(address)

    def get(self, address: tuple[str, str | None], default: Any = None) -> Any:
        self.looked_up += 1
        return super().get(address, default)

    def __iter__(self) -> Iterator[Address]:
        raise AssertionError("iterated over all rooms")

    def values(self) -> Any:
        raise AssertionError("iterated over all rooms")

    def items(self) -> Any:
        raise AssertionError("iterated over all rooms")


def test_add_and_remove_touch_only_the_rooms_of_the_connection(harness: HubHarness) -> None:
    for number in range(1000):
        harness.join(f"sid{number}", f"room{number}", user=f"user{number}")
    rooms = harness.hub._members = CountingRooms(harness.hub._members)
    made, _ = harness.join("a", "x", "y")
    harness.hub.change_rooms(made, {"a", "y", "z"})
    harness.hub.remove(made)

    assert rooms.looked_up <= 5 + 4 + 5


# past the transport


async def test_socket_with_waiting_bytes_is_left_to_the_transport() -> None:
    harness = HubHarness(has_sockets=True)
    _, transport = harness.join("a", "x")

    transport.bytes_waiting = 1
    await harness.push("x", event="waiting")
    transport.bytes_waiting = 0
    await harness.push("x", event="direct")

    assert (transport.events, len(transport.sent), harness.delivered) == (["waiting", "direct"], 1, 2)


@pytest.mark.parametrize("state", [ConnectionState.CONNECTING, ConnectionState.REPLAYING])
async def test_socket_is_not_written_to_before_its_connection_is_live(state: ConnectionState) -> None:
    harness = HubHarness(has_sockets=True)
    made, transport = harness.join("a", "x", state=state)

    await harness.push("x", event="early")
    made.on_transport_changed()
    await harness.push("x", event="still early")

    assert (transport.events, harness.delivered) == ([], 0)


async def test_upgraded_connection_is_written_to_at_its_new_socket() -> None:
    harness = HubHarness(has_sockets=False)
    made, transport = harness.join("a", "x")

    await harness.push("x", event="by the transport")
    transport.has_socket = True
    made.on_transport_changed()
    await harness.push("x", event="by the socket")

    assert (transport.events, len(transport.sent)) == (["by the transport", "by the socket"], 1)


async def test_socket_of_a_closed_connection_is_not_written_to() -> None:
    harness = HubHarness(has_sockets=True)
    made, transport = harness.join("a", "x")

    made.close()
    made.on_transport_changed()
    await harness.push("x")

    assert (transport.events, harness.delivered) == ([], 0)


async def test_work_that_transports_do_later_counts_to_the_slice() -> None:
    harness = HubHarness(has_sockets=False)
    for number in range(1000):
        harness.join(str(number), "x")

    _, turns = await with_turns(harness.push("x"))

    assert turns >= 0.7 * 1000 * SLOW_SEND_SECONDS / MAX_SLICE_SECONDS


async def test_collecting_recipients_yields_as_well(slow: None) -> None:
    harness = HubHarness(has_sockets=True)
    rooms = [f"room{number}" for number in range(100)]
    harness.join("a", *rooms)

    _, turns = await with_turns(harness.push(*rooms, exclude="b c d"))

    assert turns >= 100 // STEP
    assert harness.delivered == 1


# variants


async def test_positions_are_sent_to_those_that_want_them_and_each_variant_is_encoded_once(
    harness: HubHarness,
) -> None:
    plain = [harness.join(f"p{number}", "x")[1] for number in range(3)]
    positioned = []
    for number in range(3):
        made, transport = harness.join(f"w{number}", "x")
        made.wants_offsets = True
        positioned.append(transport)

    await harness.push("x")

    assert [transport.events for transport in plain] == [["news"]] * 3
    assert [transport.events for transport in positioned] == [[f"news@{POSITION}"]] * 3
    assert (harness.encoded, harness.delivered) == (2, 6)
    assert len({id(transport.frames[0]) for transport in positioned}) == 1


async def test_variant_without_recipients_is_not_encoded(harness: HubHarness) -> None:
    made, _ = harness.join("a", "x")
    made.wants_offsets = True

    await harness.push("x")

    assert harness.encoded == 1


# metrics


async def test_connection_that_took_nothing_is_not_counted() -> None:
    harness = HubHarness(has_sockets=False)
    _, accepting = harness.join("a", "x")
    _, rejecting = harness.join("b", "x")
    rejecting.accepts = False

    await harness.push("x")

    assert (accepting.events, harness.delivered) == (["news"], 1)


@pytest.mark.parametrize(
    ("state", "skipped"), [(ConnectionState.REPLAYING, {"replaying": 1}), (ConnectionState.CONNECTING, {})]
)
async def test_volatile_message_skipped_by_a_replaying_connection_is_counted(
    harness: HubHarness, state: ConnectionState, skipped: dict[str, float]
) -> None:
    harness.join("a", "x", state=state)

    await harness.hub.deliver(Message(new_id(), "/", ("x",), "now", (), volatile=True), POSITION)

    assert (harness.delivered, counted(harness.metrics, "volatile_skipped_total")) == (0, skipped)


def test_users_and_rooms_are_those_with_a_connection(harness: HubHarness) -> None:
    first, _ = harness.join("a", "org:7", "org:8")
    second, _ = harness.join("b", "org:7")
    third, _ = harness.join("c", user="bob", namespace="/events")
    # user:alice, org:7, org:8, and user:bob in the other namespace; neither sids nor namespaces
    assert (harness.hub.users, harness.hub.rooms) == (2, 4)

    harness.hub.change_rooms(first, {"user:alice", "a"})
    harness.hub.remove(third)
    assert (harness.hub.users, harness.hub.rooms) == (1, 2)

    harness.hub.remove(first)
    harness.hub.remove(second)
    assert (harness.hub.users, harness.hub.rooms) == (0, 0)
