"""How long the revocation of a token is kept, with the settings of a deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.domain.errors import TokenRejected
from gateway.domain.messages import DisconnectCommand, new_id
from gateway.hub import Hub
from gateway.metrics import DeliveryTimer, MetricFactory
from gateway.runtime.from_settings import (
    build_memory_state,
    build_redis_state,
    build_token_revocations,
    build_verifier,
)
from gateway.services.counted_disconnects import CountedDisconnects
from gateway.services.degraded_mode import DegradedMode
from gateway.services.publish import MessagePublisher
from gateway.settings import Settings, load_settings
from gateway.socketio_server.packets import encode_message
from gateway.state.memory import MemoryState
from tests.support.clock import FakeClock, FakeSchedule
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.auth.issuer import NOW, SECRET, claims, token

LEEWAY_SECONDS, LIFETIME_SECONDS = 30, 600
LONGEST_LIVED = {
    "issued when it is revoked": {"iat": NOW, "exp": NOW + LIFETIME_SECONDS},
    "without a time of issue": {"iat": None, "exp": NOW + LIFETIME_SECONDS},
    "of an issuer whose clock is ahead": {
        "iat": NOW + LEEWAY_SECONDS,
        "exp": NOW + LEEWAY_SECONDS + LIFETIME_SECONDS,
    },
}


def settings() -> Settings:
    return load_settings(
        {
            "GATEWAY_JWT_SECRET": SECRET,
            "GATEWAY_JWT_LEEWAY_SECONDS": str(LEEWAY_SECONDS),
            "GATEWAY_REVOCATION_SECONDS": str(LIFETIME_SECONDS),
            "GATEWAY_REDIS_URL": "redis://127.0.0.1:1",
        },
        require_keys=False,
    )


async def revoke_user(state: MemoryState, clock: FakeClock) -> None:
    # After the last moment of which a token may say that it was issued.
    at = clock.now() + LEEWAY_SECONDS + 1
    await state.broker.append(DisconnectCommand(new_id(), "alice", ("/",), at, revoke=True))


async def revoke_token(state: MemoryState, clock: FakeClock) -> None:
    await revoke_until(state, clock, expires_at=None)


async def revoke_until_its_end(state: MemoryState, clock: FakeClock) -> None:
    await revoke_until(state, clock, expires_at=NOW + LEEWAY_SECONDS + LIFETIME_SECONDS)


async def revoke_until(state: MemoryState, clock: FakeClock, *, expires_at: float | None) -> None:
    metrics = MetricFactory()
    publisher = MessagePublisher(
        broker=state.broker,
        clock=clock,
        namespaces=("/",),
        delivery_timer=DeliveryTimer(lambda _: False, metrics),
        metrics=metrics,
    )
    disconnects = CountedDisconnects(publisher=publisher, replies=state.replies)
    revocations = build_token_revocations(settings(), disconnects, lambda: ("",), clock)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await revocations.revoke("t-1", issuer="", expires_at=expires_at)


@pytest.mark.parametrize("revoke", [revoke_user, revoke_token, revoke_until_its_end])
@pytest.mark.parametrize("content", LONGEST_LIVED.values(), ids=LONGEST_LIVED)
async def test_revoked_token_is_accepted_at_no_time_until_it_has_expired(
    revoke: Callable[[MemoryState, FakeClock], Awaitable[None]], content: dict[str, object]
) -> None:
    schedule = FakeSchedule(FakeClock(NOW))
    clock = schedule.clock
    verifier = build_verifier(settings(), clock, schedule, MetricFactory())
    state = build_memory_state(settings(), clock)
    text = token(claims(jti="t-1", **content))
    exp = content["exp"]
    assert isinstance(exp, float)

    await revoke(state, clock)

    for seconds_left in (LEEWAY_SECONDS + LIFETIME_SECONDS, LEEWAY_SECONDS, 0.5):
        clock.advance(exp + LEEWAY_SECONDS - seconds_left - clock.now())
        identity = await verifier.verify(text)
        assert (await state.revocations.read("alice", identity.token_id)).covers(identity)
    clock.advance(1)
    with pytest.raises(TokenRejected) as rejection:
        await verifier.verify(text)
    assert rejection.value.code == "token_expired"


async def test_redis_keeps_revocations_for_as_long_as_the_memory_does() -> None:
    schedule, metrics = FakeSchedule(FakeClock(NOW)), MetricFactory()
    degraded_mode = DegradedMode(
        hub=Hub(encode_message, metrics=metrics),
        schedule=schedule,
        clock=schedule.clock,
        disconnect_all=lambda _: None,
        stalled_limit_seconds=10.0,
        metrics=metrics,
    )

    redis = build_redis_state(settings(), degraded_mode, metrics)

    assert redis.revocation_seconds == build_memory_state(settings(), schedule.clock).revocation_seconds
