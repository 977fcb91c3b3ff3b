"""Fixtures of the end-to-end tests: users, Redis servers and clients."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.support.clients import Clients, NodeClients
from tests.support.python_clients import PythonClients
from tests.support.raw_clients import http_session
from tests.support.redis_server import RedisServer

NUMBERS = itertools.count(1)

TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": None}


@pytest.fixture
def user() -> str:
    """A user that no other test uses."""
    return f"user-{next(NUMBERS)}"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server that all tests of a module share."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis server of one test, which may break it."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def python_clients() -> Iterator[PythonClients]:
    """Clients of python-socketio."""
    clients = PythonClients()
    yield clients
    clients.stop()


@pytest.fixture(params=["javascript", "python"])
def clients(request: pytest.FixtureRequest, node: NodeClients) -> Clients:
    """The stock JavaScript client and the client of python-socketio in turn."""
    return node if request.param == "javascript" else request.getfixturevalue("python_clients")


@pytest.fixture(params=list(TRANSPORTS))
def transports(request: pytest.FixtureRequest) -> list[str] | None:
    """The option ``transports`` of a client: polling, WebSocket, and polling with an upgrade in turn."""
    return TRANSPORTS[request.param]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with http_session() as session:
        yield session
