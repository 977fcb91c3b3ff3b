"""A stopped client process costs the gateway at most a send buffer, and is disconnected after the ping timeout."""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket

TRANSPORTS = pytest.mark.parametrize("transport", ["polling", "websocket"])

SEND_BUFFER_BYTES = 8 * 1024 * 1024
SLACK_BYTES = 16 * 1024 * 1024
"""Memory of a process beside its send buffers: unfinished requests and frames, and what malloc keeps."""
MESSAGE_BYTES, MESSAGES = 256 * 1024, 200
PING_SECONDS = 1.5
LATE_SECONDS = 15.0
"""What a busy machine may be late."""


@pytest.fixture
def stoppable() -> Iterator[NodeClients]:
    """Stock clients in a process that can be stopped."""
    clients = NodeClients()
    yield clients
    clients.resume()
    clients.stop()


@pytest.fixture
async def others(http: aiohttp.ClientSession) -> AsyncIterator[list[RawSocket]]:
    """WebSockets of other clients, closed at the end of the test."""
    sockets: list[RawSocket] = []
    yield sockets
    for socket in sockets:
        await socket.socket.close()


def memory(gateway: GatewayProcess) -> int:
    """The resident memory of the process in bytes."""
    pages = Path(f"/proc/{gateway.pid}/statm").read_text("ascii").split()[1]
    return int(pages) * resource.getpagesize()


async def receive(socket: RawSocket, count: int) -> list[int]:
    """Receive ``count`` messages; return their numbers."""
    return [json.loads((await socket.frame())[2:])[1]["number"] for _ in range(count)]


@TRANSPORTS
async def test_stopped_client_costs_bounded_memory_and_the_others_get_every_message(
    stoppable: NodeClients, http: aiohttp.ClientSession, others: list[RawSocket], transport: str, user: str
) -> None:
    gateway = GatewayProcess(send_buffer_bytes=SEND_BUFFER_BYTES, history_length=1, ping_timeout_seconds=60)
    try:
        stopped = stoppable.open(gateway.url, token=gateway.token(user), transports=[transport])
        await asyncio.to_thread(stopped.connected)
        for number in range(2):
            others.append(await RawSocket.open(http, gateway.url))
            await others[-1].join(gateway.token(f"{user}-{number}"))
        before = most = memory(gateway)
        stoppable.pause()
        receiving = [asyncio.create_task(receive(socket, MESSAGES)) for socket in others]

        for number in range(MESSAGES):
            data = {"number": number, "pad": "x" * MESSAGE_BYTES}
            answer = await asyncio.to_thread(gateway.backend.broadcast, "heavy", data)
            assert answer.status == 200, answer
            most = max(most, memory(gateway))

        assert await asyncio.gather(*receiving) == [list(range(MESSAGES))] * len(others)
        assert most - before < SEND_BUFFER_BYTES + SLACK_BYTES
        assert gateway.backend.presence(user)["online"] is False
    finally:
        assert gateway.stop() == 0
    assert gateway.failures() == []


@TRANSPORTS
def test_stopped_client_is_offline_after_the_ping_interval_and_timeout(
    stoppable: NodeClients, transport: str, user: str
) -> None:
    gateway = GatewayProcess(ping_interval_seconds=PING_SECONDS, ping_timeout_seconds=PING_SECONDS)
    try:
        stoppable.open(gateway.url, token=gateway.token(user), transports=[transport]).connected()
        stoppable.pause()
        stopped_at = time.monotonic()

        for number in itertools.count():
            if not gateway.push_user(user, "note", number)["online"]:
                break
            assert time.monotonic() < stopped_at + 2 * PING_SECONDS + LATE_SECONDS
            time.sleep(0.05)  # nothing announces it but the answer to a push
    finally:
        assert gateway.stop() == 0
    assert gateway.failures() == []
