"""Presence and Broker: connections that are gone and may be resumed count as recoverable."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.errors import RecoveryFailed
from gateway.domain.messages import Message
from gateway.domain.positions import Position
from gateway.domain.presence import ClosedConnection
from gateway.domain.sessions import RecoverySession
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import connection, dedup_key, message


async def counted(state: StateUnderTest, *rooms: str, namespace: str = "/") -> tuple[int, int]:
    """Return connections and recoverable ones, as a push to the rooms reports them; without rooms to everyone."""
    result = await state.broker.append(message(*rooms, namespace=namespace, volatile=True))
    return result.connections, result.recoverable


async def lose(state: StateUnderTest, sid: str, user: str, *rooms: str, namespace: str = "/") -> None:
    """Register a connection, and lose it."""
    await state.presence.register(connection(sid, user, namespace=namespace), rooms)
    await state.presence.unregister(sid, is_parked=True)


async def test_no_connection_is_recoverable_at_first(state: StateUnderTest) -> None:
    assert await counted(state, "user:ann") == (0, 0)
    assert (await state.presence.of_user("ann")).recoverable == 0


async def test_lost_connection_is_recoverable_in_its_rooms_its_sid_and_its_namespace(
    state: StateUnderTest,
) -> None:
    await state.presence.register(connection("s1", "ann"), ["user:ann", "org:7"])
    assert await counted(state, "user:ann") == (1, 0)

    await state.presence.unregister("s1", is_parked=True)

    for rooms in (["user:ann"], ["org:7"], ["s1"], []):
        assert await counted(state, *rooms) == (0, 1), rooms
    for rooms, namespace in ((["user:bob"], "/"), (["user:ann"], "/chat"), ([], "/chat")):
        assert await counted(state, *rooms, namespace=namespace) == (0, 0), rooms
    ann = await state.presence.of_user("ann")
    assert (ann.is_online, ann.recoverable, ann.last_seen is not None) == (False, 1, True)


async def test_messages_of_a_batch_count_the_recoverable_connections_of_each(state: StateUnderTest) -> None:
    await state.presence.register(connection("here", "u2"), ["user:u2"])
    for number in (2, 50, 99):
        await lose(state, f"s{number}", f"u{number}", f"user:u{number}")
    batch = [message(f"user:u{number}", "elsewhere") for number in range(100)]

    results = await state.broker.append_all(batch)

    counts = {
        number: (result.connections, result.recoverable)
        for number, result in enumerate(results)
        if result.connections or result.recoverable
    }
    assert counts == {2: (1, 1), 50: (0, 1), 99: (0, 1)}


async def test_disconnects_are_recorded_together_and_again_without_harm(state: StateUnderTest) -> None:
    disconnects = []
    for number in range(60):
        sid, pid = f"s{number}", f"p{number}"
        await state.presence.register(connection(sid, "ann"), ["user:ann"])
        await state.sessions.save(
            RecoverySession(pid, sid, "ann", "/", "first", frozenset(), Position("1-0"))
        )
        disconnects.append(
            ClosedConnection(sid, "ann", pid, "first", is_parked=number % 3 > 0, keeps_sid=number % 5 == 0)
        )
    await state.presence.register(connection("alone", "ann"), ["user:ann"])
    disconnects.append(ClosedConnection("alone"))

    await state.disconnects.record(disconnects)
    await state.disconnects.record(disconnects)

    assert await counted(state, "user:ann") == (12, 32)
    for number in range(60):
        resuming = state.sessions.resume(f"p{number}", user="ann", namespace="/", owner="second")
        if number % 3:
            assert not (await resuming).in_use
        else:
            with pytest.raises(RecoveryFailed, match="unknown_session"):
                await resuming


async def test_connection_registered_after_it_was_closed_counts(state: StateUnderTest) -> None:
    await lose(state, "s0", "bob")  # Redis knows the script now, and executes it when it is sent
    await state.presence.register(connection("s1", "ann"), ["user:ann"])

    leaving = asyncio.create_task(state.disconnects.record([ClosedConnection("s1", is_parked=True)]))
    await asyncio.sleep(0)
    await state.presence.register(connection("s1", "ann"), ["user:ann"])
    await leaving

    assert await counted(state, "user:ann") == (1, 0)


async def test_presence_counts_recoverable_connections_of_all_namespaces(state: StateUnderTest) -> None:
    await lose(state, "s1", "ann", "user:ann")
    await lose(state, "s2", "ann", "user:ann", namespace="/chat")
    await lose(state, "s3", "bob", "user:bob")
    await state.presence.register(connection("s4", "ann"), ["user:ann"])

    found = await state.presence.of_users(["ann", "bob", "cid"])

    assert {user: (len(each.connections), each.recoverable) for user, each in found.items()} == {
        "ann": (1, 2),
        "bob": (0, 1),
        "cid": (0, 0),
    }


async def test_user_whose_name_looks_like_an_address_is_counted_apart(state: StateUnderTest) -> None:
    await lose(state, "s1", "ann", "u:bob")
    await lose(state, "s2", "/,u:bob", "a")

    assert await counted(state, "u:bob") == (0, 1)
    assert (await state.presence.of_user("bob")).recoverable == 0
    assert (await state.presence.of_user("/,u:bob")).recoverable == 1


async def test_resumed_connection_moves_from_recoverable_to_connections(state: StateUnderTest) -> None:
    await lose(state, "s1", "ann", "user:ann", "org:7")

    await state.presence.register(connection("s1", "ann"), ["user:ann", "org:8"])

    assert await counted(state, "user:ann") == (1, 0)
    assert await counted(state, "org:7") == (0, 0)
    assert await counted(state, "org:8") == (1, 0)
    assert await counted(state) == (1, 0)
    assert (await state.presence.of_user("ann")).recoverable == 0


async def test_a_push_sees_a_connection_or_its_session_at_every_moment(state: StateUnderTest) -> None:
    """Neither both nor none: a backend that sends an e-mail for (0, 0) sends none too many."""
    await state.presence.register(connection("s1", "ann"), ["user:ann"])
    seen: set[tuple[int, int]] = set()

    async def toggle() -> None:
        for _ in range(100):
            await state.presence.unregister("s1", is_parked=True)
            await state.presence.register(connection("s1", "ann"), ["user:ann"])

    toggling = asyncio.create_task(toggle())
    while not toggling.done():
        seen.add(await counted(state, "user:ann"))
        await asyncio.sleep(0)
    await toggling

    assert seen <= {(1, 0), (0, 1)}


async def test_connection_without_a_session_is_not_recoverable(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["user:ann"])

    await state.presence.unregister("s1")

    assert await counted(state, "user:ann") == (0, 0)
    assert (await state.presence.of_user("ann")).recoverable == 0


async def test_session_that_is_deleted_after_it_was_resumed_is_not_recoverable(
    state: StateUnderTest,
) -> None:
    await lose(state, "s1", "ann", "user:ann")

    await state.presence.unregister("s1")  # the attempt to resume it ended before it was registered

    assert await counted(state, "user:ann") == (0, 0)
    assert (await state.presence.of_user("ann")).recoverable == 0


async def test_unknown_connection_is_not_recoverable(state: StateUnderTest) -> None:
    await state.presence.unregister("unknown", is_parked=True)

    assert await counted(state) == (0, 0)


async def test_expired_session_is_not_counted(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=60)
    await lose(state, "s1", "ann", "user:ann")
    await state.advance(50)
    await lose(state, "s2", "ann", "user:ann")
    assert await counted(state, "user:ann") == (0, 2)

    await state.advance(11)

    assert await counted(state, "user:ann") == (0, 1)
    assert await counted(state) == (0, 1)
    assert (await state.presence.of_user("ann")).recoverable == 1
    await state.advance(50)
    assert await counted(state, "user:ann") == (0, 0)


async def test_without_a_recovery_window_nothing_is_recoverable(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=0)

    await lose(state, "s1", "ann", "user:ann")

    assert await counted(state, "user:ann") == (0, 0)
    assert (await state.presence.of_user("ann")).recoverable == 0


async def test_connection_in_several_rooms_counts_in_each_of_a_push(state: StateUnderTest) -> None:
    await lose(state, "s1", "ann", "a", "b")
    await lose(state, "s2", "bob", "b")

    result = await state.broker.append(message("a", "b"))

    assert (result.recoverable, result.exact) == (3, False)


async def test_exceptions_make_the_count_an_upper_bound(state: StateUnderTest) -> None:
    await lose(state, "s1", "ann", "a")

    result = await state.broker.append(message("a", exclude=frozenset({"s1"})))

    assert (result.recoverable, result.exact) == (1, False)


async def test_repeat_gets_the_first_number(state: StateUnderTest) -> None:
    await lose(state, "s1", "ann", "user:ann")
    news, request = message("user:ann"), dedup_key(state, idempotency_key="key")
    first = await state.broker.append(news, request)
    await lose(state, "s2", "ann", "user:ann")

    repeat = await state.broker.append(message("user:ann"), dedup_key(state, idempotency_key="key"))

    assert (first.recoverable, first.exact) == (1, True)
    assert repeat == first._replace(replayed=True)
    assert await state.broker.append(news, request) == first


async def test_each_message_of_a_batch_has_its_own_number(state: StateUnderTest) -> None:
    await lose(state, "s1", "ann", "user:ann")
    batch: list[Message] = [message("user:ann"), message("user:bob")]

    results = await state.broker.append_all(batch, dedup_key(state, idempotency_key="key"))
    again = await state.broker.append_all(batch, dedup_key(state, idempotency_key="key"))

    assert [result.recoverable for result in results] == [1, 0]
    assert [result.recoverable for result in again] == [1, 0]


async def test_connection_with_other_rooms_is_recoverable_in_those_that_it_had_last(
    state: StateUnderTest,
) -> None:
    await state.presence.register(connection("s1", "ann"), ["a"])
    await state.presence.change_rooms("s1", ["b"])

    await state.presence.unregister("s1", is_parked=True)

    assert [await counted(state, room) for room in "ab"] == [(0, 0), (0, 1)]
