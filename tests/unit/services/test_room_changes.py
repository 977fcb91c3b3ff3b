"""Changes of rooms by a backend: for live, connecting and replaying connections, and for those that are away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.messages import DisconnectCommand, RoomChange, new_id
from gateway.domain.positions import Position, is_after
from gateway.hub import ConnectionState
from gateway.services import room_changes
from gateway.services.room_changes import RoomChangeResult
from tests.support.metrics import counted
from tests.support.waiter import TIMEOUT_SECONDS, await_until
from tests.unit.services.harness import ConnectedClient, Services


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    made = Services(max_rooms=6)
    yield made
    await made.close()


async def change(
    services: Services,
    *rooms: str,
    who: tuple[str, ...] = ("user:alice",),
    is_join: bool = True,
    exclude: str = "",
) -> RoomChangeResult:
    entry = RoomChange(new_id(), "/", who, rooms, is_join, frozenset(exclude.split()))
    return await services.room_change_publisher.change_rooms(entry)


async def join(services: Services, *rooms: str, **options: Any) -> RoomChangeResult:
    return await change(services, *rooms, **options)


async def leave(services: Services, *rooms: str, **options: Any) -> RoomChangeResult:
    return await change(services, *rooms, is_join=False, **options)


async def client(services: Services, *rooms: str, user: str = "alice") -> ConnectedClient:
    connected = await services.connect_client(services.identity(user, *rooms))
    await connected.wait_live()
    return connected


async def lose(services: Services, lost: ConnectedClient) -> None:
    services.disconnector.disconnect(lost.connection)
    await asyncio.wait_for(services.disconnector.flush(), TIMEOUT_SECONDS)


async def resume(services: Services, before: ConnectedClient, *rooms: str) -> ConnectedClient:
    after = await services.connect_client(services.identity("alice", *rooms), pid=before.pid)
    await after.wait_live()
    assert after.connection.sid == before.connection.sid
    return after


async def recipients(services: Services, room: str) -> tuple[int, int]:
    result = await services.broker.append(services.message(room))
    return result.connections, result.recoverable


def names(received: ConnectedClient) -> list[str]:
    """The names of the messages that a client received, without their positions."""
    return [name for name in received.event_names if name[0] in "mv"]


# live


async def test_after_the_answer_each_push_reaches_the_connections_and_none_from_before(
    services: Services,
) -> None:
    alice, bob = await client(services), await client(services, user="bob")
    await services.push("a", "m early")

    result = await join(services, "a", "b", who=("user:alice", "user:bob"), exclude=bob.connection.sid)
    await services.push("a", "m1")
    await services.push("b", "v1", volatile=True)
    await services.wait_delivered()

    assert (result.published.connections, result.rejected) == (2, 0)
    assert names(alice) == ["m1", "v1"]
    assert names(bob) == []
    assert await recipients(services, "a") == (1, 0)
    assert alice.connection.session is not None
    assert alice.connection.session.joined_rooms == alice.connection.joined_rooms == {"a", "b"}


async def test_room_is_left_for_what_comes_after_and_granted_rooms_are_not(services: Services) -> None:
    alice = await client(services, "granted")
    await join(services, "a")
    await services.push("a", "m1")
    await leave(services, "a", "granted", "unknown")
    await services.push("a", "m2")
    await services.push("granted", "m3")
    await services.wait_delivered()

    assert names(alice) == ["m1", "m3"]
    assert await recipients(services, "a") == (0, 0)


async def test_connection_over_the_limit_joins_none_of_the_rooms_and_is_counted(services: Services) -> None:
    alice, full = await client(services), await client(services, "c", "d", "e", "f")

    result = await join(services, "a", "b")

    assert result.rejected == 1
    assert alice.connection.joined_rooms == {"a", "b"}
    assert full.connection.joined_rooms == set()


async def test_join_is_rejected_beside_a_former_release_and_leave_is_not(services: Services) -> None:
    services.join_wait_seconds["a"] = 12.2
    alice = await client(services)

    with pytest.raises(BrokerUnavailable) as rejection:
        await join(services, "b", "a")
    await leave(services, "a")

    assert rejection.value.retry_after_seconds == 13
    assert alice.connection.joined_rooms == set()


async def test_messages_accepted_while_the_listener_is_behind_are_not_lost(services: Services) -> None:
    alice = await client(services)
    services.delivery_gate.clear()
    waiting = asyncio.create_task(join(services, "a"))
    await asyncio.sleep(0)
    for number in range(4):
        await services.push("a", f"m{number}")
    services.delivery_gate.set()
    await waiting
    await services.wait_delivered()

    assert names(alice) == ["m0", "m1", "m2", "m3"]


async def test_joined_room_survives_a_refreshed_token_and_recovery(services: Services) -> None:
    alice = await client(services, "granted")
    await join(services, "a")
    await services.connector.refresh(alice.connection, services.identity("alice"))
    await lose(services, alice)
    await services.push("a", "m1")

    after = await resume(services, alice, "other")

    assert after.connection.rooms == {"user:alice", after.connection.sid, "other", "a"}
    assert names(after) == ["m1"]


async def test_connection_without_a_session_joins_too(services: Services) -> None:
    live, _ = await services.connect_live(services.identity("alice"))
    connecting, transport = await services.connect_declined(services.identity("alice"))

    await join(services, "a")
    connecting.go_live()
    await services.push("a", "m1")
    await services.wait_delivered()

    assert live.joined_rooms == connecting.joined_rooms == {"a"}
    assert "m1" in [name.partition("@")[0] for name in transport.events]
    assert await recipients(services, "a") == (2, 0)


async def test_no_replica_that_replies_delays_the_answer_for_a_limited_time(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_changes, "REPLY_SECONDS", 0.05)
    await client(services)
    services.delivery_gate.clear()

    result = await asyncio.wait_for(join(services, "a"), TIMEOUT_SECONDS)

    assert (result.published.connections, result.rejected) == (1, 0)
    services.delivery_gate.set()


async def test_reply_is_dropped_and_counted_while_too_many_wait(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_changes, "REPLY_SECONDS", 0.05)
    may_send = asyncio.Event()
    monkeypatch.setattr(services.connection_rooms, "wait_delivered", may_send.wait)
    alice = await client(services)
    # The first one is taken from the queue.
    requests = [asyncio.create_task(join(services, "a")) for _ in range(room_changes.MAX_UNSENT + 3)]
    await asyncio.wait_for(asyncio.gather(*requests), TIMEOUT_SECONDS)
    await services.wait_delivered()

    assert alice.connection.joined_rooms == {"a"}
    assert counted(services.metrics, "room_change_replies_dropped_total") == {"": 2}
    may_send.set()


@pytest.mark.parametrize("has_watermark", [False, True])
async def test_connection_whose_rooms_are_locked_too_long_replays_the_change(
    services: Services, has_watermark: bool
) -> None:
    alice, bob = await client(services), await client(services, user="bob")
    if has_watermark:
        await services.push("user:alice", "m0")
        await services.wait_delivered()
        await lose(services, alice)
        alice = await resume(services, alice)
    others = ("user:alice", "user:bob")
    async with services.memberships.changing(alice.connection):
        await services.push("user:alice", "m1")
        await join(services, "a", who=others)
        for room in ("a", "user:alice", "user:bob"):
            await services.push(room, f"m {room}")
        await services.push("a", "v", volatile=True)
        await services.wait_delivered()
        assert names(bob) == ["m a", "m user:bob", "v"]
        assert alice.connection.state is ConnectionState.REPLAYING
    await alice.wait_live()
    await services.push("a", "m2")
    await services.wait_delivered()

    assert names(alice) == ["m0"] * has_watermark + ["m1", "m a", "m user:alice", "m2"]
    assert alice.connection.joined_rooms == {"a"}
    assert not alice.transport.disconnects


async def test_connection_without_a_session_whose_rooms_are_locked_too_long_is_disconnected(
    services: Services,
) -> None:
    alice = await services.connect_client(services.identity("alice"), is_declined=True)
    await alice.wait_live()
    async with services.memberships.changing(alice.connection):
        await join(services, "a")
    assert alice.connection.state is ConnectionState.CLOSED


# many connections at once


@pytest.fixture
async def held(services: Services, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Services]:
    """Every change is a large one, and the state writes nothing until ``connection_rooms.gate`` is set."""
    monkeypatch.setattr(room_changes, "LARGE", 0)
    services.connection_rooms.gate.clear()
    yield services
    services.connection_rooms.gate.set()


async def begin(services: Services, *rooms: str, **options: Any) -> asyncio.Task[RoomChangeResult]:
    """Start a change, and return it once the state is to write it."""
    services.connection_rooms.entered.clear()
    waiting = asyncio.create_task(change(services, *rooms, **options))
    await asyncio.wait_for(services.connection_rooms.entered.wait(), TIMEOUT_SECONDS)
    return waiting


async def test_others_get_their_messages_while_a_large_change_is_written(held: Services) -> None:
    alice, quiet = await client(held), await client(held, user="quiet")
    bob = await client(held, "bobs", user="bob")
    waiting = await begin(held, "a", who=("user:alice", "user:quiet"))

    await held.push("bobs", "m other")
    await held.push("a", "m1", exclude=quiet.connection.sid)
    await held.push("user:alice", "m2")
    await held.wait_delivered()

    assert names(bob) == ["m other"]
    assert names(alice) == []
    assert not waiting.done()
    assert {alice.connection.sid, quiet.connection.sid}.isdisjoint(held.connection_rooms.recorded)

    held.connection_rooms.gate.set()
    await waiting
    await alice.wait_live()
    await quiet.wait_live()
    await held.push("a", "m3")
    await held.wait_delivered()

    assert names(alice) == ["m1", "m2", "m3"]
    assert names(quiet) == ["m3"]
    assert alice.connection.joined_rooms == quiet.connection.joined_rooms == {"a"}


async def test_connection_that_missed_nothing_reads_no_history_after_a_large_change(held: Services) -> None:
    alice = await client(held)
    waiting = await begin(held, "a")
    read: list[Any] = []
    history = held.broker.history

    async def reading(*arguments: Any, **options: Any) -> Any:
        read.append(arguments)
        return await history(*arguments, **options)

    held.broker.history = reading
    held.connection_rooms.gate.set()
    await waiting

    assert alice.connection.state is ConnectionState.LIVE
    assert not read


async def test_client_that_is_lost_before_a_large_change_is_written_finds_it_in_the_history(
    held: Services,
) -> None:
    alice = await client(held)
    await held.push("user:alice", "m0")
    waiting = await begin(held, "a")
    await held.push("a", "m1")
    await held.wait_delivered()
    assert names(alice) == ["m0"]
    await lose(held, alice)
    held.connection_rooms.gate.set()
    await waiting
    after = await held.connect_client(held.identity("alice"), pid=alice.pid, offset=alice.offsets[-1])
    await after.wait_live()

    assert names(after) == ["m1"]
    assert after.connection.joined_rooms == {"a"}


async def test_next_large_change_waits_for_the_one_before(held: Services) -> None:
    alice, bob = await client(held), await client(held, "a", user="bob")
    first = await begin(held, "a")
    second = asyncio.create_task(join(held, "b", who=("a",)))
    await asyncio.sleep(0)
    await held.push("b", "m1")
    for _ in range(10):
        await asyncio.sleep(0)
    assert alice.connection.joined_rooms == {"a"}
    assert bob.connection.joined_rooms == set()

    held.connection_rooms.gate.set()
    await first
    await second
    for each in (alice, bob):
        await each.wait_live()
    await held.wait_delivered()

    assert alice.connection.joined_rooms == {"a", "b"}
    assert bob.connection.joined_rooms == {"b"}
    assert names(alice) == names(bob) == ["m1"]


async def test_connection_without_a_session_gets_its_messages_while_a_large_change_is_written(
    held: Services,
) -> None:
    alice = await held.connect_client(held.identity("alice"), is_declined=True)
    await alice.wait_live()
    waiting = await begin(held, "a")
    await held.push("a", "m1")
    await held.wait_delivered()

    assert names(alice) == ["m1"]
    held.connection_rooms.gate.set()
    await waiting


async def test_connections_of_a_large_change_that_is_not_written_are_disconnected(
    held: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_changes, "APPLY_SECONDS", 0.01)
    alice = await client(held)
    await join(held, "a")

    assert alice.connection.state is ConnectionState.CLOSED
    held.connection_rooms.gate.set()
    after = await resume(held, alice)
    assert after.connection.joined_rooms == {"a"}


# away


async def test_change_while_away_takes_effect_where_it_is_in_the_history(services: Services) -> None:
    alice = await client(services)
    await join(services, "kept", "left")
    await lose(services, alice)
    for room in ("a", "kept", "left"):
        await services.push(room, f"m {room} before")
    joined = await join(services, "a")
    await leave(services, "left", "never")
    for room in ("a", "kept", "left"):
        await services.push(room, f"m {room} after")
    assert (joined.published.connections, joined.published.recoverable) == (0, 1)
    assert await recipients(services, "a") == (0, 1)
    assert await recipients(services, "left") == (0, 0)

    after = await resume(services, alice)

    assert names(after) == ["m kept before", "m left before", "m a after", "m kept after"]
    assert after.connection.joined_rooms == {"a", "kept"}
    assert await recipients(services, "a") == (1, 0)
    await services.push("a", "m live")
    await services.wait_delivered()
    assert names(after)[-1] == "m live"


async def test_rooms_joined_while_away_decide_whom_a_later_entry_reaches(services: Services) -> None:
    alice = await client(services)
    await lose(services, alice)
    await join(services, "a")
    await join(services, "b", who=("a",))
    await services.push("b", "m1")
    command = DisconnectCommand(new_id(), "", ("/",), services.clock.now(), room="b")
    after = await resume(services, alice)
    assert names(after) == ["m1"]
    await lose(services, after)
    await leave(services, "b")
    await services.broker.append(command)

    again = await resume(services, after)
    assert again.connection.joined_rooms == {"a"}

    await lose(services, again)
    await join(services, "b")
    await services.broker.append(command._replace(id=new_id()))
    back = await services.connect_client(services.identity("alice"), pid=again.pid)
    await await_until(lambda: bool(back.transport.disconnects), "the connection is ended by the command")


async def test_new_connection_is_not_in_rooms_that_others_of_the_user_joined_before(
    services: Services,
) -> None:
    await client(services)
    await join(services, "a")
    fresh = await client(services)
    start = fresh.connection.first_position
    assert start is not None
    await lose(services, fresh)
    await services.push("a", "m1")

    kept = await services.connect_client(services.identity("alice"), resume=start)
    await kept.wait_live()

    assert fresh.connection.joined_rooms == kept.connection.joined_rooms == set()
    assert names(kept) == []


async def test_room_that_was_left_is_not_joined_again_by_an_earlier_change(services: Services) -> None:
    alice = await client(services)
    await join(services, "a")
    await services.memberships.join(alice.connection, ["b"])
    await join(services, "b")  # changes nothing
    await services.memberships.leave(alice.connection, ["a", "b"])
    await lose(services, alice)
    await join(services, "away", "again")
    after = await resume(services, alice)
    assert after.connection.joined_rooms == {"away", "again"}
    await join(services, "again")
    await services.memberships.leave(after.connection, ["again"])
    await lose(services, after)

    again = await resume(services, after)

    assert again.connection.joined_rooms == {"away"}


async def test_rooms_that_were_left_decide_about_messages_from_before(services: Services) -> None:
    alice = await client(services)
    await services.push("user:alice", "m1")
    await services.wait_delivered()
    offset = alice.offsets[-1]
    await join(services, "a")
    await services.memberships.join(alice.connection, ["b"])
    await services.push("a", "m2")
    await services.push("user:alice", "m3", exclude="b")
    await services.wait_delivered()
    await services.memberships.leave(alice.connection, ["a", "b"])
    await services.push("a", "m4")
    await services.push("user:alice", "m5", exclude="b")
    await services.wait_delivered()
    assert names(alice) == ["m1", "m2", "m5"]
    await lose(services, alice)

    after = await services.connect_client(services.identity("alice"), pid=alice.pid, offset=offset)
    await after.wait_live()

    assert names(after) == ["m2", "m5"]


async def test_join_that_was_rejected_stays_rejected(services: Services) -> None:
    alice = await client(services, "role:1", "role:2", "role:3", "role:4")
    assert (await join(services, "a", "b")).rejected == 1
    await services.connector.refresh(alice.connection, services.identity("alice"))
    await lose(services, alice)

    after = await resume(services, alice)

    assert after.connection.joined_rooms == set()


async def test_message_missed_before_a_room_was_joined_is_not_excluded_by_that_room(
    services: Services,
) -> None:
    alice = await client(services)
    await services.push("user:alice", "m1", exclude="a")
    await join(services, "a")
    await services.push("user:alice", "m2", exclude="a")
    await services.wait_delivered()
    assert names(alice) == ["m1"]
    await lose(services, alice)

    after = await resume(services, alice)

    assert names(after) == ["m1"]


# a model of plain sets


@dataclass
class Client:
    """A simulated client, what it must receive, and the rooms that it has by plain sets."""

    services: Services
    connected: ConnectedClient
    joined: set[str] = field(default_factory=set)
    offset: Position | None = None
    received: list[str] = field(default_factory=list)
    due: list[str] = field(default_factory=list)
    is_away: bool = False
    pushed: int = 0
    changes: list[asyncio.Task[RoomChangeResult]] = field(default_factory=list)
    """Changes that are not written yet."""

    def read(self, limit: int | None) -> None:
        for event in self.connected.transport.events[:limit]:
            name, _, position = event.partition("@")
            if position:
                at = Position(position)
                assert self.offset is None or not is_after(self.offset, at), "a position went back"
                self.offset = at
            if name.startswith("m"):
                self.received.append(name)

    async def push(self, room: str, excluded: str) -> None:
        self.pushed += 1
        name = f"m{self.pushed}"
        if (room in self.joined or room == "user:alice") and excluded not in self.joined:
            self.due.append(name)
        await self.services.push(room, name, exclude=excluded)

    async def own(self, is_join: bool, room: str) -> None:
        """Join or leave a room by itself, once it has everything that was accepted before."""
        if not self.is_away:
            await self.receive_all()
            connection, memberships = self.connected.connection, self.services.memberships
            await (memberships.join if is_join else memberships.leave)(connection, [room])
            self.joined = self.joined | {room} if is_join else self.joined - {room}

    async def receive_all(self) -> None:
        self.services.delivery_gate.set()
        await self.write()
        await self.services.wait_delivered()
        await self.connected.wait_live()

    async def hold(self) -> None:
        """Let each change be a large one, of which nothing is written yet."""
        room_changes.LARGE = 0  # type: ignore[misc]
        self.services.connection_rooms.gate.clear()

    async def be_small(self) -> None:
        """Let further changes be small ones."""
        room_changes.LARGE = 200  # type: ignore[misc]

    async def write(self) -> None:
        self.services.connection_rooms.gate.set()

    async def change(self, is_join: bool, who: str, *rooms: str) -> None:
        if who in {"user:alice", *self.joined}:
            self.joined = self.joined | set(rooms) if is_join else self.joined - set(rooms)
        waiting = asyncio.create_task(change(self.services, *rooms, who=(who,), is_join=is_join))
        if not self.services.delivery_gate.is_set():
            await asyncio.sleep(0)
            self.services.delivery_gate.set()
        if self.services.connection_rooms.gate.is_set():
            await waiting
        else:
            self.changes.append(waiting)
            await asyncio.sleep(0)

    async def stall(self) -> None:
        self.services.delivery_gate.clear()

    async def drop(self, unread: int) -> None:
        """Lose the connection, and with it the last events that were sent."""
        if not self.is_away:
            if self.services.connection_rooms.gate.is_set():
                await self.receive_all()
            self.read(max(1, len(self.connected.transport.events) - unread))
            await lose(self.services, self.connected)
            self.is_away = True

    async def back(self, turns: int) -> None:
        if self.is_away:
            self.connected = await self.services.connect_client(
                self.services.identity("alice"), pid=self.connected.pid, offset=self.offset
            )
            assert self.connected.result.failure is None
            self.is_away = False
            await self.turn(turns)

    async def turn(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)


ROOMS = st.sampled_from(["a", "b", "c"])
WHO = st.sampled_from(["user:alice", "user:alice", "a", "b"])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), ROOMS | st.just("user:alice"), st.just("")),
        st.tuples(st.just("push"), ROOMS | st.just("user:alice"), ROOMS | st.just("")),
        st.tuples(st.just("change"), st.booleans(), WHO, ROOMS),
        st.tuples(st.just("change"), st.booleans(), WHO, ROOMS, st.just("d")),
        st.tuples(st.just("own"), st.booleans(), ROOMS),
        st.tuples(st.just("drop"), st.integers(0, 3)),
        st.tuples(st.just("back"), st.integers(0, 12)),
        st.tuples(st.just("stall")),
        st.tuples(st.just("hold")),
        st.tuples(st.just("be_small")),
        st.tuples(st.just("write")),
        st.tuples(st.just("turn"), st.integers(0, 12)),
    ),
    max_size=50,
)


LOST_BEFORE_IT_IS_WRITTEN = [
    ("push", "user:alice", ""),
    ("hold",),
    ("change", True, "user:alice", "a"),
    ("turn", 12),
    ("push", "a", ""),
    ("turn", 12),
    ("drop", 0),
    ("back", 12),
    ("write",),
    ("push", "a", ""),
]


@given(ACTIONS)
@example(LOST_BEFORE_IT_IS_WRITTEN)
def test_client_receives_exactly_what_plain_sets_say(script: list[tuple[Any, ...]]) -> None:
    try:
        asyncio.run(play(script))
    finally:
        room_changes.LARGE = 200  # type: ignore[misc]


async def play(script: list[tuple[Any, ...]]) -> None:
    services = Services()
    services.schedule.advance(1)
    await client(services, "a", "b", "c", "d", user="witness")
    model = Client(services, await client(services))
    for action, *arguments in script:
        await getattr(model, action)(*arguments)
    await model.back(0)
    services.delivery_gate.set()
    await model.write()
    for waiting in model.changes:
        await waiting
    await services.wait_delivered()
    await model.connected.wait_live()
    await services.wait_delivered()
    model.read(None)

    assert model.received == model.due
    assert model.connected.connection.joined_rooms == model.joined
    for room in ("a", "b", "c", "d"):
        assert await recipients(services, room) == (1 + (room in model.joined), 0)
    await services.close()
