"""Presence: connections of users, counts at addresses, and last_seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.errors import TooManyConnections
from gateway.domain.messages import Address
from gateway.domain.positions import Position
from gateway.domain.presence import PresentConnection, UserPresence
from gateway.domain.sessions import RecoverySession
from gateway.interfaces import Broker
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import at, connection, connections_at

CLOCKS_AGREE_WITHIN_SECONDS = 5.0


async def test_user_who_never_connected_is_offline_and_was_never_seen(state: StateUnderTest) -> None:
    assert await state.presence.of_user("ann") == UserPresence("ann")


async def test_registered_connection_is_returned_as_it_was_registered(state: StateUnderTest) -> None:
    phone = connection("s1", "ann", namespace="/chät", connected_at=1700000000.123456)

    await state.presence.register(phone, ["user:ann"])

    assert await state.presence.of_user("ann") == UserPresence("ann", (phone,))


async def test_connections_of_all_namespaces_are_returned_oldest_first(state: StateUnderTest) -> None:
    laptop = connection("s2", "ann", connected_at=20.0)
    phone = connection("s1", "ann", connected_at=30.0)
    chat = connection("s3", "ann", namespace="/chat", connected_at=10.0)
    for device in (laptop, phone, chat, connection("s4", "bob")):
        await state.presence.register(device, [])

    assert (await state.presence.of_user("ann")).connections == (chat, laptop, phone)


async def test_many_users_are_returned_as_each_one_alone(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann", connected_at=20.0), [])
    await state.presence.register(connection("s2", "ann", namespace="/chat", connected_at=10.0), [])
    await state.presence.register(connection("s3", "bob"), [])
    await state.presence.unregister("s3")
    await state.presence.register(connection("s4", "dan"), [])
    users = ["cid", "ann", "bob", "ann"]

    found = await state.presence.of_users(users)

    assert found == {user: await state.presence.of_user(user) for user in users}
    assert [device.sid for device in found["ann"].connections] == ["s2", "s1"]
    assert {user: each.last_seen is not None for user, each in found.items()} == {
        "cid": False, "ann": False, "bob": True,
    }  # fmt: skip


async def test_no_users_return_no_presence(state: StateUnderTest) -> None:
    assert await state.presence.of_users([]) == {}


async def test_registering_a_sid_again_replaces_the_connection(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["a", "b"])
    replaced = connection("s1", "bob", namespace="/chat", connected_at=2000.0)

    await state.presence.register(replaced, ["b"])

    assert not (await state.presence.of_user("ann")).is_online
    assert (await state.presence.of_user("bob")).connections == (replaced,)
    assert await counts(state.broker, at(None), at("a"), at("b"), at("s1")) == [0, 0, 0, 0]
    assert await counts(state.broker, at(None, "/chat"), at("b", "/chat"), at("s1", "/chat")) == [1, 1, 1]


async def test_connection_of_another_replica_is_rejected(state: StateUnderTest) -> None:
    with pytest.raises(ValueError, match="another replica"):
        await state.presence.register(replace(connection("s1", "ann"), replica="replica-2"), [])


async def test_connection_counts_in_its_rooms_in_that_of_its_sid_and_in_its_namespace(
    state: StateUnderTest,
) -> None:
    await state.presence.register(connection("s1", "ann"), ["a", "s1", "a"])
    await state.presence.register(connection("s2", "bob"), ["a", "b"])

    addresses = [at(None), at("a"), at("b"), at("s1"), at("s2"), at("a", "/chat")]

    assert await counts(state.broker, *addresses) == [2, 2, 1, 1, 1, 0]


async def test_counts_of_several_addresses_are_added_up(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["a", "b"])
    await state.presence.register(connection("s2", "bob", namespace="/chat"), ["a"])

    assert await connections_at(state.broker, at("a"), at("b"), at("a", "/chat"), at("c")) == 3


async def test_changed_rooms_replace_the_former_ones(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["a", "b"])

    await state.presence.change_rooms("s1", ["b", "c"])

    assert await counts(state.broker, at("a"), at("b"), at("c"), at("s1"), at(None)) == [0, 1, 1, 1, 1]


async def test_upgrade_changes_the_transport_and_nothing_else(state: StateUnderTest) -> None:
    polling = replace(connection("s1", "ann"), transport="polling")
    await state.presence.register(polling, ["a"])

    await state.presence.change_transport("s1", "websocket")

    assert (await state.presence.of_user("ann")).connections == (replace(polling, transport="websocket"),)
    assert await counts(state.broker, at("a"), at(None)) == [1, 1]


async def test_connection_that_is_registered_again_counts_once_as_before(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["a"])
    await state.presence.change_rooms("s1", ["b"])

    await state.presence.register_again({"s1": None})

    assert (await state.presence.of_user("ann")).connections == (connection("s1", "ann"),)
    assert await counts(state.broker, at("a"), at("b"), at("s1"), at(None)) == [0, 1, 1, 1]


async def test_connection_that_is_gone_is_not_registered_again(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["a"])
    await state.presence.unregister("s1")

    await state.presence.register_again({"s1": None, "s2": None})

    assert not (await state.presence.of_user("ann")).is_online
    assert await counts(state.broker, at("a"), at("s1"), at("s2"), at(None)) == [0, 0, 0, 0]


async def test_unregistered_connection_counts_nowhere(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["a"])
    await state.presence.register(connection("s2", "ann"), ["a"])

    await state.presence.unregister("s1")

    assert await counts(state.broker, at("a"), at("s1"), at(None)) == [1, 0, 1]
    assert [device.sid for device in (await state.presence.of_user("ann")).connections] == ["s2"]


async def test_unknown_sid_changes_nothing(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["a"])
    await state.presence.unregister("s1")

    await state.presence.change_rooms("s1", ["a"])
    await state.presence.change_transport("s1", "polling")
    await state.presence.unregister("s1")
    await state.presence.unregister("s2")

    assert await counts(state.broker, at("a"), at("s1"), at(None)) == [0, 0, 0]
    assert not (await state.presence.of_user("ann")).is_online


async def test_user_is_last_seen_when_the_last_connection_ends(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), [])
    await state.presence.register(connection("s2", "ann", namespace="/chat"), [])
    await state.presence.unregister("s1")
    assert (await state.presence.of_user("ann")).last_seen is None

    await state.presence.unregister("s2")

    ann = await state.presence.of_user("ann")
    assert (ann.is_online, ann.connections) == (False, ())
    assert ann.last_seen == pytest.approx(state.now(), abs=CLOCKS_AGREE_WITHIN_SECONDS)


async def test_user_who_connected_again_is_online_without_last_seen(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), [])
    await state.presence.unregister("s1")

    await state.presence.register(connection("s2", "ann"), [])

    ann = await state.presence.of_user("ann")
    assert (ann.is_online, ann.last_seen) == (True, None)


async def test_last_seen_is_kept_for_its_time_and_no_longer(make_state: MakeState) -> None:
    state = await make_state(last_seen_seconds=1000)
    await state.presence.register(connection("s1", "ann"), [])
    await state.presence.unregister("s1")
    left_at = state.now()
    await state.advance(900)
    assert (await state.presence.of_user("ann")).last_seen == pytest.approx(
        left_at, abs=CLOCKS_AGREE_WITHIN_SECONDS
    )

    await state.advance(200)

    assert (await state.presence.of_user("ann")).last_seen is None


async def test_connection_is_present_for_as_long_as_it_lasts(make_state: MakeState) -> None:
    state = await make_state(last_seen_seconds=10, recovery_seconds=10)
    await state.presence.register(connection("s1", "ann"), ["a"])

    await state.advance(100_000)

    assert (await state.presence.of_user("ann")).is_online
    assert await connections_at(state.broker, at("a")) == 1


# --- against a plain model ---

SIDS = ("s1", "s2", "s3", "s4")
USERS = ("ann", "bob")
NAMESPACES = ("/", "/chat")
ROOMS = ("a", "b", "s1")
ALL_ADDRESSES = [at(room, namespace) for namespace in NAMESPACES for room in (None, *ROOMS, *SIDS)]
SOME_ROOMS = st.sets(st.sampled_from(ROOMS))
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("register"),
            st.sampled_from(SIDS),
            st.sampled_from(USERS),
            st.sampled_from(NAMESPACES),
            SOME_ROOMS,
        ),
        st.tuples(st.just("change_rooms"), st.sampled_from(SIDS), SOME_ROOMS),
        st.tuples(st.just("unregister"), st.sampled_from(SIDS)),
    ),
    max_size=30,
)

Model = dict[str, tuple[PresentConnection, set[str]]]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
async def test_counts_and_connections_are_those_of_a_list_of_connections(
    make_state: MakeState, operations: list[tuple]
) -> None:
    state = await make_state()
    model: Model = {}
    for number, (verb, sid, *details) in enumerate(operations):
        if verb == "register":
            user, namespace, rooms = details
            device = connection(sid, user, namespace=namespace, connected_at=float(number))
            await state.presence.register(device, rooms)
            model[sid] = (device, rooms)
        elif verb == "change_rooms":
            await state.presence.change_rooms(sid, details[0])
            if sid in model:
                model[sid] = (model[sid][0], details[0])
        else:
            await state.presence.unregister(sid)
            model.pop(sid, None)

    assert await counts(state.broker, *ALL_ADDRESSES) == [
        how_many(model, address) for address in ALL_ADDRESSES
    ]
    for user in USERS:
        devices = [device for device, _ in model.values() if device.user == user]
        expected = tuple(sorted(devices, key=lambda device: device.connected_at))
        assert (await state.presence.of_user(user)).connections == expected
    assert await state.presence.of_users(USERS) == {
        user: await state.presence.of_user(user) for user in USERS
    }


def how_many(model: Model, address: Address) -> int:
    return sum(
        device.namespace == address.namespace and address.room in {None, device.sid, *rooms}
        for device, rooms in model.values()
    )


async def counts(broker: Broker, *addresses: Address) -> list[int]:
    return [await connections_at(broker, address) for address in addresses]


# --- connections that one user may have ---


async def test_user_with_as_many_connections_as_one_may_have_gets_no_other(state: StateUnderTest) -> None:
    for number in range(3):
        await state.presence.register(
            connection(f"~s{number}", "ann", namespace="/chat"), ["a"], max_of_user=3
        )

    with pytest.raises(TooManyConnections):
        await state.presence.register(connection("~s3", "ann"), ["a"], max_of_user=3)

    assert await connections_at(state.broker, at("a")) == 0
    assert len((await state.presence.of_user("ann")).connections) == 3
    await state.presence.register(connection("~s4", "bob"), ["a"], max_of_user=3)
    await state.presence.register(connection("~s1", "ann"), ["a"], max_of_user=3)
    assert await connections_at(state.broker, at("a")) == 2


async def test_lost_connection_does_not_count_for_its_user_until_it_is_registered_again(
    state: StateUnderTest,
) -> None:
    await state.presence.register(connection("~s1", "ann"), ["a"], max_of_user=1)
    await state.presence.unregister("~s1", is_parked=True)
    await state.presence.register(connection("~s2", "ann"), ["a"], max_of_user=1)

    with pytest.raises(TooManyConnections):
        await state.presence.register(connection("~s1", "ann"), ["a"], max_of_user=1)

    assert (await state.presence.of_user("ann")).recoverable == 1
    await state.presence.unregister("~s2")
    await state.presence.register(connection("~s1", "ann"), ["a"], max_of_user=1)


# --- since when rooms are visible ---


def session_of(sid: str, *rooms: str, first: str, namespace: str = "/", **joined_at: str) -> RecoverySession:
    return RecoverySession(
        pid=f"pid of {sid}",
        sid=sid,
        user="ann",
        namespace=namespace,
        owner="first",
        rooms=frozenset(rooms),
        first_position=Position(first),
        joined_at={room: Position(position) for room, position in joined_at.items()},
    )


async def register(state: StateUnderTest, session: RecoverySession) -> None:
    await state.sessions.save(session)
    await state.presence.register(
        connection(session.sid, session.user, namespace=session.namespace), session.rooms, session=session
    )


async def test_rooms_of_a_user_are_visible_since_the_earliest_of_its_connections(
    state: StateUnderTest,
) -> None:
    await register(state, session_of("~s1", "a", "b", first="20-0", b="25-0"))
    await register(state, session_of("~s2", "b", "käse,1", first="9-0"))
    await register(state, session_of("~s3", "a", first="1-0", namespace="/chat"))

    visible = dict(await state.presence.visible_rooms("ann", "/"))

    assert {room: visible.get(room) for room in ("a", "b", "käse,1")} == {
        "a": "20-0",
        "b": "9-0",
        "käse,1": "9-0",
    }
    assert dict(await state.presence.visible_rooms("bob", "/")) == {}


async def test_rooms_of_a_lost_connection_stay_visible_those_of_an_ended_one_do_not(
    state: StateUnderTest,
) -> None:
    await register(state, session_of("~s1", "a", first="20-0"))
    await register(state, session_of("~s2", "b", first="20-0"))
    await state.presence.unregister("~s1", is_parked=True)
    await state.presence.unregister("~s2")

    assert "a" in await state.presence.visible_rooms("ann", "/")
    assert "b" not in await state.presence.visible_rooms("ann", "/")


async def test_room_that_a_connection_left_is_visible_no_more(state: StateUnderTest) -> None:
    session = session_of("~s1", "a", "b", first="20-0")
    await register(state, session)
    changed = session.with_rooms({"a", "c"}, Position("30-0"))
    await state.sessions.change(changed)
    await state.presence.change_rooms("~s1", changed.rooms, session=changed)

    visible = dict(await state.presence.visible_rooms("ann", "/"))

    assert (visible["a"], visible.get("b"), visible["c"]) == ("20-0", None, "30-0")


async def test_connection_without_a_session_shows_no_rooms(state: StateUnderTest) -> None:
    await state.presence.register(connection("~s1", "ann"), ["a"])

    assert dict(await state.presence.visible_rooms("ann", "/")) == {}


async def test_sid_is_known_while_its_connection_is_registered_or_recoverable(state: StateUnderTest) -> None:
    await state.presence.register(connection("~s1", "ann"), ["a"])
    assert await state.presence.has_sid("~s1")
    await state.presence.unregister("~s1", is_parked=True)
    assert await state.presence.has_sid("~s1")

    await state.presence.register(connection("~s1", "ann"), ["a"])
    await state.presence.unregister("~s1")

    assert not await state.presence.has_sid("~s1")
    assert not await state.presence.has_sid("a")
