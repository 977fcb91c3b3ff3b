"""Days without a message, and keys that are lost while others stay."""

from __future__ import annotations

import time

import pytest

from gateway.domain.dedup import DedupKey
from gateway.domain.positions import START
from tests.contract.values import at
from tests.integration.redis_state.replicas import MANUAL_HEARTBEATS, PREFIX, Replica, ids, make, replicas
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer

HOUR = 3600.0


async def pass_time(a: Replica, server: RedisServer, *, hours: int) -> None:
    """Let hours pass in which the replica only sends heartbeats."""
    for _ in range(hours):
        shift_clock(a.state, HOUR)
        server.age(PREFIX, HOUR)
        await a.state.membership.heartbeat()


async def test_messages_after_days_without_one_are_accepted_and_delivered_once(server: RedisServer) -> None:
    async with replicas(server, "a", **MANUAL_HEARTBEATS | {"lease_seconds": 4 * HOUR}) as [a]:
        await a.subscribe("room")
        first = await a.push("room")
        await a.receives(first)

        await pass_time(a, server, hours=51)

        later = [await a.push("room") for _ in range(3)]
        signed = DedupKey("shop", "once", time.time() + 51 * HOUR + 300)
        later.append(make("room"))
        await a.state.broker.append(later[-1], signed)
        await a.receives(*later)
        assert ids(a.received) == ids([first, *later])
        assert a.gaps == []


@pytest.mark.parametrize("lost", ["ids:new", "ids:old", "log", "segments", "index:/,room"])
async def test_messages_are_accepted_and_delivered_once_when_a_key_is_lost(
    server: RedisServer, lost: str
) -> None:
    async with replicas(server, "a") as [a]:
        await a.subscribe("room")
        news = [await a.push("room") for _ in range(5)]
        server.execute("DEL", f"{PREFIX}:{lost}")
        shift_clock(a.state, 600)  # so that the generations of ids change and a segment ends

        news += [await a.push("room") for _ in range(5)]

        await a.receives(*news)
        assert ids(a.received) == ids(news)
        page = await a.state.broker.history(START, [at("room")], max_entries=10, max_bytes=10_000)
        assert ids(entry for _, entry in page.entries)[-5:] == ids(news[-5:])


async def test_every_key_has_a_ttl_even_one_created_again_after_a_loss(server: RedisServer) -> None:
    async with replicas(server, "a") as [a]:
        await a.push("room")
        for lost in ("ids:new", "log", "segments"):
            server.execute("DEL", f"{PREFIX}:{lost}")
        await a.push("room")
        await a.state.membership.heartbeat()

        with server.client() as client:
            endless = [key for key in client.scan_iter(match=f"{PREFIX}:*") if client.pttl(key) == -1]
        assert endless == []
