"""Requests are used once, also when Redis has forgotten them."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerUnavailable, NonceReplayed
from gateway.domain.rate_limit import Rate
from tests.integration.redis_state.replicas import ids, make, replicas, until
from tests.support.redis_server import RedisServer


def signed(nonce: str, *, seconds_ago: float = 0.0, key: str | None = None) -> DedupKey:
    """A claim as the door makes it."""
    signed_at = float(int(time.time() - seconds_ago))
    return DedupKey("shop", nonce, signed_at + 360, key, "scope" if key else "", "body", signed_at)


async def test_a_nonce_spent_at_one_replica_is_spent_at_all(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        await a.state.dedup.consume_nonce(signed("once", seconds_ago=-5))

        with pytest.raises(NonceReplayed):
            await b.state.broker.append(make("room"), signed("once", seconds_ago=-5))


async def test_what_was_signed_before_an_emptied_redis_began_anew_is_refused(server: RedisServer) -> None:
    async with replicas(server, "a", "b") as [a, b]:
        before = a.state.dedup.began_at
        used = signed("used", seconds_ago=-2)
        await a.state.broker.append(make("room"), used)
        await asyncio.sleep(3.1)  # requests carry whole seconds; this one was signed in another than the next
        server.ask("FLUSHALL")

        with pytest.raises(BrokerUnavailable, match="sign it anew"):
            await b.state.broker.append(make("room"), used)

        assert b.state.dedup.began_at > before
        await until(lambda: a.state.dedup.began_at == b.state.dedup.began_at, "the other one knows too")
        await b.state.broker.append(make("room"), signed("new", seconds_ago=-2))


async def test_all_replicas_know_the_same_beginning(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        began_at = a.state.dedup.began_at
        assert began_at <= math.ceil(time.time())
        await asyncio.sleep(1.1)

        async with replicas(server, "b") as [b]:
            assert b.state.dedup.began_at == began_at


async def test_when_too_many_nonces_are_kept_further_requests_are_refused(server: RedisServer) -> None:
    async with replicas(server, "a", nonces=30) as [a]:
        outcomes = await asyncio.gather(
            *(a.state.dedup.consume_nonce(signed(f"n{number}", seconds_ago=-5)) for number in range(40)),
            return_exceptions=True,
        )

        assert sum(outcome is None for outcome in outcomes) == 10
        assert {type(outcome) for outcome in outcomes if outcome is not None} == {BrokerUnavailable}
        with pytest.raises(NonceReplayed):
            await a.state.dedup.consume_nonce(signed("n0", seconds_ago=-5))


async def test_when_too_many_idempotency_keys_are_kept_further_ones_are_refused(server: RedisServer) -> None:
    async with replicas(server, "a", idempotency_keys=25) as [a]:
        for number in range(5):
            await a.state.broker.append(make("room"), signed(f"n{number}", seconds_ago=-5, key=f"k{number}"))

        with pytest.raises(BrokerUnavailable, match="idempotency keys"):
            await a.state.broker.append(make("room"), signed("n5", seconds_ago=-5, key="k5"))
        await a.state.broker.append(make("room"), signed("n6", seconds_ago=-5))
        again = await a.state.broker.append(make("room"), signed("n7", seconds_ago=-5, key="k0"))
        assert again.replayed


async def test_a_clock_far_ahead_of_that_of_redis_is_refused_and_not_forgotten_early(
    server: RedisServer,
) -> None:
    async with replicas(server, "a") as [a]:
        with pytest.raises(BrokerUnavailable, match="clock"):
            await a.state.dedup.consume_nonce(signed("once", seconds_ago=-3600))


async def test_nobody_passes_while_redis_is_away(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        server.kill()
        await until(lambda: not a.state.commands.is_connected, "the loss is noticed")

        with pytest.raises(BrokerUnavailable):
            await a.state.dedup.consume_nonce(signed("once"))
        with pytest.raises(BrokerUnavailable):
            await a.state.rates.consume("shop", Rate(1000, 1000))
        with pytest.raises(BrokerUnavailable):
            await a.state.revocations.revoked_at("ann")


async def test_what_is_asked_together_goes_out_together(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.push("room")
        before = server.ask("INFO", "stats")["total_reads_processed"]

        results = await asyncio.gather(*(a.state.broker.append(make("room")) for _ in range(200)))

        assert len(set(ids(results))) == 200
        assert server.ask("INFO", "stats")["total_reads_processed"] - before < 20
