"""Clients for the tests of the whole gateway."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.support.clients import Clients, NodeClients
from tests.support.python_clients import PythonClients
from tests.support.raw_clients import http_session
from tests.support.redis_server import RedisServer

NAMES = itertools.count(1)

CARRIERS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": None}


@pytest.fixture
def user() -> str:
    """A user whom no other test knows."""
    return f"user-{next(NAMES)}"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """One for all tests of a module."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """One that a test may break."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def python_clients() -> Iterator[PythonClients]:
    """python-socketio's own clients."""
    clients = PythonClients()
    yield clients
    clients.stop()


@pytest.fixture(params=["javascript", "python"])
def clients(request: pytest.FixtureRequest, node: NodeClients) -> Clients:
    """Each kind of client in turn."""
    return node if request.param == "javascript" else request.getfixturevalue("python_clients")


@pytest.fixture(params=list(CARRIERS))
def transports(request: pytest.FixtureRequest) -> list[str] | None:
    """Each way to get through in turn: as the ``transports`` of a client."""
    return CARRIERS[request.param]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with http_session() as session:
        yield session
