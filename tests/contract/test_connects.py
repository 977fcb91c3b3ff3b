"""Connects: a new connection is subscribed, registered and saved with its session, or nothing of it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain import positions
from gateway.domain.errors import TokenRejected, TooManyConnections
from gateway.domain.identity import Identity
from gateway.domain.positions import Position
from gateway.domain.presence import UserPresence
from gateway.domain.sessions import RecoverySession, ResumedSession
from tests.contract.recording_listener import listening
from tests.contract.session_resume import resume, resume_failure
from tests.contract.states import StateUnderTest
from tests.contract.values import at, connection, connections_at, disconnect_command, message, revoke_token

ROOMS = frozenset({"s1", "user:ann", "a", 'k"p":"9999999999999999-0"'})
IDENTITY = Identity("ann", frozenset({"user:ann", "a"}), expires_at=None, issued_at=1700000000.5)
SESSION = RecoverySession(
    pid="secret",
    sid="s1",
    user="ann",
    namespace="/",
    owner="replica-1/t1",
    rooms=ROOMS,
    first_position=positions.END,
)


async def connect(
    state: StateUnderTest, identity: Identity = IDENTITY, max_of_user: int | None = None
) -> Position | None:
    return await state.connects.connect(
        connection("s1", "ann"), ROOMS, identity, session=SESSION, max_of_user=max_of_user
    )


async def is_absent(state: StateUnderTest) -> bool:
    """Whether there is neither a connection nor a session."""
    return (
        await state.presence.of_user("ann") == UserPresence("ann")
        and await connections_at(state.broker, at("a")) == 0
        and await resume_failure(state.sessions, "secret") == "unknown_session"
    )


async def test_connection_is_registered_and_its_session_begins_at_the_newest_position(
    state: StateUnderTest,
) -> None:
    before = await state.broker.append(message("elsewhere"))

    position = await connect(state)

    assert position == before.position
    assert await state.presence.of_user("ann") == UserPresence("ann", (connection("s1", "ann"),))
    assert await connections_at(state.broker, at("a")) == 1
    assert await state.presence.visible_rooms("ann", "/") == dict.fromkeys(ROOMS, position)
    begun = replace(SESSION, first_position=position)
    assert await resume(state.sessions, "secret") == ResumedSession(begun, in_use=True)


async def test_first_connection_of_a_new_log_gets_a_position(state: StateUnderTest) -> None:
    position = await connect(state)
    assert position is not None

    later = await state.broker.append(message("a"))

    assert positions.is_after(later.position, position)
    assert positions.is_after(position, positions.START)


async def test_everything_that_is_accepted_after_a_connect_is_delivered(state: StateUnderTest) -> None:
    async with listening(state.broker) as listener:
        await connect(state)

        news = message("a")
        await state.broker.append(news)

        assert [entry for _, entry in await listener.first(1)] == [news]


async def test_connection_without_a_session_saves_none(state: StateUnderTest) -> None:
    await state.connects.connect(connection("s1", "ann"), ROOMS, IDENTITY)

    assert await connections_at(state.broker, at("a")) == 1
    assert await state.presence.visible_rooms("ann", "/") == {}
    assert await resume_failure(state.sessions, "secret") == "unknown_session"


@pytest.mark.parametrize("issued_at", [1700000000.5, None])
async def test_token_older_than_a_revocation_of_its_user_is_rejected(
    state: StateUnderTest, issued_at: float | None
) -> None:
    await state.broker.append(disconnect_command("ann", at=1700000000.75, revoke=True))

    with pytest.raises(TokenRejected) as raised:
        await connect(state, replace(IDENTITY, issued_at=issued_at))

    assert raised.value.code == "token_revoked"
    assert await is_absent(state)


async def test_token_issued_when_its_user_was_revoked_is_accepted(state: StateUnderTest) -> None:
    await state.broker.append(disconnect_command("ann", at=1700000000.5, revoke=True))

    await connect(state)

    assert await connections_at(state.broker, at("a")) == 1


async def test_revoked_token_is_rejected_and_others_of_its_user_are_not(state: StateUnderTest) -> None:
    await state.broker.append(revoke_token("t1"))

    with pytest.raises(TokenRejected) as raised:
        await connect(state, replace(IDENTITY, token_id="t1"))

    assert raised.value.code == "token_revoked"
    assert await is_absent(state)
    await connect(state, replace(IDENTITY, token_id="t2"))


async def test_user_with_as_many_connections_as_one_may_have_connects_no_other(
    state: StateUnderTest,
) -> None:
    await state.presence.register(connection("s0", "ann"), [])

    with pytest.raises(TooManyConnections):
        await connect(state, max_of_user=1)

    assert await state.presence.of_user("ann") == UserPresence("ann", (connection("s0", "ann"),))
    assert await connections_at(state.broker, at("a")) == 0
    assert await resume_failure(state.sessions, "secret") == "unknown_session"
    await connect(state, max_of_user=2)


async def test_connection_of_another_replica_is_rejected(state: StateUnderTest) -> None:
    with pytest.raises(ValueError, match="replica"):
        await state.connects.connect(
            replace(connection("s1", "ann"), replica="other"), ROOMS, IDENTITY, session=SESSION
        )

    assert await is_absent(state)


async def test_connected_session_is_parked_and_resumed(state: StateUnderTest) -> None:
    position = await connect(state)
    assert position is not None

    await state.sessions.park("secret", owner=SESSION.owner)

    begun = replace(SESSION, first_position=position)
    assert await resume(state.sessions, "secret") == ResumedSession(begun, in_use=False)


async def test_nothing_is_registered_while_messages_are_kept_for_the_user(state: StateUnderTest) -> None:
    await state.broker.append(message("user:ann")._replace(ttl_seconds=60))

    assert await connect(state) is None
    assert await is_absent(state)


async def test_messages_that_are_kept_for_others_change_nothing(state: StateUnderTest) -> None:
    await state.broker.append(message("user:bob")._replace(ttl_seconds=60))
    await state.broker.append(message("user:ann", namespace="/chat")._replace(ttl_seconds=60))

    assert await connect(state) is not None
    assert await connections_at(state.broker, at("a")) == 1
