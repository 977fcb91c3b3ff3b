"""ConnectionRooms: changes of rooms in the subscriptions, in presence, and of connections that may be resumed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.domain.messages import Address, LogEntry, Message, RoomChange, new_id
from gateway.domain.positions import Position
from gateway.domain.presence import ChangedRooms
from gateway.domain.sessions import RecoverySession
from tests.contract.session_resume import resume
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import at, connection, message, newest_position
from tests.support.waiter import TIMEOUT_SECONDS


def change(
    *rooms: str, who: tuple[str, ...] = ("user:ann",), is_join: bool = True, exclude: str = ""
) -> RoomChange:
    return RoomChange(new_id(), "/", who, rooms, is_join, frozenset(exclude.split()))


async def session_of(
    state: StateUnderTest, sid: str, *rooms: str, granted: tuple[str, ...] = ("user:ann",)
) -> RecoverySession:
    """Register a connection of Ann with a session; the rooms beside those granted were joined."""
    position = await newest_position(state.broker)
    session = RecoverySession(
        f"pid-{sid}", sid, "ann", "/", f"owner-{sid}", frozenset({sid, *granted, *rooms}), position,
        joined_rooms=frozenset(rooms),
    )  # fmt: skip
    await state.sessions.save(session)
    await state.presence.register(connection(sid, "ann"), session.rooms, session=session)
    return session


async def lose(state: StateUnderTest, session: RecoverySession) -> None:
    await state.presence.unregister(session.sid, is_parked=True)
    await state.sessions.park(session.pid, owner=session.owner)


async def counted(state: StateUnderTest, *rooms: str) -> list[tuple[int, int]]:
    """Connections and recoverable ones in each of the rooms."""
    results = [await state.broker.append(message(room, volatile=True)) for room in rooms]
    return [(result.connections, result.recoverable) for result in results]


async def changed(state: StateUnderTest, entry: RoomChange, *, max_rooms: int | None = None) -> None:
    """Append a change, and count the recoverable connections by it."""
    result = await state.broker.append(entry)
    await state.connection_rooms.change_recoverable(entry, result.position, max_rooms=max_rooms)


async def test_message_accepted_before_the_subscription_in_the_listener_is_delivered(
    state: StateUnderTest,
) -> None:
    await state.broker.subscribe([at("user:ann")])
    joined, news, late = change("a", "b"), [message("a") for _ in range(5)], message("a")
    received: list[LogEntry] = []
    is_done = asyncio.Event()

    async def deliver(entry: LogEntry, _: Position, *, more: bool) -> None:
        received.append(entry)
        if entry.id == joined.id:
            # Accepted while the listener is at the change, and not subscribed yet.
            for each in news:
                await state.broker.append(each)
            await state.connection_rooms.subscribe([at("a"), at("b")])
            await state.broker.append(late)
        if entry.id == late.id:
            is_done.set()

    listener = asyncio.create_task(state.broker.listen(deliver))
    before, ann = message("a"), message("user:ann")
    for entry in (before, joined, ann):
        await state.broker.append(entry)
    try:
        await asyncio.wait_for(is_done.wait(), TIMEOUT_SECONDS)
    finally:
        listener.cancel()

    assert received == [joined, ann, *news, late]


async def test_rooms_of_many_connections_are_counted_and_their_sessions_have_them(
    state: StateUnderTest,
) -> None:
    sessions = [await session_of(state, f"~{number}") for number in range(70)]
    position = await newest_position(state.broker)
    after = [each.changed_by(change("a", "b"), position) for each in sessions]

    await state.connection_rooms.record([ChangedRooms(each.sid, each.rooms, each) for each in after])

    assert await counted(state, "a", "b", "user:ann", "c") == [(70, 0), (70, 0), (70, 0), (0, 0)]
    found = (await resume(state.sessions, "pid-~69", owner="next")).session
    assert found.joined_rooms == {"a", "b"}
    assert found.visible_from("a") == position

    left = [
        each.changed_by(change("a", is_join=False), await newest_position(state.broker)) for each in after
    ]
    await state.broker.append(message("x"))
    later = await newest_position(state.broker)
    left = [each.changed_by(change("a", is_join=False), later) for each in after]
    await state.connection_rooms.record([ChangedRooms(each.sid, each.rooms, each) for each in left])
    assert await counted(state, "a", "b") == [(0, 0), (70, 0)]


async def test_closed_connection_and_session_that_was_resumed_stay_as_they_are(state: StateUnderTest) -> None:
    session = await session_of(state, "~1")
    await lose(state, session)
    position = await newest_position(state.broker)
    late = session.changed_by(change("a"), position)

    await state.connection_rooms.record(
        [ChangedRooms(late.sid, late.rooms, late), ChangedRooms("~unknown", frozenset({"a"}))]
    )

    assert await counted(state, "a") == [(0, 0)]
    resumed = (await resume(state.sessions, session.pid, owner="next")).session
    assert "a" not in resumed.rooms
    await state.connection_rooms.record([ChangedRooms(late.sid, late.rooms, late)])
    assert (await resume(state.sessions, session.pid, owner="again")).session.joined_rooms == set()


async def test_recoverable_connections_count_in_the_rooms_that_they_join_until_they_are_resumed(
    state: StateUnderTest,
) -> None:
    sessions = [await session_of(state, f"~{number}") for number in range(60)]
    for each in sessions:
        await lose(state, each)

    await changed(state, change("a", "b"))
    await changed(state, change("a"))
    assert await counted(state, "a", "b", "user:ann") == [(0, 60), (0, 60), (0, 60)]

    back = replace(sessions[0], owner="next")
    await resume(state.sessions, back.pid, owner="next")
    await state.presence.register(connection(back.sid, "ann"), back.rooms, session=back)
    assert await counted(state, "a", "b", "user:ann") == [(0, 59), (0, 59), (1, 59)]

    await changed(state, change("a", is_join=False))
    assert await counted(state, "a", "b") == [(0, 0), (0, 59)]


async def test_granted_rooms_and_excluded_connections_stay_and_limits_hold(state: StateUnderTest) -> None:
    await lose(state, await session_of(state, "~1", "c", granted=("user:ann", "org:7")))
    await lose(state, await session_of(state, "~2", granted=("user:ann", "role:bot")))
    await state.broker.append(message("x"))

    await changed(state, change("org:7", "c", is_join=False))
    assert await counted(state, "org:7", "c") == [(0, 1), (0, 0)]

    await changed(state, change("d", exclude="role:bot"))
    assert await counted(state, "d") == [(0, 1)]

    await changed(state, change("e", "f", who=("~1",)), max_rooms=4)
    await changed(state, change("e", "f", who=("~2",)), max_rooms=4)
    assert await counted(state, "e", "f") == [(0, 1), (0, 1)]


async def test_recoverable_connections_end_with_their_window_in_joined_rooms_too(
    make_state: MakeState,
) -> None:
    state = await make_state(recovery_seconds=20.0)
    await lose(state, await session_of(state, "~1"))
    await changed(state, change("a", who=()))
    assert await counted(state, "a") == [(0, 1)]

    await state.advance(21.0)

    assert await counted(state, "a", "user:ann") == [(0, 0), (0, 0)]


@pytest.mark.parametrize("is_join", [True, False])
async def test_change_is_in_the_history_of_its_addresses_alone(state: StateUnderTest, is_join: bool) -> None:
    start = await newest_position(state.broker)
    entry = change("a", is_join=is_join)
    await state.broker.append(entry)
    await state.broker.append(message("a"))

    page = await state.broker.history(start, [at("user:ann")], max_entries=10, max_bytes=1_000)
    other = await state.broker.history(start, [at("a"), Address("/", None)], max_entries=10, max_bytes=1_000)

    assert [each for _, each in page.entries] == [entry]
    assert [type(each) for _, each in other.entries] == [Message]
