"""Who gets an entry, in what order, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND, REVOKED
from gateway.domain.messages import Address, DisconnectCommand, Message, new_id
from gateway.domain.names import user_room
from gateway.domain.positions import Position
from gateway.hub import Connection, ConnectionState, Hub
from gateway.hub.registry import LARGE_BYTES, MAX_SLICE_SECONDS, SLOW_SEND_SECONDS, STEP
from gateway.interfaces import Frames
from gateway.metrics import MetricFactory
from tests.support.loop_turns import with_turns
from tests.support.metrics import counted
from tests.unit.hub.transports import RecordingTransport, connection, encode

POSITION = Position("1-0")


class World:
    """A hub, and what it counts."""

    def __init__(self, *, has_sockets: bool) -> None:
        self.has_sockets = has_sockets
        self.encoded = 0
        self.metrics = MetricFactory()
        self.hub = Hub(self._encode, metrics=self.metrics)

    @property
    def delivered(self) -> float:
        """To how many connections messages went, added up."""
        return sum(counted(self.metrics, "deliveries_total").values())

    def _encode(self, message: Message, position: Position | None) -> Frames:
        self.encoded += 1
        return encode(message, position)

    def join(
        self,
        sid: str,
        *rooms: str,
        user: str = "alice",
        namespace: str = "/",
        state: ConnectionState = ConnectionState.LIVE,
    ) -> tuple[Connection, RecordingTransport]:
        made, link = connection(sid, user, namespace=namespace, state=state, has_socket=self.has_sockets)
        self.hub.add(made, {user_room(user), sid, *rooms})
        return made, link

    async def push(self, *rooms: str, event: str = "news", namespace: str = "/", exclude: str = "") -> None:
        excluded = frozenset(exclude.split())
        await self.hub.deliver(Message(new_id(), namespace, rooms, event, (), exclude=excluded), POSITION)

    async def disconnect_user(
        self, user: str, *namespaces: str, revoke: bool = False, exclude: str = ""
    ) -> None:
        kick = DisconnectCommand(
            new_id(), user, namespaces or ("/",), 0.0, frozenset(exclude.split()), revoke
        )
        await self.hub.deliver(kick, POSITION)


@pytest.fixture(params=[False, True], ids=["by the link", "by the socket"])
def world(request: pytest.FixtureRequest) -> World:
    return World(has_sockets=request.param)


# who gets it


async def test_message_is_sent_to_its_room_only(world: World) -> None:
    _, inside = world.join("a", "org:7")
    _, outside = world.join("b", "org:8")

    await world.push("org:7")

    assert (inside.events, outside.events, world.delivered) == (["news"], [], 1)


async def test_connection_in_several_of_the_rooms_gets_a_message_once(world: World) -> None:
    _, both = world.join("a", "x", "y")
    _, one = world.join("b", "y")

    await world.push("x", "y", "nobody")

    assert (both.events, one.events, world.delivered) == (["news"], ["news"], 2)


async def test_message_without_rooms_is_sent_to_everyone_in_the_namespace(world: World) -> None:
    _, here = world.join("a")
    _, there = world.join("b", namespace="/events")

    await world.push()

    assert (here.events, there.events) == (["news"], [])


async def test_same_room_name_in_another_namespace_is_another_room(world: World) -> None:
    _, here = world.join("a", "x")
    _, there = world.join("b", "x", namespace="/events")

    await world.push("x", namespace="/events")

    assert (here.events, there.events) == ([], ["news"])


@pytest.mark.parametrize("excluded", ["staff", "b", "staff b nobody", "user:bob"])
async def test_connection_excluded_by_room_or_sid_gets_nothing(world: World, excluded: str) -> None:
    _, alice = world.join("a", "org:7")
    _, bob = world.join("b", "org:7", "staff", user="bob")

    await world.push("org:7", exclude=excluded)

    assert (alice.events, bob.events, world.delivered) == (["news"], [], 1)


async def test_connection_is_alone_in_the_room_of_its_sid(world: World) -> None:
    _, first = world.join("a")
    _, second = world.join("b")

    await world.push("b")

    assert (first.events, second.events) == ([], ["news"])


@pytest.mark.parametrize(
    "state", [ConnectionState.CONNECTING, ConnectionState.REPLAYING, ConnectionState.CLOSED]
)
async def test_connection_that_is_not_live_gets_nothing(world: World, state: ConnectionState) -> None:
    _, link = world.join("a", "x", state=state)

    await world.push("x")

    assert (link.events, world.delivered) == ([], 0)


async def test_message_is_encoded_once_and_never_without_recipients(world: World) -> None:
    links = [world.join(str(number), "x")[1] for number in range(10)]

    await world.push("nobody")
    await world.push("x")

    assert world.encoded == 1
    assert len({id(link.frames[0]) for link in links}) == 1


async def test_volatile_flag_is_passed_to_the_transport(world: World) -> None:
    _, link = world.join("a", "x")
    link.bytes_waiting = 1

    await world.hub.deliver(Message(new_id(), "/", ("x",), "news", (), volatile=True), POSITION)

    assert link.volatile == [True]


# kicks


@pytest.mark.parametrize(("revoke", "ending"), [(False, DISCONNECTED_BY_BACKEND), (True, REVOKED)])
async def test_disconnect_command_ends_the_live_connections_of_its_user(
    world: World, revoke: bool, ending: object
) -> None:
    _, alice = world.join("a")
    _, elsewhere = world.join("b", namespace="/events")
    _, bob = world.join("c", user="bob")

    await world.disconnect_user("alice", revoke=revoke)

    assert (alice.disconnects, elsewhere.disconnects, bob.disconnects) == ([ending], [], [])


async def test_disconnect_command_for_several_namespaces_ends_all_but_excluded_connections(
    world: World,
) -> None:
    _, spared = world.join("a")
    _, main = world.join("b")
    _, events = world.join("c", namespace="/events")

    await world.disconnect_user("alice", "/", "/events", exclude="a")

    assert (spared.disconnects, main.disconnects, events.disconnects) == (
        [],
        [DISCONNECTED_BY_BACKEND],
        [DISCONNECTED_BY_BACKEND],
    )


async def test_disconnect_command_marks_a_connection_that_is_connecting(world: World) -> None:
    arriving, link = world.join("a", state=ConnectionState.CONNECTING)

    await world.disconnect_user("alice")

    assert (arriving.was_disconnected, link.disconnects) == (True, [])


async def test_disconnect_command_ignores_a_closed_connection(world: World) -> None:
    gone, link = world.join("a", state=ConnectionState.CLOSED)

    await world.disconnect_user("alice")

    assert (gone.state, link.disconnects) == (ConnectionState.CLOSED, [])


# membership


def test_first_and_last_connection_at_an_address_are_reported(world: World) -> None:
    first, _ = connection("a")
    second, _ = connection("b")

    assert set(world.hub.add(first, {"x", "a"})) == {Address("/", None), Address("/", "x"), Address("/", "a")}
    assert world.hub.add(second, {"x", "b"}) == [Address("/", "b")]
    assert world.hub.remove(first) == [Address("/", "a")]
    assert set(world.hub.remove(second)) == {Address("/", None), Address("/", "x"), Address("/", "b")}
    assert not world.hub.has(Address("/", "x"))


def test_removing_twice_changes_nothing(world: World) -> None:
    made, _ = world.join("a", "x")
    world.hub.remove(made)

    assert world.hub.remove(made) == []
    assert (world.hub.connections, world.hub.connections_of("alice")) == ({}, 0)


def test_change_of_rooms_reports_the_difference(world: World) -> None:
    made, _ = world.join("a", "old", "kept")
    world.join("b", "shared")

    joined, left = world.hub.change_rooms(made, {user_room("alice"), "a", "kept", "new", "shared"})

    assert (joined, left) == ([Address("/", "new")], [Address("/", "old")])


def test_removed_connection_joins_no_room_again(world: World) -> None:
    made, _ = world.join("a", "x")
    world.hub.remove(made)

    assert world.hub.change_rooms(made, {"y"}) == ([], [])
    assert not world.hub.has(Address("/", "y"))


def test_connections_of_a_user_are_counted_over_namespaces(world: World) -> None:
    made, _ = world.join("a")
    world.join("b", namespace="/events")
    world.join("c", user="bob")

    counts = [world.hub.connections_of(user) for user in ("alice", "bob", "carol")]
    world.hub.remove(made)

    assert (counts, world.hub.connections_of("alice")) == ([2, 1, 0], 1)


# long deliveries


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is a slice later."""
    ticks = iter(range(10**9))
    monkeypatch.setattr("gateway.hub.registry.time.monotonic", lambda: float(next(ticks)))


