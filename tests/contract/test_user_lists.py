"""UserLists: the listed connections of a namespace, in order, and a number that changes with them."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.presence import ClosedConnection, UserList
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import connection


async def register(
    state: StateUnderTest,
    sid: str,
    listed: str | None,
    *,
    user: str = "ann",
    namespace: str = "/",
    connected_at: float = 1_000.0,
) -> None:
    await state.presence.register(
        connection(sid, user, namespace=namespace, connected_at=connected_at), ["a"], listed=listed
    )


async def entries(state: StateUnderTest, namespace: str = "/") -> tuple[str, ...]:
    return (await state.user_lists.read(namespace, limit=1_000)).entries


async def test_namespace_without_listed_connections_has_no_list(state: StateUnderTest) -> None:
    await register(state, "~s1", None)

    assert await state.user_lists.version("/") == 0
    assert await state.user_lists.read("/", limit=10) == UserList(0, 0, ())


async def test_list_has_the_entries_of_the_connections_that_came_first_in_front(
    state: StateUnderTest,
) -> None:
    await register(state, "~s1", '{"socketId":"~s1","userId":"änn"}', connected_at=10.0)
    await register(state, "~s2", None, connected_at=20.0)
    await register(state, "~s3", '{"socketId":"~s3"}', user="bob", connected_at=30.0)
    await register(state, "~s0", '{"socketId":"~s0"}', connected_at=40.0)

    found = await state.user_lists.read("/", limit=10)

    assert (found.total, found.entries) == (
        3, ('{"socketId":"~s1","userId":"änn"}', '{"socketId":"~s3"}', '{"socketId":"~s0"}'),
    )  # fmt: skip
    assert found.version == await state.user_lists.version("/") != 0


async def test_list_is_cut_at_its_limit_and_counts_all(state: StateUnderTest) -> None:
    for number in range(5):
        await register(state, f"~s{number}", f"{number}", connected_at=10.0 * number)

    found = await state.user_lists.read("/", limit=2)

    assert (found.total, found.entries) == (5, ("0", "1"))


async def test_namespaces_have_lists_of_their_own(state: StateUnderTest) -> None:
    await register(state, "~s1", '"one"')
    before = await state.user_lists.version("/")

    await register(state, "~s2", '"two"', namespace="/chat")

    assert (await entries(state), await entries(state, "/chat")) == (('"one"',), ('"two"',))
    assert await state.user_lists.version("/") == before


async def test_connection_that_is_gone_is_not_listed(state: StateUnderTest) -> None:
    for number in range(4):
        await register(state, f"~s{number}", f"{number}", connected_at=10.0 * number)

    await state.presence.unregister("~s1")
    await state.presence.unregister("~s2", is_parked=True)
    await state.disconnects.record([ClosedConnection("~s3", user="ann")])

    assert await entries(state) == ("0",)


async def test_version_changes_with_the_list_and_with_nothing_else(state: StateUnderTest) -> None:
    seen = [await state.user_lists.version("/")]

    async def changed() -> bool:
        seen.append(await state.user_lists.version("/"))
        return seen[-1] != seen[-2]

    await register(state, "~s1", "1", connected_at=10.0)
    assert await changed()
    await register(state, "~s2", "2", connected_at=20.0)
    assert await changed()
    await register(state, "~s3", None)
    assert not await changed()
    await state.presence.change_rooms("~s1", ["b"])
    await state.presence.change_transport("~s1", "polling")
    await state.presence.unregister("~s3")
    await state.presence.unregister("~unknown")
    assert not await changed()
    await register(state, "~s1", "1b", connected_at=10.0)
    assert await changed()
    assert await entries(state) == ("1b", "2")
    await state.presence.unregister("~s2")
    assert await changed()
    assert await entries(state) == ("1b",)


async def test_version_changes_when_a_connection_is_registered_with_the_same_entry(
    state: StateUnderTest,
) -> None:
    await register(state, "~s1", "1")
    before = await state.user_lists.version("/")

    await register(state, "~s1", "1")

    assert await state.user_lists.version("/") != before
    assert await entries(state) == ("1",)


async def test_connections_registered_again_have_their_new_entries_in_their_old_places(
    state: StateUnderTest,
) -> None:
    await register(state, "~s1", "1", connected_at=10.0)
    await register(state, "~s2", None, connected_at=20.0)
    await register(state, "~s3", "3", connected_at=30.0)
    await register(state, "~s4", "4", connected_at=40.0)

    await state.presence.register_again({"~s4": "4b", "~s1": "1b", "~s3": None, "~gone": "5"})

    assert await entries(state) == ("1b", "4b")
    await state.presence.register_again({"~s2": "2"})
    assert sorted(await entries(state)) == ["1b", "2", "4b"]


async def test_list_that_begins_again_has_a_version_that_it_never_had(state: StateUnderTest) -> None:
    versions = []
    for _ in range(3):
        await register(state, "~s1", "1")
        versions.append(await state.user_lists.version("/"))
        await state.presence.unregister("~s1")
        assert (await state.user_lists.read("/", limit=10)).entries == ()
        assert await state.user_lists.version("/") != versions[-1]

    assert len(set(versions)) == 3


async def test_sid_registered_again_without_an_entry_or_in_another_namespace_leaves_the_list(
    state: StateUnderTest,
) -> None:
    await register(state, "~s1", "1", connected_at=10.0)
    await register(state, "~s2", "2", connected_at=20.0)

    await register(state, "~s1", None, connected_at=10.0)
    await register(state, "~s2", "2", namespace="/chat", connected_at=20.0)

    assert (await entries(state), await entries(state, "/chat")) == ((), ("2",))


async def test_list_stays_for_as_long_as_its_connections(make_state: MakeState) -> None:
    state = await make_state(last_seen_seconds=10, recovery_seconds=10)
    await register(state, "~s1", "1")
    version = await state.user_lists.version("/")

    await state.advance(200_000)

    assert await entries(state) == ("1",)
    assert await state.user_lists.version("/") == version


CHANGES = st.lists(
    st.tuples(st.sampled_from(["~s1", "~s2", "~s3"]), st.sampled_from(["", "x", "y", "gone"])), max_size=20
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
async def test_list_is_that_of_a_mapping_of_connections(
    make_state: MakeState, changes: list[tuple[str, str]]
) -> None:
    state = await make_state()
    model: dict[str, str] = {}
    for sid, listed in changes:
        before, model_before = await state.user_lists.version("/"), dict(model)
        model.pop(sid, None)
        if listed == "gone":
            await state.presence.unregister(sid)
        else:
            await register(state, sid, listed or None, connected_at=float(sid[2:]))
            if listed:
                model[sid] = listed
        is_changed = listed in {"x", "y"} or model != model_before
        assert (await state.user_lists.version("/") != before) == is_changed
        found = await state.user_lists.read("/", limit=10)
        assert (found.total, sorted(found.entries)) == (len(model), sorted(model.values()))
