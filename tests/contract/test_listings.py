"""Listings: pages of users, rooms and connections, against an oracle of plain sets and under churn."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.event_catalogue import Glob, RoomRule
from gateway.domain.listings import (
    MAX_PAGE_BYTES,
    ConnectionPage,
    ListedName,
    MemberRules,
    NamePage,
    NamespaceSummary,
    RoomSummary,
    Slice,
)
from gateway.domain.names import user_room
from gateway.domain.presence import ClosedConnection
from gateway.domain.socket_data import MAX_DATA_BYTES, StoredData, encode_data
from tests.contract.states import REPLICA, MakeState, StateUnderTest
from tests.contract.values import connection

LISTED = MemberRules({"/": (RoomRule(Glob("chat:*"), list_members=True), RoomRule(Glob("*")))})


async def register(
    state: StateUnderTest, sid: str, user: str, *rooms: str, namespace: str = "/", parks: bool = False
) -> None:
    await state.presence.register(connection(sid, user, namespace=namespace), [user_room(user), *rooms, sid])
    if parks:
        await state.disconnects.record([ClosedConnection(sid, user, is_parked=True)])


async def walk(read: Callable[[Slice], Awaitable[NamePage]], limit: int = 100) -> list[ListedName]:
    found: list[ListedName] = []
    after = ""
    while True:
        page = await read(Slice(limit, after))
        assert len(page.names) <= limit
        found += page.names
        after = page.next
        if not after:
            return found


async def rooms(
    state: StateUnderTest, prefix: str = "", *, namespace: str = "/", limit: int = 100
) -> list[ListedName]:
    return await walk(partial(state.listings.rooms, namespace, prefix), limit)


async def sids(read: Callable[[Slice], Awaitable[ConnectionPage]], limit: int = 100) -> list[str]:
    found: list[str] = []
    after = ""
    while True:
        page = await read(Slice(limit, after))
        assert len(page.connections) <= limit
        found += [each.connection.sid for each in page.connections]
        after = page.next
        if not after:
            return found


async def test_rooms_are_listed_with_their_connections_without_those_of_sids(state: StateUnderTest) -> None:
    await register(state, "~1", "ann", "org:7", "täg", "a,b")
    await register(state, "~2", "bob", "org:7")
    await register(state, "~3", "ann", "other", namespace="/chat")

    assert await rooms(state) == [
        ("a,b", 1), ("org:7", 2), ("täg", 1), ("user:ann", 1), ("user:bob", 1)
    ]  # fmt: skip
    assert await rooms(state, namespace="/chat") == [("other", 1), ("user:ann", 1)]
    assert await rooms(state, namespace="/none") == []


async def test_prefix_and_pages_cut_the_list(state: StateUnderTest) -> None:
    names = ["org", "org:", "org:1", "org:10", "org:2", "orga", "org\uffff", "org\U0001f600", "os"]
    await register(state, "~1", "ann", *names)

    found = await rooms(state, "org", limit=2)

    assert [name for name, _ in found] == sorted(set(names) - {"os"})
    assert [name for name, _ in await rooms(state, "org:", limit=1)] == ["org:", "org:1", "org:10", "org:2"]
    assert await rooms(state, "orgz") == []


async def test_last_page_that_is_full_is_the_end(state: StateUnderTest) -> None:
    await register(state, "~1", "ann", "a", "b")

    page = await state.listings.rooms("/", "", Slice(3))

    assert (len(page.names), page.next, page.is_complete) == (3, "", True)


async def test_users_are_those_of_one_namespace_or_of_all(state: StateUnderTest) -> None:
    await register(state, "~1", "ann")
    await register(state, "~2", "bob", namespace="/chat")
    await register(state, "~3", "bob", namespace="/chat")
    await register(state, "~4", "anna")
    await register(state, "~5", "ann", namespace="/chat")

    both = partial(state.listings.users, ("/", "/chat"))

    assert await walk(partial(both, ""), 1) == [("ann", 2), ("anna", 1), ("bob", 2)]
    assert await walk(partial(both, "ann"), 1) == [("ann", 2), ("anna", 1)]
    assert await walk(partial(state.listings.users, ("/",), ""), 1) == [("ann", 1), ("anna", 1)]
    assert await walk(partial(state.listings.users, ("/chat",), "b"), 1) == [("bob", 2)]


async def test_names_leave_the_lists_with_their_last_connection(state: StateUnderTest) -> None:
    await register(state, "~1", "ann", "org:7")
    await register(state, "~2", "ann", "org:7")

    await state.presence.unregister("~1")
    assert await rooms(state) == [("org:7", 1), ("user:ann", 1)]

    await state.disconnects.record([ClosedConnection("~2", "ann", is_parked=True)])
    assert await rooms(state) == []
    assert await walk(partial(state.listings.users, ("/", "/chat"), "")) == []
    assert (await state.listings.room("/", "org:7")) == RoomSummary(0, recoverable=1)


async def test_joined_and_left_rooms_are_listed_as_they_change(state: StateUnderTest) -> None:
    await register(state, "~1", "ann", "a", "b")

    await state.presence.change_rooms("~1", ["b", "c"])

    assert await rooms(state) == [("b", 1), ("c", 1)]


async def test_stats_count_users_once_and_name_the_replica(state: StateUnderTest) -> None:
    await register(state, "~1", "ann", "org:7")
    await register(state, "~2", "bob", "org:7", "x")
    await register(state, "~3", "ann", namespace="/chat")

    stats = await state.listings.stats(("/", "/chat"))

    assert (stats.users, stats.connections, stats.rooms, stats.is_complete) == (2, 3, 5, True)
    assert stats.namespaces == {"/": NamespaceSummary(2, 4, 2), "/chat": NamespaceSummary(1, 1, 1)}
    (replica,) = stats.replicas
    assert (replica.id, replica.connections, replica.version) == (REPLICA, 3, None)
    assert abs(replica.since - state.now()) < 60


async def test_connections_of_a_user_have_rooms_and_data(state: StateUnderTest) -> None:
    await register(state, "~b", "ann", "org:7", "a")
    await register(state, "~a", "ann", namespace="/chat")
    await register(state, "~c", "bob")
    replaced = await state.socket_data.replace("~b", '{"cart":3}', expected=0)
    assert replaced is not None

    page = await state.listings.connections_of("ann", None, Slice(10))

    first, second = page.connections
    assert (first.connection, first.rooms, first.stored) == (
        connection("~a", "ann", namespace="/chat"), ("user:ann",), StoredData(),
    )  # fmt: skip
    assert (second.connection, second.rooms) == (connection("~b", "ann"), ("a", "org:7", "user:ann"))
    assert second.stored == replaced[1] == StoredData(second.stored.version, '{"cart":3}')
    assert await state.listings.connection("~b") == second
    assert await state.listings.connection("~x") is None


async def test_connections_of_a_user_are_read_in_pages(state: StateUnderTest) -> None:
    for number in range(7):
        await register(state, f"~{number}", "ann", namespace="/" if number % 2 else "/chat")

    assert await sids(partial(state.listings.connections_of, "ann", None), 2) == [f"~{n}" for n in range(7)]
    assert await sids(partial(state.listings.connections_of, "ann", "/"), 2) == ["~1", "~3", "~5"]
    assert await sids(partial(state.listings.connections_of, "bob", None)) == []


async def test_connections_of_a_user_with_very_many_are_walked_while_they_change(
    state: StateUnderTest,
) -> None:
    stays = sorted(f"~{letter}{number}" for number in range(45) for letter in "Aa")
    for sid in stays:
        await register(state, sid, "ann", "org:7")
    walk_all = partial(state.listings.connections_of, "ann", None)
    found: list[str] = []
    after, others = "", 0
    while True:
        page = await walk_all(Slice(10, after))
        found += [each.connection.sid for each in page.connections]
        after = page.next
        if not after:
            break
        # Above a hundred connections, and below again.
        for _ in range(30):
            others += 1
            await register(state, f"~Z{others}", "ann")
            if others > 25:
                await state.presence.unregister(f"~Z{others - 25}")

    assert [sid for sid in found if sid in stays] == stays
    assert found == sorted(set(found))
    assert await sids(walk_all) == sorted([*stays, *(f"~Z{others - n}" for n in range(25))])
    for number in range(others - 24, others + 1):
        await state.presence.unregister(f"~Z{number}")
    assert await sids(walk_all, 7) == stays


async def test_connections_of_very_many_that_are_registered_again_are_listed_once(
    state: StateUnderTest,
) -> None:
    everyone = [f"~{number:03}" for number in range(102)]
    for sid in everyone:
        await register(state, sid, "ann")
    await state.presence.register_again(dict.fromkeys(everyone))
    await state.presence.unregister("~000")
    await state.presence.register_again(dict.fromkeys(everyone))

    assert await sids(partial(state.listings.connections_of, "ann", "/")) == everyone[1:]
    for sid in everyone:
        await state.presence.unregister(sid)
    assert await sids(partial(state.listings.connections_of, "ann", None)) == []


async def test_members_are_listed_where_the_first_rule_has_it(state: StateUnderTest) -> None:
    assert state.listings.configure(LISTED)
    assert not state.listings.configure(LISTED)
    for number in range(5):
        await register(state, f"~{number}", "ann" if number else "bob", "chat:1", "org:7")
    await register(state, "~9", "bob", "chat:1", namespace="/chat")

    members = partial(state.listings.members, "/")

    assert await sids(partial(members, "chat:1"), 2) == [f"~{n}" for n in range(5)]
    assert await sids(partial(members, "org:7")) == []
    assert await state.listings.room("/", "chat:1") == RoomSummary(5, users=2)
    assert await state.listings.room("/", "org:7") == RoomSummary(5)
    await state.presence.unregister("~0")
    await state.presence.change_rooms("~1", ["org:7"])
    assert await sids(partial(members, "chat:1")) == ["~2", "~3", "~4"]
    assert await state.listings.room("/", "chat:1") == RoomSummary(3, users=1)


async def test_members_are_complete_once_connections_are_registered_again(state: StateUnderTest) -> None:
    await register(state, "~1", "ann", "chat:1")
    state.listings.configure(LISTED)
    await state.presence.register_again({"~1": None})

    assert await sids(partial(state.listings.members, "/", "chat:1")) == ["~1"]
    state.listings.configure(MemberRules())
    await state.presence.register_again({"~1": None})
    assert await sids(partial(state.listings.members, "/", "chat:1")) == []


async def test_page_of_connections_ends_with_its_bytes(state: StateUnderTest) -> None:
    names = [f"{number:03}" + "x" * 290 for number in range(300)]
    for number in range(6):
        await register(state, f"~{number}", "ann", *names)

    page = await state.listings.connections_of("ann", None, Slice(100))

    assert 0 < len(page.connections) < 6
    assert await sids(partial(state.listings.connections_of, "ann", None)) == [f"~{n}" for n in range(6)]


async def test_page_of_connections_with_much_data_is_short(state: StateUnderTest) -> None:
    text = encode_data({"t": "x" * (MAX_DATA_BYTES - len('{"t":""}'))})
    everyone = [f"~{number:03}" for number in range(90)]
    for sid in everyone:
        await register(state, sid, "ann")
        await state.socket_data.replace(sid, text, expected=0)

    page = await state.listings.connections_of("ann", None, Slice(100))

    assert 0 < len(page.connections) * len(text) < MAX_PAGE_BYTES + len(text)
    assert page.next == page.connections[-1].connection.sid
    assert await sids(partial(state.listings.connections_of, "ann", None)) == everyone


async def test_walk_has_everything_that_was_there_throughout(state: StateUnderTest) -> None:
    stays = [f"room {number:03}" for number in range(200)]
    for number, name in enumerate(stays):
        await register(state, f"~stay{number:03}", f"u{number}", name)
    choice = random.Random(7)
    seen: list[ListedName] = []
    after, others = "", 0
    while True:
        page = await state.listings.rooms("/", "room ", Slice(7, after))
        seen += page.names
        after = page.next
        if not after:
            break
        for _ in range(5):
            others += 1
            await register(state, f"~other{others}", f"g{others}", f"room {choice.randrange(200):03}{others}")
            if others > 3:
                await state.presence.unregister(f"~other{others - choice.randrange(3)}")
    names = [name for name, _ in seen]
    assert names == sorted(set(names))
    assert set(stays) <= set(names)


async def test_socket_data_is_replaced_only_at_the_version_that_was_read(state: StateUnderTest) -> None:
    await register(state, "~1", "ann")

    first = await state.socket_data.replace("~1", '{"a":1}', expected=0)
    late = await state.socket_data.replace("~1", '{"b":1}', expected=0)
    assert first is not None
    second = await state.socket_data.replace("~1", '{"c":1}', expected=first[1].version)

    assert second is not None
    assert (first[0], late, second[0]) == (True, (False, first[1]), True)
    assert second[1].version > first[1].version
    assert await state.socket_data.read("~1") == second[1]
    assert await state.socket_data.replace("~x", "{}", expected=0) is None
    assert await state.socket_data.read("~x") == StoredData()


async def test_socket_data_is_kept_while_the_session_may_be_resumed(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=60)
    await register(state, "~1", "ann")
    replaced = await state.socket_data.replace("~1", '{"a":1}', expected=0)
    assert replaced is not None

    await state.disconnects.record([ClosedConnection("~1", "ann", is_parked=True)])
    assert await state.socket_data.read("~1") == StoredData()
    await state.advance(30)
    await register(state, "~1", "ann")
    await state.advance(100)
    assert await state.socket_data.read("~1") == replaced[1]

    await state.disconnects.record([ClosedConnection("~1", "ann", is_parked=True)])
    await state.advance(61)
    await register(state, "~1", "ann")
    assert await state.socket_data.read("~1") == StoredData()


async def test_socket_data_ends_with_the_connection(state: StateUnderTest) -> None:
    await register(state, "~1", "ann")
    await state.socket_data.replace("~1", '{"a":1}', expected=0)

    await state.disconnects.record([ClosedConnection("~1", "ann")])
    await register(state, "~1", "ann")

    assert await state.socket_data.read("~1") == StoredData()


async def test_lists_are_kept_as_long_as_connections_are(state: StateUnderTest) -> None:
    state.listings.configure(LISTED)
    await register(state, "~1", "ann", "chat:1")
    await state.socket_data.replace("~1", '{"a":1}', expected=0)

    await state.advance(200_000)

    assert await rooms(state) == [("chat:1", 1), ("user:ann", 1)]
    assert await sids(partial(state.listings.members, "/", "chat:1")) == ["~1"]
    assert (await state.socket_data.read("~1")).text == '{"a":1}'
    assert (await state.listings.stats(["/"])).users == 1


SIDS = st.sampled_from([f"~{number}" for number in range(6)])
USERS = st.sampled_from(["ann", "bob", "cy"])
ROOMS = st.frozensets(st.sampled_from(["chat:1", "chat:2", "org:7", "x"]), max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("register"), SIDS, ROOMS),
        st.tuples(st.just("change"), SIDS, ROOMS),
        st.tuples(st.just("end"), SIDS, st.booleans()),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, users=st.lists(USERS, min_size=6, max_size=6))
async def test_lists_equal_plain_sets_whatever_happened(
    make_state: MakeState, steps: list[tuple[str, str, object]], users: list[str]
) -> None:
    state = await make_state()
    state.listings.configure(LISTED)
    model: dict[str, set[str]] = {}
    for verb, sid, detail in steps:
        user = users[int(sid[1:])]
        if verb == "end":
            await state.disconnects.record([ClosedConnection(sid, user, is_parked=bool(detail))])
            model.pop(sid, None)
            continue
        assert isinstance(detail, Collection)
        if verb == "register":
            await register(state, sid, user, *detail)
        else:
            await state.presence.change_rooms(sid, [user_room(user), *detail, sid])
        if verb == "register" or sid in model:
            model[sid] = {user_room(user), *detail}

    counts: dict[str, int] = {}
    for each in model.values():
        for room in each:
            counts[room] = counts.get(room, 0) + 1
    assert dict(await rooms(state, limit=3)) == counts
    assert {name for name, _ in await walk(partial(state.listings.users, ("/", "/chat"), ""))} == {
        users[int(sid[1:])] for sid in model
    }
    for room in ("chat:1", "chat:2", "org:7"):
        inside = sorted(sid for sid, each in model.items() if room in each and room.startswith("chat:"))
        assert await sids(partial(state.listings.members, "/", room), 2) == inside
        summary = await state.listings.room("/", room)
        if room.startswith("chat:"):
            assert summary.users == len({users[int(sid[1:])] for sid in inside})
    await state.close()