@pytest.mark.parametrize(
    ("event", "recipients_a_turn"), [("news", STEP), ("n" * LARGE_BYTES, 1)], ids=["small", "large"]
)
async def test_long_delivery_yields_to_the_event_loop(
    world: World, slow: None, event: str, recipients_a_turn: int
) -> None:
    for number in range(1000):
        world.join(str(number), "x")

    _, turns = await with_turns(world.push("x", event=event))

    assert turns == pytest.approx(1000 / recipients_a_turn, abs=2)
    assert world.delivered == 1000


async def test_connections_may_join_and_leave_during_a_long_delivery_and_order_is_kept(
    world: World, slow: None
) -> None:
    links = [world.join(str(number), "x") for number in range(500)]
    late: list[RecordingTransport] = []

    async def come_and_go() -> None:
        for number in range(500):
            made = links[499 - number][0]
            if number % 2:
                world.hub.remove(made)
                made.close()
            late.append(world.join(f"late{number}", "x")[1])
            await asyncio.sleep(0)

    moving = asyncio.create_task(come_and_go())
    for event in ("one", "two", "three"):
        await world.push("x", event=event)
    moving.cancel()

    everything = ["one", "two", "three"]
    assert late
    for link in [link for _, link in links]:
        assert link.events == everything[: len(link.events)]
    for link in late:
        assert link.events == everything[3 - len(link.events) :]
    assert all(link.events == everything for made, link in links if made.state is ConnectionState.LIVE)


