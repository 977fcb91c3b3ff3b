"""The server for the official suites, in this process, and a client for it. No session may be left at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
import pytest_asyncio
import uvloop

from tests.conformance.client import Client
from tests.conformance.server import ConformanceServer

PING_TIMEOUT_SECONDS = 4.0
"""Longer than that of the suites: the client is in the same process, which a busy machine stops for a while."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop of production."""
    return {"uvloop": uvloop.new_event_loop}


@asynccontextmanager
async def running(suite: str) -> AsyncIterator[tuple[ConformanceServer, Client]]:
    server = ConformanceServer(suite, ping_timeout_seconds=PING_TIMEOUT_SECONDS)
    port = await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as http:
            yield server, Client(http, f"http://127.0.0.1:{port}{server.path}")
    finally:
        await server.stop()
    assert server.engine.sessions == {}
    assert server.engine.empty.is_set()
    assert len(server.schedule) == 0


@pytest_asyncio.fixture
async def engine_running() -> AsyncIterator[tuple[ConformanceServer, Client]]:
    async with running("engine.io") as both:
        yield both


@pytest.fixture
def engine(engine_running: tuple[ConformanceServer, Client]) -> Client:
    """A client of a server that echoes Engine.IO messages."""
    return engine_running[1]


@pytest.fixture
def engine_server(engine_running: tuple[ConformanceServer, Client]) -> ConformanceServer:
    return engine_running[0]


@pytest_asyncio.fixture
async def socketio() -> AsyncIterator[Client]:
    """A client of a server that answers Socket.IO events."""
    async with running("socket.io") as (_, client):
        yield client
