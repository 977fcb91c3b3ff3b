"""Revocations: disconnect commands that revoke the tokens of a user, or one token by its id."""

from __future__ import annotations

import pytest

from gateway.domain.errors import IdempotencyConflict
from gateway.domain.identity import Revocation, scoped_token_id
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import dedup_key, disconnect_command, revoke_token


async def test_no_user_is_revoked_at_first(state: StateUnderTest) -> None:
    assert (await state.revocations.read("ann")).user_revoked_at is None


async def test_disconnect_command_with_revoke_revokes_its_user_when_it_is_accepted(
    state: StateUnderTest,
) -> None:
    await state.broker.append(disconnect_command("ann", at=1700000000.123456, revoke=True))

    assert (await state.revocations.read("ann")).user_revoked_at == 1700000000.123456
    assert (await state.revocations.read("bob")).user_revoked_at is None


async def test_disconnect_command_without_revoke_revokes_nothing(state: StateUnderTest) -> None:
    await state.broker.append(disconnect_command("ann", at=1000.0))

    assert (await state.revocations.read("ann")).user_revoked_at is None


async def test_revocation_holds_for_all_namespaces_and_exclusions(state: StateUnderTest) -> None:
    order = disconnect_command("ann", at=1000.0, revoke=True, namespaces=("/chat",))

    await state.broker.append(order._replace(exclude=frozenset({"s1"})))

    assert (await state.revocations.read("ann")).user_revoked_at == 1000.0


async def test_latest_revocation_counts(state: StateUnderTest) -> None:
    for at in (1000.0, 2000.0, 1500.0):
        await state.broker.append(disconnect_command("ann", at=at, revoke=True))

    assert (await state.revocations.read("ann")).user_revoked_at == 2000.0


async def test_appending_the_command_again_revokes_nothing_again(make_state: MakeState) -> None:
    state = await make_state(revocation_seconds=1000, recovery_seconds=5000)
    order = disconnect_command("ann", at=1000.0, revoke=True)
    await state.broker.append(order)
    await state.advance(1100)

    await state.broker.append(order)

    assert (await state.revocations.read("ann")).user_revoked_at is None


async def test_rejected_command_revokes_nothing(state: StateUnderTest) -> None:
    await state.broker.append(
        disconnect_command("bob", at=1.0), dedup_key(state, idempotency_key="key", fingerprint="bob")
    )

    with pytest.raises(IdempotencyConflict):
        await state.broker.append(
            disconnect_command("ann", at=1.0, revoke=True),
            dedup_key(state, idempotency_key="key", fingerprint="ann"),
        )

    assert (await state.revocations.read("ann")).user_revoked_at is None


async def test_revocation_is_kept_for_its_time_and_no_longer(make_state: MakeState) -> None:
    state = await make_state(revocation_seconds=1000)
    await state.broker.append(disconnect_command("ann", at=1000.0, revoke=True))
    await state.advance(900)
    assert (await state.revocations.read("ann")).user_revoked_at == 1000.0

    await state.advance(200)

    assert (await state.revocations.read("ann")).user_revoked_at is None


async def test_token_is_revoked_alone_when_its_command_is_accepted(state: StateUnderTest) -> None:
    token = scoped_token_id("https://a.example/", "t 1 é")
    assert await state.revocations.read("ann", token) == Revocation()

    await state.broker.append(revoke_token(token))

    assert await state.revocations.read("ann", token) == Revocation(None, True)
    assert await state.revocations.read("bob", token) == Revocation(None, True)
    others = [scoped_token_id("", "t 1 é"), scoped_token_id("https://b.example/", "t 1 é"), f"{token}x", ""]
    assert [await state.revocations.read("ann", each) for each in others] == [Revocation()] * 4


async def test_user_and_token_are_read_together(state: StateUnderTest) -> None:
    await state.broker.append(revoke_token(" t-1"))
    await state.broker.append(disconnect_command("ann", at=1000.0, revoke=True))

    assert await state.revocations.read("ann", " t-1") == Revocation(1000.0, True)
    assert await state.revocations.read("ann", " t-2") == Revocation(1000.0, False)
    assert await state.revocations.read("ann") == Revocation(1000.0, False)


async def test_user_with_the_name_of_a_token_is_not_revoked_with_it(state: StateUnderTest) -> None:
    await state.broker.append(revoke_token(" ann"))
    await state.broker.append(disconnect_command(" bob", at=1000.0, revoke=True))

    assert await state.revocations.read(" ann", " bob") == Revocation()


async def test_token_is_revoked_until_its_end_and_no_longer(make_state: MakeState) -> None:
    state = await make_state(revocation_seconds=10_000)
    await state.broker.append(revoke_token(" short", kept_seconds=1000))
    await state.broker.append(revoke_token(" long", kept_seconds=1e9))

    async def are_revoked() -> list[bool]:
        return [(await state.revocations.read("ann", each)).is_token_revoked for each in (" short", " long")]

    await state.advance(900)
    assert await are_revoked() == [True, True]
    await state.advance(200)
    assert await are_revoked() == [False, True]
    await state.advance(9_000)
    assert await are_revoked() == [False, False]


@pytest.mark.parametrize("ends", [(1000, 100), (100, 1000)])
async def test_token_that_is_revoked_again_is_kept_until_the_later_end(
    make_state: MakeState, ends: tuple[int, int]
) -> None:
    state = await make_state(revocation_seconds=10_000)
    for seconds in ends:
        await state.broker.append(revoke_token(" t-1", kept_seconds=seconds))
    await state.advance(900)

    assert (await state.revocations.read("ann", " t-1")).is_token_revoked
    await state.advance(200)
    assert not (await state.revocations.read("ann", " t-1")).is_token_revoked
