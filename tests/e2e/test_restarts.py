"""The gateway is drained or killed and starts again: its clients reconnect and receive pushes."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator

import aiohttp
import pytest

from tests.support.clients import Clients, NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.python_clients import PythonClients
from tests.support.raw_clients import ENDED, RawPolling, RawSocket

TRANSPORTS: tuple[list[str] | None, ...] = (["polling"], ["websocket"], None)


@pytest.fixture
def gateway() -> Iterator[GatewayProcess]:
    """A gateway that a test may stop and start. The last process exits with 0 and logs no failure."""
    process = GatewayProcess(cors_origins="https://app.example")
    yield process
    assert process.stop() == 0
    assert process.failures() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_clients_of_both_kinds_reconnect_over_every_transport(
    gateway: GatewayProcess,
    node: NodeClients,
    python_clients: PythonClients,
    number: signal.Signals,
    user: str,
) -> None:
    is_drain = number is signal.SIGTERM
    kinds: list[tuple[Clients, list[str] | None]] = [(node, transports) for transports in TRANSPORTS]
    kinds += [(python_clients, transports) for transports in TRANSPORTS]
    opened = [
        clients.open(gateway.url, token=gateway.token(user), transports=transports)
        for clients, transports in kinds
    ]
    for client in opened:
        client.connected()
    for client, (clients, transports) in zip(opened, kinds, strict=True):
        if clients is node and transports is None:
            client.wait("upgrade")

    gateway.signal(number)
    assert gateway.wait() == (0 if is_drain else -number)
    assert gateway.failures() == []
    for client, (clients, transports) in zip(opened, kinds, strict=True):
        disconnect = client.wait("disconnect")
        # A poll ends with an error. The Engine.IO client of Python has no reason `transport close`.
        is_error = transports == ["polling"] or clients is python_clients
        reasons = {"transport error" if is_error else "transport close"}
        assert disconnect["reason"] in (reasons if is_drain else {"transport close", "transport error"})
        assert disconnect.get("active", True)
    gateway.start()
    for client in opened:
        client.connected(count=2)

    assert gateway.push_user(user, "again", 1)["connections"] == len(opened)
    for client in opened:
        assert client.event("again") == [1]
        client.disconnect()


async def test_drain_ends_websockets_without_a_close_frame_and_answers_polls_with_an_error(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await RawSocket.open(http, gateway.url)
    waiting, idle = [await RawPolling(http, gateway.url).open() for _ in range(2)]
    for each in (socket, waiting, idle):
        await each.join(gateway.token(user))
    poll = asyncio.create_task(waiting.poll())
    gateway.push_user(user, "last", 1)
    assert await poll == (200, '42["last",1]')
    poll = asyncio.create_task(waiting.poll())

    gateway.signal(signal.SIGTERM)

    assert await socket.closed() == (1006, ['42["last",1]'])
    assert await poll == ENDED
    # A handshake during the drain, on a TCP connection that is still open, gets 503: another replica serves the retry.
    address = f"{gateway.url}/socket.io/?EIO=4&transport=polling"
    async with http.get(address, headers={"Origin": "https://app.example"}) as rejection:
        assert (rejection.status, await rejection.json()) == (
            503,
            {"code": 4, "message": "this replica is shutting down"},
        )
        assert rejection.headers["Retry-After"] == "1"
        assert rejection.headers["Access-Control-Allow-Origin"] == "https://app.example"
    async with http.get(f"{gateway.url}/health/ready") as ready:
        assert (ready.status, json.loads(await ready.text())["status"]) == (503, "draining")
    assert await idle.poll() == (200, '42["last",1]')
    assert await idle.poll() == ENDED
    assert await asyncio.to_thread(gateway.wait) == 0
    assert not [line for line in gateway.log.entries if line.get("event") == "gateway.drain_timeout"]


async def test_client_that_never_polls_again_delays_the_end_of_a_drain_only_briefly(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    polling = await RawPolling(http, gateway.url).open()
    await polling.join(gateway.token(user))

    gateway.signal(signal.SIGTERM)

    assert await asyncio.to_thread(gateway.wait) == 0
    assert [
        line["sessions"] for line in gateway.log.entries if line.get("event") == "gateway.drain_timeout"
    ] == [1]


async def test_client_that_disconnects_during_a_drain_does_not_delay_it(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    witness, polling = await RawSocket.open(http, gateway.url), await RawPolling(http, gateway.url).open()
    await witness.join(gateway.token(user))
    await polling.join(gateway.token(user))

    gateway.signal(signal.SIGTERM)
    assert await witness.closed() == (1006, [])
    await polling.close()

    assert await asyncio.to_thread(gateway.wait) == 0
    assert not [line for line in gateway.log.entries if line.get("event") == "gateway.drain_timeout"]
