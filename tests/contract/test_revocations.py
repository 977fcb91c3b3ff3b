"""Revocations: disconnect commands that revoke tokens."""

from __future__ import annotations

import pytest

from gateway.domain.errors import IdempotencyConflict
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import dedup_key, disconnect_command


async def test_no_user_is_revoked_at_first(state: StateUnderTest) -> None:
    assert await state.revocations.revoked_at("ann") is None


async def test_disconnect_command_with_revoke_revokes_its_user_when_it_is_accepted(
    state: StateUnderTest,
) -> None:
    await state.broker.append(disconnect_command("ann", at=1700000000.123456, revoke=True))

    assert await state.revocations.revoked_at("ann") == 1700000000.123456
    assert await state.revocations.revoked_at("bob") is None


async def test_disconnect_command_without_revoke_revokes_nothing(state: StateUnderTest) -> None:
    await state.broker.append(disconnect_command("ann", at=1000.0))

    assert await state.revocations.revoked_at("ann") is None


async def test_revocation_holds_for_all_namespaces_and_exclusions(state: StateUnderTest) -> None:
    order = disconnect_command("ann", at=1000.0, revoke=True, namespaces=("/chat",))

    await state.broker.append(order._replace(exclude=frozenset({"s1"})))

    assert await state.revocations.revoked_at("ann") == 1000.0


async def test_latest_revocation_counts(state: StateUnderTest) -> None:
    for at in (1000.0, 2000.0, 1500.0):
        await state.broker.append(disconnect_command("ann", at=at, revoke=True))

    assert await state.revocations.revoked_at("ann") == 2000.0


async def test_appending_the_command_again_revokes_nothing_again(make_state: MakeState) -> None:
    state = await make_state(revocation_seconds=1000, recovery_seconds=5000)
    order = disconnect_command("ann", at=1000.0, revoke=True)
    await state.broker.append(order)
    await state.advance(1100)

    await state.broker.append(order)

    assert await state.revocations.revoked_at("ann") is None


async def test_rejected_command_revokes_nothing(state: StateUnderTest) -> None:
    await state.broker.append(
        disconnect_command("bob", at=1.0), dedup_key(state, idempotency_key="key", fingerprint="bob")
    )

    with pytest.raises(IdempotencyConflict):
        await state.broker.append(
            disconnect_command("ann", at=1.0, revoke=True),
            dedup_key(state, idempotency_key="key", fingerprint="ann"),
        )

    assert await state.revocations.revoked_at("ann") is None


async def test_revocation_is_kept_for_its_time_and_no_longer(make_state: MakeState) -> None:
    state = await make_state(revocation_seconds=1000)
    await state.broker.append(disconnect_command("ann", at=1000.0, revoke=True))
    await state.advance(900)
    assert await state.revocations.revoked_at("ann") == 1000.0

    await state.advance(200)

    assert await state.revocations.revoked_at("ann") is None
