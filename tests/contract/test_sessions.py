"""Connections that may come back: who owns them, and for how long they are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.positions import Position
from gateway.domain.sessions import RecoverySession, ResumedSession
from tests.contract.session_resume import resume, resume_failure
from tests.contract.states import MakeState, StateUnderTest

SESSION = RecoverySession(
    pid="secret",
    sid="s1",
    user="ann",
    namespace="/",
    owner="replica-1/t1",
    rooms=frozenset({"a", "käse"}),
    first_position=Position("1700000000000-3"),
)
ENTERED = replace(SESSION, joined_at={"käse": Position("1700000000000-4")})
OTHER = "replica-1/t2"


@pytest.mark.parametrize(
    "session", [SESSION, ENTERED, replace(SESSION, namespace="/chät", rooms=frozenset())]
)
async def test_a_saved_session_is_adopted_as_it_was(state: StateUnderTest, session: RecoverySession) -> None:
    await state.sessions.save(session)

    adopted = await resume(state.sessions, "secret", namespace=session.namespace, owner=OTHER)

    assert adopted == ResumedSession(session, in_use=True)


async def test_an_unknown_session_is_not_adopted(state: StateUnderTest) -> None:
    assert await resume_failure(state.sessions, "secret") == "unknown_session"


async def test_a_session_of_another_user_is_not_adopted_and_stays_as_it_is(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)

    assert await resume_failure(state.sessions, "secret", user="eve") == "other_user"

    assert await resume(state.sessions, "secret") == ResumedSession(SESSION, in_use=True)


async def test_a_session_of_another_namespace_is_unknown_to_everyone_there_and_stays_as_it_is(
    state: StateUnderTest,
) -> None:
    await state.sessions.save(SESSION)

    assert await resume_failure(state.sessions, "secret", namespace="/chat") == "unknown_session"
    assert await resume_failure(state.sessions, "secret", namespace="/chat", user="eve") == "unknown_session"

    assert await resume(state.sessions, "secret") == ResumedSession(SESSION, in_use=True)


async def test_a_session_that_was_left_is_no_other_users_nor_of_another_namespace(
    state: StateUnderTest,
) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)

    assert await resume_failure(state.sessions, "secret", user="eve") == "other_user"
    assert await resume_failure(state.sessions, "secret", namespace="/chat") == "unknown_session"

    assert await resume(state.sessions, "secret") == ResumedSession(SESSION, in_use=False)


async def test_adopting_makes_the_new_owner_the_one_that_the_next_adopter_sees(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    await resume(state.sessions, "secret", owner=OTHER)

    assert await resume(state.sessions, "secret") == ResumedSession(
        replace(SESSION, owner=OTHER), in_use=True
    )


async def test_a_session_is_in_use_until_its_owner_leaves_and_from_when_it_is_adopted(
    state: StateUnderTest,
) -> None:
    await state.sessions.save(SESSION)
    assert (await resume(state.sessions, "secret", owner="second")).in_use

    await state.sessions.park("secret", owner="second")

    assert not (await resume(state.sessions, "secret", owner="third")).in_use
    assert (await resume(state.sessions, "secret", owner="fourth")).in_use


async def test_a_known_session_is_not_overwritten_by_saving(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.save(replace(SESSION, user="eve", owner="eve"))

    assert await resume(state.sessions, "secret") == ResumedSession(SESSION, in_use=True)


async def test_the_owner_changes_its_rooms(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    changed = replace(SESSION, rooms=frozenset({"b"}))

    await state.sessions.change(changed)

    assert await resume(state.sessions, "secret") == ResumedSession(changed, in_use=True)


@pytest.mark.parametrize("leaves_first", [False, True])
async def test_where_its_rooms_were_entered_is_known_to_who_adopts_it(
    state: StateUnderTest, *, leaves_first: bool
) -> None:
    await state.sessions.save(SESSION)
    changed = SESSION.with_rooms({"a", 'b "c" \\ 👋'}, Position("1700000000500-0"))
    changed = changed.with_rooms({*changed.rooms, "d"}, Position("1700000000600-7"))

    await state.sessions.change(changed)
    if leaves_first:
        await state.sessions.park("secret", owner=SESSION.owner)

    assert await resume(state.sessions, "secret", owner=OTHER) == ResumedSession(
        changed, in_use=not leaves_first
    )
    assert await resume(state.sessions, "secret") == ResumedSession(
        replace(changed, owner=OTHER), in_use=True
    )
    assert dict(changed.joined_at) == {'b "c" \\ 👋': "1700000000500-0", "d": "1700000000600-7"}


async def test_who_adopts_a_session_changes_it_from_then_on(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    adopted = await resume(state.sessions, "secret", owner=OTHER)
    changed = replace(adopted.session, owner=OTHER).with_rooms({"b"}, Position("1700000000500-0"))

    await state.sessions.change(changed)

    assert await resume(state.sessions, "secret") == ResumedSession(changed, in_use=True)


async def test_what_was_never_saved_is_not_changed_into_being(state: StateUnderTest) -> None:
    await state.sessions.change(SESSION)

    assert await resume_failure(state.sessions, "secret") == "unknown_session"


async def test_what_a_former_owner_says_late_is_ignored(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await resume(state.sessions, "secret", owner=OTHER)

    await state.sessions.change(SESSION.with_rooms({"b"}, Position("1700000000500-0")))
    await state.sessions.delete("secret", owner=SESSION.owner)
    await state.sessions.park("secret", owner=SESSION.owner)
    await state.advance(1000)

    assert await resume(state.sessions, "secret") == ResumedSession(
        replace(SESSION, owner=OTHER), in_use=True
    )


async def test_a_former_owner_ends_nothing_that_the_next_one_left(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await resume(state.sessions, "secret", owner=OTHER)
    await state.sessions.park("secret", owner=OTHER)

    await state.sessions.delete("secret", owner=SESSION.owner)

    assert await resume(state.sessions, "secret") == ResumedSession(
        replace(SESSION, owner=OTHER), in_use=False
    )


async def test_a_session_that_was_left_is_kept_for_the_window_and_no_longer(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    for pid in ("in time", "too late"):
        await state.sessions.save(replace(SESSION, pid=pid))
        await state.sessions.park(pid, owner=SESSION.owner)

    await state.advance(80)
    assert await resume(state.sessions, "in time") == ResumedSession(
        replace(SESSION, pid="in time"), in_use=False
    )
    await state.advance(40)
    assert await resume_failure(state.sessions, "too late") == "session_expired"


async def test_for_as_long_again_it_is_told_that_a_session_has_expired_and_then_it_is_unknown(
    make_state: MakeState,
) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)

    await state.advance(180)
    # Asking does not keep it, and tells others no more than before.
    assert await resume_failure(state.sessions, "secret") == "session_expired"
    assert await resume_failure(state.sessions, "secret") == "session_expired"
    assert await resume_failure(state.sessions, "secret", user="eve") == "other_user"
    assert await resume_failure(state.sessions, "secret", namespace="/chat") == "unknown_session"

    await state.advance(40)
    assert await resume_failure(state.sessions, "secret") == "unknown_session"
    assert await resume_failure(state.sessions, "secret", user="eve") == "unknown_session"


async def test_an_expired_session_is_not_saved_again_nor_changed(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)
    await state.advance(120)

    await state.sessions.change(SESSION)
    await state.sessions.save(SESSION)

    assert await resume_failure(state.sessions, "secret") == "session_expired"


async def test_leaving_twice_does_not_make_the_window_longer(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)
    await state.advance(80)
    await state.sessions.park("secret", owner=SESSION.owner)
    await state.sessions.save(SESSION)
    await state.advance(40)

    assert await resume_failure(state.sessions, "secret") == "session_expired"
    await state.sessions.park("secret", owner=SESSION.owner)
    await state.advance(100)
    assert await resume_failure(state.sessions, "secret") == "unknown_session"


async def test_a_session_in_use_does_not_expire(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.advance(10_000)

    assert await resume(state.sessions, "secret") == ResumedSession(SESSION, in_use=True)


async def test_an_adopted_session_no_longer_expires(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)
    await resume(state.sessions, "secret", owner=OTHER)
    await state.advance(10_000)

    assert await resume(state.sessions, "secret") == ResumedSession(
        replace(SESSION, owner=OTHER), in_use=True
    )


async def test_the_window_of_one_who_came_back_and_left_again_begins_anew(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)
    await state.advance(80)
    await resume(state.sessions, "secret", owner=OTHER)
    await state.sessions.park("secret", owner=OTHER)
    await state.advance(80)

    assert await resume(state.sessions, "secret") == ResumedSession(
        replace(SESSION, owner=OTHER), in_use=False
    )


async def test_a_deleted_session_is_gone_and_a_late_write_does_not_bring_it_back(
    state: StateUnderTest,
) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.delete("secret", owner=SESSION.owner)

    await state.sessions.change(replace(SESSION, rooms=frozenset({"b"})))
    await state.sessions.park("secret", owner=SESSION.owner)

    assert await resume_failure(state.sessions, "secret") == "unknown_session"


async def test_nothing_is_changed_once_a_session_was_left(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)

    await state.sessions.change(SESSION.with_rooms({"b"}, Position("1700000000500-0")))

    assert await resume(state.sessions, "secret") == ResumedSession(SESSION, in_use=False)


async def test_a_session_that_was_left_can_be_deleted_by_its_owner(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)

    await state.sessions.delete("secret", owner=SESSION.owner)

    assert await resume_failure(state.sessions, "secret") == "unknown_session"


async def test_without_a_window_a_session_ends_when_it_is_left(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=0)
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)

    assert await resume_failure(state.sessions, "secret") == "unknown_session"