async def test_client_that_is_dropped_by_its_own_message_does_not_affect_others(world: World) -> None:
    made, link = world.join("a", "x")
    others = [world.join(str(number), "x")[1] for number in range(200)]

    def drop() -> None:
        made.close()
        world.hub.remove(made)

    link.on_send = drop
    await world.push("x")

    assert all(other.events == ["news"] for other in others)


# costs


class CountingRooms(dict[Address, dict[Connection, None]]):
    """Counts look-ups, and fails whoever walks over all rooms."""

    def __init__(self, rooms: dict[Address, dict[Connection, None]]) -> None:
        super().__init__(rooms)
        self.looked_up = 0

    def __getitem__(self, address: Address) -> dict[Connection, None]:
        self.looked_up += 1
        return super().__getitem__(address)

    def get(self, address: Address, default: Any = None) -> Any:
        self.looked_up += 1
        return super().get(address, default)

    def __iter__(self) -> Iterator[Address]:
        raise AssertionError("walked over all rooms")

    def values(self) -> Any:
        raise AssertionError("walked over all rooms")

    def items(self) -> Any:
        raise AssertionError("walked over all rooms")


def test_add_and_remove_touch_only_the_rooms_of_the_connection(world: World) -> None:
    for number in range(1000):
        world.join(f"sid{number}", f"room{number}", user=f"user{number}")
    rooms = world.hub._members = CountingRooms(world.hub._members)
    made, _ = world.join("a", "x", "y")
    world.hub.change_rooms(made, {"a", "y", "z"})
    world.hub.remove(made)

    assert rooms.looked_up <= 5 + 4 + 5


# past the link


async def test_socket_with_waiting_bytes_is_left_to_the_transport() -> None:
    world = World(has_sockets=True)
    _, link = world.join("a", "x")

    link.bytes_waiting = 1
    await world.push("x", event="behind")
    link.bytes_waiting = 0
    await world.push("x", event="direct")

    assert (link.events, len(link.sent), world.delivered) == (["behind", "direct"], 1, 2)


