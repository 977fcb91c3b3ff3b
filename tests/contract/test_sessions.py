"""Sessions: their owner, their changes, and how long they are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.positions import Position
from gateway.domain.sessions import RecoverySession, ResumedSession, Stay
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
JOINED = replace(
    SESSION,
    joined_at={"käse": Position("1700000000000-4")},
    joined_rooms=frozenset({"käse"}),
    changed_at=Position("1700000000000-5"),
    left=(Stay("brød", Position("1700000000000-3"), Position("1700000000000-4")),),
)
OTHER = "replica-1/t2"


@pytest.mark.parametrize("session", [SESSION, JOINED, replace(SESSION, namespace="/chät", rooms=frozenset())])
async def test_saved_session_is_resumed_as_it_was(state: StateUnderTest, session: RecoverySession) -> None:
    await state.sessions.save(session)

    resumed = await resume(state.sessions, "secret", namespace=session.namespace, owner=OTHER)

    assert resumed == ResumedSession(session, in_use=True)


async def test_unknown_session_is_not_resumed(state: StateUnderTest) -> None:
    assert await resume_failure(state.sessions, "secret") == "unknown_session"


async def test_session_of_another_user_is_not_resumed_and_does_not_change(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)

    assert await resume_failure(state.sessions, "secret", user="eve") == "other_user"

    assert await resume(state.sessions, "secret") == ResumedSession(SESSION, in_use=True)


async def test_session_of_another_namespace_is_unknown_and_does_not_change(
    state: StateUnderTest,
) -> None:
    await state.sessions.save(SESSION)

    assert await resume_failure(state.sessions, "secret", namespace="/chat") == "unknown_session"
    assert await resume_failure(state.sessions, "secret", namespace="/chat", user="eve") == "unknown_session"

    assert await resume(state.sessions, "secret") == ResumedSession(SESSION, in_use=True)


async def test_parked_session_keeps_its_user_and_namespace(
    state: StateUnderTest,
) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)

    assert await resume_failure(state.sessions, "secret", user="eve") == "other_user"
    assert await resume_failure(state.sessions, "secret", namespace="/chat") == "unknown_session"

    assert await resume(state.sessions, "secret") == ResumedSession(SESSION, in_use=False)


async def test_resuming_changes_the_owner(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    await resume(state.sessions, "secret", owner=OTHER)

    assert await resume(state.sessions, "secret") == ResumedSession(
        replace(SESSION, owner=OTHER), in_use=True
    )


async def test_session_is_in_use_until_it_is_parked_and_again_once_it_is_resumed(
    state: StateUnderTest,
) -> None:
    await state.sessions.save(SESSION)
    assert (await resume(state.sessions, "secret", owner="second")).in_use

    await state.sessions.park("secret", owner="second")

    assert not (await resume(state.sessions, "secret", owner="third")).in_use
    assert (await resume(state.sessions, "secret", owner="fourth")).in_use


async def test_known_session_is_not_overwritten_by_save(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.save(replace(SESSION, user="eve", owner="eve"))

    assert await resume(state.sessions, "secret") == ResumedSession(SESSION, in_use=True)


async def test_owner_changes_the_rooms(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    changed = replace(SESSION, rooms=frozenset({"b"}))

    await state.sessions.change(changed)

    assert await resume(state.sessions, "secret") == ResumedSession(changed, in_use=True)


@pytest.mark.parametrize("parks_first", [False, True])
async def test_resumed_session_has_the_positions_at_which_rooms_were_joined(
    state: StateUnderTest, *, parks_first: bool
) -> None:
    await state.sessions.save(SESSION)
    changed = SESSION.with_rooms({"a", 'b "c" \\ 👋'}, Position("1700000000500-0"))
    changed = changed.with_rooms({*changed.rooms, "d"}, Position("1700000000600-7"))

    await state.sessions.change(changed)
    if parks_first:
        await state.sessions.park("secret", owner=SESSION.owner)

    assert await resume(state.sessions, "secret", owner=OTHER) == ResumedSession(
        changed, in_use=not parks_first
    )
    assert await resume(state.sessions, "secret") == ResumedSession(
        replace(changed, owner=OTHER), in_use=True
    )
    assert dict(changed.joined_at) == {'b "c" \\ 👋': "1700000000500-0", "d": "1700000000600-7"}


async def test_new_owner_changes_the_session(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    resumed = await resume(state.sessions, "secret", owner=OTHER)
    changed = replace(resumed.session, owner=OTHER).with_rooms({"b"}, Position("1700000000500-0"))

    await state.sessions.change(changed)

    assert await resume(state.sessions, "secret") == ResumedSession(changed, in_use=True)


async def test_session_that_was_never_saved_is_not_created_by_change(state: StateUnderTest) -> None:
    await state.sessions.change(SESSION)

    assert await resume_failure(state.sessions, "secret") == "unknown_session"


async def test_late_writes_of_a_former_owner_are_ignored(make_state: MakeState) -> None:
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


async def test_former_owner_does_not_delete_a_session_that_the_next_one_parked(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await resume(state.sessions, "secret", owner=OTHER)
    await state.sessions.park("secret", owner=OTHER)

    await state.sessions.delete("secret", owner=SESSION.owner)

    assert await resume(state.sessions, "secret") == ResumedSession(
        replace(SESSION, owner=OTHER), in_use=False
    )


async def test_parked_session_is_kept_for_the_window_and_no_longer(make_state: MakeState) -> None:
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


async def test_session_is_expired_for_as_long_again_and_then_unknown(
    make_state: MakeState,
) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)

    await state.advance(180)
    # A failed attempt neither keeps the session nor discloses more to others.
    assert await resume_failure(state.sessions, "secret") == "session_expired"
    assert await resume_failure(state.sessions, "secret") == "session_expired"
    assert await resume_failure(state.sessions, "secret", user="eve") == "other_user"
    assert await resume_failure(state.sessions, "secret", namespace="/chat") == "unknown_session"

    await state.advance(40)
    assert await resume_failure(state.sessions, "secret") == "unknown_session"
    assert await resume_failure(state.sessions, "secret", user="eve") == "unknown_session"


async def test_expired_session_is_neither_saved_nor_changed(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)
    await state.advance(120)

    await state.sessions.change(SESSION)
    await state.sessions.save(SESSION)

    assert await resume_failure(state.sessions, "secret") == "session_expired"


async def test_parking_twice_does_not_extend_the_window(make_state: MakeState) -> None:
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


async def test_session_in_use_does_not_expire(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.advance(10_000)

    assert await resume(state.sessions, "secret") == ResumedSession(SESSION, in_use=True)


async def test_resumed_session_does_not_expire(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100)
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)
    await resume(state.sessions, "secret", owner=OTHER)
    await state.advance(10_000)

    assert await resume(state.sessions, "secret") == ResumedSession(
        replace(SESSION, owner=OTHER), in_use=True
    )


async def test_window_restarts_when_a_resumed_session_is_parked(make_state: MakeState) -> None:
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


async def test_deleted_session_is_not_revived_by_a_late_write(
    state: StateUnderTest,
) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.delete("secret", owner=SESSION.owner)

    await state.sessions.change(replace(SESSION, rooms=frozenset({"b"})))
    await state.sessions.park("secret", owner=SESSION.owner)

    assert await resume_failure(state.sessions, "secret") == "unknown_session"


async def test_parked_session_is_not_changed(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)

    await state.sessions.change(SESSION.with_rooms({"b"}, Position("1700000000500-0")))

    assert await resume(state.sessions, "secret") == ResumedSession(SESSION, in_use=False)


async def test_parked_session_can_be_deleted_by_its_owner(state: StateUnderTest) -> None:
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)

    await state.sessions.delete("secret", owner=SESSION.owner)

    assert await resume_failure(state.sessions, "secret") == "unknown_session"


async def test_session_without_a_window_ends_when_it_is_parked(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=0)
    await state.sessions.save(SESSION)
    await state.sessions.park("secret", owner=SESSION.owner)

    assert await resume_failure(state.sessions, "secret") == "unknown_session"
