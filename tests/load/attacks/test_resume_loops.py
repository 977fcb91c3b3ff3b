"""One user that reads the history in a loop gets its budget, and others are served as before."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.load.attacks import resume_loops
from tests.load.attacks.measures import cpu_seconds, push_latency, slowness, under_attack
from tests.support.gateway_process import GatewayProcess
from tests.support.metrics import read_metrics
from tests.support.raw_clients import RawSocket, connect_packet, http_session
from tests.support.redis_server import RedisServer

MIB = 1024 * 1024
BURST_BYTES, BYTES_PER_SECOND = 64 * MIB, 8 * MIB
MESSAGE_COST = resume_loops.MESSAGE_BYTES + 2048
SLACK = 1.5
"""A page is charged when it was read, and time passes between two readings of the metrics."""
ATTACK_SECONDS, WAIT_SECONDS = 4.0, 60.0


@pytest.fixture(params=["memory", "redis"])
def gateway(request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    redis = RedisServer() if request.param == "redis" else None
    process = GatewayProcess(redis_url=None if redis is None else redis.url)
    yield process
    process.stop()
    if redis is not None:
        redis.stop()


async def recovered_messages(gateway: GatewayProcess) -> int:
    page = await asyncio.to_thread(read_metrics, gateway.ingest_url)
    found = re.search(r'deliveries_total\{kind="recovered"\} (\S+)', page)
    assert found is not None
    return int(float(found[1]))


async def events_after(
    http: aiohttp.ClientSession, gateway: GatewayProcess, position: str
) -> list[list[Any]]:
    """Connect as the user with a position; return the events up to ``authenticated``."""
    socket = await RawSocket.open(http, gateway.url)
    await socket.send(connect_packet(resume_loops.token(gateway), recovery=True, resume=position))
    events: list[list[Any]] = []
    while not events or events[-1][0] != "authenticated":
        frame = await socket.frame(WAIT_SECONDS)
        if frame.startswith("42"):
            events.append(json.loads(frame[2:]))
    socket.abort()
    return events


async def test_user_reads_its_budget_and_pushes_of_others_are_answered(gateway: GatewayProcess) -> None:
    """``make soak ARGS=--attacks`` shows how long those pushes take."""
    started = time.monotonic()
    async with under_attack(resume_loops.attack, gateway):
        async with asyncio.timeout(WAIT_SECONDS):
            while not await recovered_messages(gateway):
                pass  # metrics are read once a second
        cpu, began = cpu_seconds(gateway.pid), time.monotonic()
        attacked = await push_latency(gateway, seconds=ATTACK_SECONDS)
        spent = (cpu_seconds(gateway.pid) - cpu) / (time.monotonic() - began)
    recovered = await recovered_messages(gateway)
    budget = BURST_BYTES + BYTES_PER_SECOND * (time.monotonic() - started)

    assert 0 < recovered < SLACK * budget / MESSAGE_COST
    assert spent / slowness() < 0.6, "share of a core"
    assert set(attacked.statuses) == {200}


async def test_user_beyond_its_budget_gets_every_message_once_and_in_order(gateway: GatewayProcess) -> None:
    until = asyncio.Event()
    async with http_session() as http:
        session = await resume_loops.begin(http, gateway)
        assert session is not None
        pushed = await resume_loops.fill_history(http, gateway, until)
        loops = asyncio.create_task(resume_loops.reconnect(http, gateway, session, until))
        try:
            both = await asyncio.gather(*(events_after(http, gateway, session.position) for _ in range(2)))
        finally:
            until.set()
            await loops

    for *messages, (_, accepted, _) in both:
        positions = [tuple(map(int, message[-1].split("-"))) for message in messages]
        assert accepted["recovered"] is True
        assert len(set(positions)) == len(messages) == pushed > 0
        assert positions == sorted(positions)
