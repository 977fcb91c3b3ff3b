"""Each request is used once, even after Redis has lost its nonces."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerUnavailable, FreshnessUnknown, NonceReplayed
from gateway.domain.rate_limit import Rate
from tests.integration.redis_state.replicas import (
    Replica,
    append_until_accepted,
    ids,
    make,
    nonces_have_begun,
    replicas,
)
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until


def signed(nonce: str, *, seconds_ago: float = 0.0, key: str | None = None) -> DedupKey:
    """The dedup key of a request, as the REST API makes it."""
    signed_at = float(int(time.time() - seconds_ago))
    return DedupKey("shop", nonce, signed_at + 360, key, "scope" if key else "", "body", signed_at)


async def let_pass(server: RedisServer, *all_replicas: Replica, seconds: float) -> None:
    """Let time pass for Redis and for all replicas."""
    server.age("t", seconds)
    for each in all_replicas:
        shift_clock(each.state, seconds)
    await all_replicas[0].state.membership.heartbeat()


async def test_nonce_used_at_one_replica_is_used_at_all(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await nonces_have_begun(a)
        await a.state.dedup.consume_nonce(signed("once"))

        with pytest.raises(NonceReplayed):
            await b.state.broker.append(make("room"), signed("once"))


async def test_request_signed_before_an_emptied_redis_began_anew_is_rejected(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await nonces_have_begun(a)
        before = a.state.dedup.began_at
        used = signed("used")
        await a.state.broker.append(make("room"), used)
        for each in (a, b):
            shift_clock(each.state, 4.0)
        server.execute("FLUSHALL")

        with pytest.raises(FreshnessUnknown, match="sign it anew") as error:
            await b.state.broker.append(make("room"), used)

        assert error.value.retry_after_seconds == 3
        assert b.state.dedup.began_at > before
        await append_until_accepted(b, make("room"), lambda: signed("new", seconds_ago=-4))
        with pytest.raises(FreshnessUnknown):
            await b.state.broker.append(make("room"), used)
        assert a.state.dedup.began_at == b.state.dedup.began_at


@pytest.mark.parametrize("ahead", [0, 1, 60, 250])
async def test_request_signed_ahead_is_not_accepted_again_after_redis_lost_its_nonces(
    server: RedisServer, ahead: int
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await let_pass(server, a, b, seconds=400)
        used = signed("used", seconds_ago=-400 - ahead)
        await a.state.broker.append(make("room"), used)
        server.execute("FLUSHALL")

        # The attacker sends the same bytes again and again until their timestamp is too old.
        for _ in range(12):
            for replica in (a, b):
                with pytest.raises(FreshnessUnknown):
                    await replica.state.broker.append(make("room"), used)
            await let_pass(server, a, b, seconds=50)


async def test_backend_with_a_right_clock_is_accepted_seconds_after_redis_lost_its_nonces(
    server: RedisServer,
) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await let_pass(server, a, b, seconds=400)
        await a.state.broker.append(make("room"), signed("one", seconds_ago=-400))
        ahead = signed("ahead", seconds_ago=-650)._replace(key_id="other")
        await a.state.broker.append(make("room"), ahead)
        server.execute("FLUSHALL")
        with pytest.raises(FreshnessUnknown):
            await b.state.broker.append(make("room"), signed("two", seconds_ago=-400))

        await append_until_accepted(b, make("room"), lambda: signed("two", seconds_ago=-400))

        # The key whose clock is ahead has to wait.
        with pytest.raises(FreshnessUnknown) as error:
            await b.state.broker.append(make("room"), ahead._replace(nonce="new"))
        assert 290 <= error.value.retry_after_seconds <= 300


async def test_all_replicas_have_the_same_beginning_of_the_memory_of_nonces(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        began_at = a.state.dedup.began_at
        assert began_at <= math.ceil(time.time())
        await await_until(lambda: time.time() > began_at, "a memory that began now would begin later")

        async with replicas(server, "b") as [b]:
            assert b.state.dedup.began_at == began_at


async def test_requests_beyond_the_limit_of_nonces_are_rejected(server: RedisServer) -> None:
    async with replicas(server, "a", nonces=30) as [a]:
        await nonces_have_begun(a)
        outcomes = await asyncio.gather(
            *(a.state.dedup.consume_nonce(signed(f"n{number}")) for number in range(40)),
            return_exceptions=True,
        )

        assert sum(outcome is None for outcome in outcomes) == 10
        assert {type(outcome) for outcome in outcomes if outcome is not None} == {BrokerUnavailable}
        with pytest.raises(NonceReplayed):
            await a.state.dedup.consume_nonce(signed("n0"))


async def test_idempotency_keys_beyond_the_limit_are_rejected(server: RedisServer) -> None:
    async with replicas(server, "a", idempotency_keys=25) as [a]:
        await nonces_have_begun(a)
        for number in range(5):
            await a.state.broker.append(make("room"), signed(f"n{number}", key=f"k{number}"))

        with pytest.raises(BrokerUnavailable, match="idempotency keys"):
            await a.state.broker.append(make("room"), signed("n5", key="k5"))
        await a.state.broker.append(make("room"), signed("n6"))
        again = await a.state.broker.append(make("room"), signed("n7", key="k0"))
        assert again.replayed


async def test_request_from_a_clock_far_ahead_of_redis_is_rejected(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        with pytest.raises(FreshnessUnknown, match="clock"):
            await a.state.dedup.consume_nonce(signed("once", seconds_ago=-3600))


async def test_every_check_fails_while_redis_is_unavailable(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.kill()
        await await_until(lambda: not a.state.commands.is_connected, "the loss is noticed")

        with pytest.raises(BrokerUnavailable):
            await a.state.dedup.consume_nonce(signed("once"))
        with pytest.raises(BrokerUnavailable):
            await a.state.rates.consume("shop", Rate(1000, 1000))
        with pytest.raises(BrokerUnavailable):
            await a.state.revocations.read("ann")


async def test_commands_of_one_turn_are_written_together(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.push("room")
        before = server.execute("INFO", "stats")["total_reads_processed"]

        results = await asyncio.gather(*(a.state.broker.append(make("room")) for _ in range(200)))

        assert len(set(ids(results))) == 200
        assert server.execute("INFO", "stats")["total_reads_processed"] - before < 20