@pytest.mark.parametrize("state", [ConnectionState.CONNECTING, ConnectionState.REPLAYING])
async def test_socket_is_not_written_to_before_its_connection_is_live(state: ConnectionState) -> None:
    world = World(has_sockets=True)
    made, link = world.join("a", "x", state=state)

    await world.push("x", event="early")
    made.on_transport_changed()
    await world.push("x", event="still early")

    assert (link.events, world.delivered) == ([], 0)


async def test_upgraded_connection_is_written_to_at_its_new_socket() -> None:
    world = World(has_sockets=False)
    made, link = world.join("a", "x")

    await world.push("x", event="by the link")
    link.has_socket = True
    made.on_transport_changed()
    await world.push("x", event="by the socket")

    assert (link.events, len(link.sent)) == (["by the link", "by the socket"], 1)


async def test_socket_of_a_closed_connection_is_not_written_to() -> None:
    world = World(has_sockets=True)
    made, link = world.join("a", "x")

    made.close()
    made.on_transport_changed()
    await world.push("x")

    assert (link.events, world.delivered) == ([], 0)


async def test_work_that_transports_do_later_counts_to_the_slice() -> None:
    world = World(has_sockets=False)
    for number in range(1000):
        world.join(str(number), "x")

    _, turns = await with_turns(world.push("x"))

    assert turns >= 0.7 * 1000 * SLOW_SEND_SECONDS / MAX_SLICE_SECONDS


async def test_collecting_recipients_yields_as_well(slow: None) -> None:
    world = World(has_sockets=True)
    rooms = [f"room{number}" for number in range(100)]
    world.join("a", *rooms)

    _, turns = await with_turns(world.push(*rooms, exclude="b c d"))

    assert turns >= 100
    assert world.delivered == 1


# variants


async def test_positions_are_sent_to_those_that_want_them_and_each_variant_is_encoded_once(
    world: World,
) -> None:
    plain = [world.join(f"p{number}", "x")[1] for number in range(3)]
    positioned = []
    for number in range(3):
        made, link = world.join(f"w{number}", "x")
        made.wants_offsets = True
        positioned.append(link)

    await world.push("x")

    assert [link.events for link in plain] == [["news"]] * 3
    assert [link.events for link in positioned] == [[f"news@{POSITION}"]] * 3
    assert (world.encoded, world.delivered) == (2, 6)
    assert len({id(link.frames[0]) for link in positioned}) == 1


async def test_variant_without_recipients_is_not_encoded(world: World) -> None:
    made, _ = world.join("a", "x")
    made.wants_offsets = True

    await world.push("x")

    assert world.encoded == 1


# what is counted


async def test_connection_that_took_nothing_is_not_counted() -> None:
    world = World(has_sockets=False)
    _, takes = world.join("a", "x")
    _, refuses = world.join("b", "x")
    refuses.accepts = False

    await world.push("x")

    assert (takes.events, world.delivered) == (["news"], 1)


@pytest.mark.parametrize(
    ("state", "skipped"), [(ConnectionState.REPLAYING, {"replaying": 1}), (ConnectionState.CONNECTING, {})]
)
async def test_volatile_message_skipped_by_a_replaying_connection_is_counted(
    world: World, state: ConnectionState, skipped: dict[str, float]
) -> None:
    world.join("a", "x", state=state)

    await world.hub.deliver(Message(new_id(), "/", ("x",), "now", (), volatile=True), POSITION)

    assert (world.delivered, counted(world.metrics, "volatile_skipped_total")) == (0, skipped)


def test_users_and_rooms_are_those_with_a_connection(world: World) -> None:
    first, _ = world.join("a", "org:7", "org:8")
    second, _ = world.join("b", "org:7")
    third, _ = world.join("c", user="bob", namespace="/events")
    # user:alice, org:7, org:8 and in the other namespace user:bob; no sid, and not the namespaces themselves
    assert (world.hub.users, world.hub.rooms) == (2, 4)

    world.hub.change_rooms(first, {"user:alice", "a"})
    world.hub.remove(third)
    assert (world.hub.users, world.hub.rooms) == (1, 2)

    world.hub.remove(first)
    world.hub.remove(second)
    assert (world.hub.users, world.hub.rooms) == (0, 0)
