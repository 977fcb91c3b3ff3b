"""A signed request is accepted once, whatever the gateway or Redis loses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus

import pytest

from tests.load.attacks import replays
from tests.load.attacks.measures import under_attack
from tests.load.attacks.replays import CapturedRequests
from tests.support.backend import Backend
from tests.support.faketime import SteppedClock
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiter import LOOK_SECONDS, TIMEOUT_SECONDS

AHEAD_SECONDS = (0, 1, 60, 250)
STORE_AGE_SECONDS = 400
"""Older than five minutes, so that a timestamp may be five minutes ahead."""
STEP_SECONDS, STEPS = 50, 13
KEYS = {ahead: f"ahead-{ahead}" for ahead in AHEAD_SECONDS}


def secret_of(key_id: str) -> str:
    return f"the secret of the key {key_id} with thirty-two bytes"


class Deployment:
    """A gateway, with or without Redis, whose wall clock a test sets."""

    def __init__(self, clock: SteppedClock, redis: RedisServer | None) -> None:
        self._clock = clock
        self._offset = 0.0
        self._redis = redis
        keys = ",".join(f"{key_id}:{secret_of(key_id)}" for key_id in KEYS.values())
        self.gateway = GatewayProcess(
            under=clock.under, ingest_keys=keys, redis_url=None if redis is None else redis.url
        )

    def captured(self, ahead_seconds: int) -> CapturedRequests:
        key_id = KEYS[ahead_seconds]
        backend = Backend(self.gateway.ingest_url, key_id, secret_of(key_id))
        return CapturedRequests(backend, ahead_seconds=ahead_seconds, now=self.now)

    def now(self) -> float:
        """Return what the clocks show, in seconds since 1970."""
        return time.time() + self._offset

    def let_pass(self, seconds: float) -> None:
        """Set the clocks forward."""
        self._offset += seconds
        self._clock.step_to(self._offset)

    def lose_nonces(self) -> None:
        if self._redis is None:
            self.gateway.kill()
            self.gateway.start()
        else:
            self._redis.execute("FLUSHALL")


@pytest.fixture(params=["memory", "redis"])
def make_deployment(request: pytest.FixtureRequest) -> Iterator[Callable[[], Deployment]]:
    with ExitStack() as stack:

        def make() -> Deployment:
            clock = SteppedClock()
            stack.callback(clock.stop)
            redis = RedisServer(under=clock.under) if request.param == "redis" else None
            if redis is not None:
                stack.callback(redis.stop)
            deployment = Deployment(clock, redis)
            stack.callback(deployment.gateway.kill)
            return deployment

        yield make


async def push_until_accepted(captured: CapturedRequests) -> int:
    """Push, each time signed anew, until it is accepted; return how many were not."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        rejected = 0
        while await captured.push() != HTTPStatus.OK:
            rejected += 1
            await asyncio.sleep(LOOK_SECONDS)
        return rejected


async def test_request_is_not_accepted_again_after_its_nonce_was_lost(
    make_deployment: Callable[[], Deployment],
) -> None:
    deployment = make_deployment()
    deployment.let_pass(STORE_AGE_SECONDS)
    backends = [deployment.captured(ahead) for ahead in AHEAD_SECONDS]
    for captured in backends:
        await push_until_accepted(captured)

    deployment.lose_nonces()

    await push_until_accepted(backends[0])
    for _ in range(STEPS):
        for captured in backends:
            # A backend whose clock is ahead continues to push; at first it is not accepted.
            await captured.push()
            await captured.send_again()
        deployment.let_pass(STEP_SECONDS)
    assert [captured.accepted_again for captured in backends] == [0] * len(backends)
    for captured in backends:
        await push_until_accepted(captured)


async def test_request_is_accepted_once_while_it_is_sent_again_and_again() -> None:
    gateway = GatewayProcess()
    try:
        async with under_attack(replays.attack, gateway):
            await asyncio.sleep(3)
        assert gateway.failures() == []
    finally:
        gateway.kill()
