"""Connections that may come back: who owns them, and for how long they are kept."""

from __future__ import annotations

from dataclasses import replace

from gateway.domain.positions import Position
from gateway.domain.sessions import Session
from tests.contract.states import MakeState, StateUnderTest

SESSION = Session(
    pid="secret",
    sid="s1",
    user="ann",
    namespace="/",
    owner="replica-1/t1",
    rooms=frozenset({"a", "käse"}),
    first_position=Position("1700000000000-3"),
)
OTHER = "replica-1/t2"


async def test_a_saved_session_is_adopted_as_it_was(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)

    assert await state.sessions.adopt("secret", user="ann", owner=OTHER) == SESSION


async def test_an_unknown_session_is_not_adopted(state: StateUnderTest) -> None:
    assert await state.sessions.adopt("secret", user="ann", owner=OTHER) is None


async def test_a_session_of_another_user_is_not_adopted_and_stays_as_it_is(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)

    assert await state.sessions.adopt("secret", user="eve", owner="eve") is None

    assert await state.sessions.adopt("secret", user="ann", owner=OTHER) == SESSION


async def test_adopting_makes_the_new_owner_the_one_that_the_next_adopter_sees(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.adopt("secret", user="ann", owner=OTHER)

    assert await state.sessions.adopt("secret", user="ann", owner="third") == replace(SESSION, owner=OTHER)


async def test_a_known_session_is_not_overwritten_by_saving(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.save(replace(SESSION, user="eve", owner="eve"))

    assert await state.sessions.adopt("secret", user="ann", owner=OTHER) == SESSION


async def test_the_owner_changes_its_rooms(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)

    await state.sessions.change_rooms("secret", {"b"}, owner=SESSION.owner)

    adopted = await state.sessions.adopt("secret", user="ann", owner=OTHER)
    assert adopted == replace(SESSION, rooms=frozenset({"b"}))


async def test_what_a_former_owner_says_late_is_ignored(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.sessions.adopt("secret", user="ann", owner=OTHER)

    await state.sessions.change_rooms("secret", {"b"}, owner=SESSION.owner)
    await state.sessions.delete("secret", owner=SESSION.owner)
    await state.sessions.leave("secret", owner=SESSION.owner)
    await state.advance(1000)

    assert await state.sessions.adopt("secret", user="ann", owner="third") == replace(SESSION, owner=OTHER)


async def test_a_session_that_was_left_is_kept_for_the_window_and_no_longer(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    for pid in ("in time", "too late"):
        await state.sessions.save(replace(SESSION, pid=pid))
        await state.sessions.leave(pid, owner=SESSION.owner)

    await state.advance(80)
    assert await state.sessions.adopt("in time", user="ann", owner=OTHER) == replace(SESSION, pid="in time")
    await state.advance(40)
    assert await state.sessions.adopt("too late", user="ann", owner=OTHER) is None


async def test_leaving_twice_does_not_make_the_window_longer(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.sessions.leave("secret", owner=SESSION.owner)
    await state.advance(80)
    await state.sessions.leave("secret", owner=SESSION.owner)
    await state.sessions.save(SESSION)
    await state.advance(40)

    assert await state.sessions.adopt("secret", user="ann", owner=OTHER) is None


async def test_a_session_in_use_does_not_expire(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.advance(10_000)

    assert await state.sessions.adopt("secret", user="ann", owner=OTHER) == SESSION


async def test_an_adopted_session_no_longer_expires(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.sessions.leave("secret", owner=SESSION.owner)
    await state.sessions.adopt("secret", user="ann", owner=OTHER)
    await state.advance(10_000)

    assert await state.sessions.adopt("secret", user="ann", owner="third") is not None


async def test_a_deleted_session_is_gone_and_a_late_write_does_not_bring_it_back(
    state: StateUnderTest,
) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.delete("secret", owner=SESSION.owner)

    await state.sessions.change_rooms("secret", {"b"}, owner=SESSION.owner)
    await state.sessions.leave("secret", owner=SESSION.owner)

    assert await state.sessions.adopt("secret", user="ann", owner=OTHER) is None


async def test_rooms_are_not_changed_once_a_session_was_left(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.leave("secret", owner=SESSION.owner)

    await state.sessions.change_rooms("secret", {"b"}, owner=SESSION.owner)

    assert await state.sessions.adopt("secret", user="ann", owner=OTHER) == SESSION


async def test_a_session_that_was_left_can_be_deleted_by_its_owner(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.leave("secret", owner=SESSION.owner)

    await state.sessions.delete("secret", owner=SESSION.owner)

    assert await state.sessions.adopt("secret", user="ann", owner=OTHER) is None


async def test_without_a_window_a_session_ends_when_it_is_left(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=0)
    await state.sessions.save(SESSION)
    await state.sessions.leave("secret", owner=SESSION.owner)

    assert await state.sessions.adopt("secret", user="ann", owner=OTHER) is None
