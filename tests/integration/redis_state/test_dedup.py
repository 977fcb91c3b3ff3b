"""Each request is used once, even after Redis has lost its nonces."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerUnavailable, NonceReplayed
from gateway.domain.rate_limit import Rate
from tests.integration.redis_state.replicas import ids, make, replicas
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer
from tests.support.waiter import await_until


def signed(nonce: str, *, seconds_ago: float = 0.0, key: str | None = None) -> DedupKey:
    """The dedup key of a request, as the REST API makes it."""
    signed_at = float(int(time.time() - seconds_ago))
    return DedupKey("shop", nonce, signed_at + 360, key, "scope" if key else "", "body", signed_at)


async def test_nonce_used_at_one_replica_is_used_at_all(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.state.dedup.consume_nonce(signed("once", seconds_ago=-5))

        with pytest.raises(NonceReplayed):
            await b.state.broker.append(make("room"), signed("once", seconds_ago=-5))


async def test_request_signed_before_an_emptied_redis_began_anew_is_rejected(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        before = a.state.dedup.began_at
        used = signed("used", seconds_ago=-2)
        await a.state.broker.append(make("room"), used)
        for each in (a, b):
            shift_clock(each.state, 4.0)
        server.execute("FLUSHALL")

        with pytest.raises(BrokerUnavailable, match="sign it anew"):
            await b.state.broker.append(make("room"), used)

        assert b.state.dedup.began_at > before
        await await_until(lambda: a.state.dedup.began_at == b.state.dedup.began_at, "the other replica knows")
        await b.state.broker.append(make("room"), signed("new", seconds_ago=-6))


async def test_all_replicas_have_the_same_beginning_of_the_memory_of_nonces(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        began_at = a.state.dedup.began_at
        assert began_at <= math.ceil(time.time())
        await await_until(lambda: time.time() > began_at, "a memory that began now would begin later")

        async with replicas(server, "b") as [b]:
            assert b.state.dedup.began_at == began_at


async def test_requests_beyond_the_limit_of_nonces_are_rejected(server: RedisServer) -> None:
    async with replicas(server, "a", nonces=30) as [a]:
        outcomes = await asyncio.gather(
            *(a.state.dedup.consume_nonce(signed(f"n{number}", seconds_ago=-5)) for number in range(40)),
            return_exceptions=True,
        )

        assert sum(outcome is None for outcome in outcomes) == 10
        assert {type(outcome) for outcome in outcomes if outcome is not None} == {BrokerUnavailable}
        with pytest.raises(NonceReplayed):
            await a.state.dedup.consume_nonce(signed("n0", seconds_ago=-5))


async def test_idempotency_keys_beyond_the_limit_are_rejected(server: RedisServer) -> None:
    async with replicas(server, "a", idempotency_keys=25) as [a]:
        for number in range(5):
            await a.state.broker.append(make("room"), signed(f"n{number}", seconds_ago=-5, key=f"k{number}"))

        with pytest.raises(BrokerUnavailable, match="idempotency keys"):
            await a.state.broker.append(make("room"), signed("n5", seconds_ago=-5, key="k5"))
        await a.state.broker.append(make("room"), signed("n6", seconds_ago=-5))
        again = await a.state.broker.append(make("room"), signed("n7", seconds_ago=-5, key="k0"))
        assert again.replayed


async def test_request_from_a_clock_far_ahead_of_redis_is_rejected(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        with pytest.raises(BrokerUnavailable, match="clock"):
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
            await a.state.revocations.revoked_at("ann")


async def test_commands_of_one_turn_are_written_together(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.push("room")
        before = server.execute("INFO", "stats")["total_reads_processed"]

        results = await asyncio.gather(*(a.state.broker.append(make("room")) for _ in range(200)))

        assert len(set(ids(results))) == 200
        assert server.execute("INFO", "stats")["total_reads_processed"] - before < 20
