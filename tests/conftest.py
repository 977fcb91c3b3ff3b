"""Fixtures that more than one folder of tests uses, and the signals of the processes that tests start."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import hypothesis
import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import TIMEOUT_SECONDS


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two workers for each core: many tests wait for other processes most of the time."""
    return 2 * len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2 * (os.cpu_count() or 1)


def pytest_configure() -> None:
    _let_children_have_default_signals()
    # Its limits on the time of one example are for idle machines; pytest-timeout ends what hangs.
    hypothesis.settings.register_profile(
        "busy machine",
        hypothesis.settings(),
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("busy machine")


def _let_children_have_default_signals() -> None:
    """Let the processes that tests start have the default signal handlers.

    A shell starts ``nohup make test &`` with SIGINT and SIGHUP ignored, and an ignored signal stays ignored across
    exec. A handler does not: with one in this process, its children get the default.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _ignore)


def _ignore(*_: object) -> None:
    """Do nothing, like the SIG_IGN that it replaces."""


@pytest.fixture(scope="module")
def node() -> Iterator[NodeClients]:
    """Stock clients, those of one file in one Node process."""
    clients = NodeClients()
    yield clients
    clients.stop()


@pytest.fixture(scope="module")
def gateway_process() -> Iterator[GatewayProcess]:
    """A gateway for all tests of a module; it must end well and must have logged no error."""
    process = GatewayProcess(namespaces="/,/events,/notifications", cors_origins="*")
    yield process
    assert process.stop() == 0
    assert process.failures() == []


class LiveGateway:
    """A running gateway with the stock client as a listener."""

    def __init__(self, process: GatewayProcess, node: NodeClients) -> None:
        self.url, self.key_id, self.secret = process.url, process.key_id, process.secret
        self._process = process
        self._node = node

    @asynccontextmanager
    async def listen(self, user: str, **claims: Any) -> AsyncIterator[ReceivedEvents]:
        """A connected client of that user, in the rooms of those claims."""
        client = self._node.open(self.url, token=self._process.token(user, **claims))
        await asyncio.to_thread(client.connected)
        yield ReceivedEvents(client)
        client.disconnect()


class ReceivedEvents:
    """The events that a client receives, in order."""

    def __init__(self, client: StockClient) -> None:
        self._client = client
        self._taken = 1  # ``authenticated``

    async def next(self, timeout: float = TIMEOUT_SECONDS) -> tuple[str, list[Any]]:  # noqa: ASYNC109  # a thread waits
        """The next event and its arguments."""
        self._taken += 1
        entry = await asyncio.to_thread(self._client.wait, "event", count=self._taken, timeout=timeout)
        return entry["event"], entry["args"]


@pytest.fixture
def live_gateway(gateway_process: GatewayProcess, node: NodeClients) -> LiveGateway:
    return LiveGateway(gateway_process, node)
