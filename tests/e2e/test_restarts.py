"""The gateway leaves, in good order or not, and starts again: its clients come back and hear what is pushed."""

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
from tests.support.raw_clients import RawPolling, RawSocket

CARRIERS: tuple[list[str] | None, ...] = (["polling"], ["websocket"], None)


@pytest.fixture
def gateway() -> Iterator[GatewayProcess]:
    """A gateway that a test may stop and start; whichever runs last ends well."""
    process = GatewayProcess(cors_origins="https://app.example")
    yield process
    assert process.stop() == 0
    assert process.failures() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_clients_of_both_kinds_come_back_over_every_transport(
    gateway: GatewayProcess,
    node: NodeClients,
    python_clients: PythonClients,
    number: signal.Signals,
    user: str,
) -> None:
    in_order = number is signal.SIGTERM
    kinds: list[tuple[Clients, list[str] | None]] = [(node, carriers) for carriers in CARRIERS]
    # python-socketio's client takes the close packet of a drain for a goodbye; see the test below.
    kinds += [
        (python_clients, carriers) for carriers in CARRIERS if not (in_order and carriers == ["polling"])
    ]
    everybody = [
        clients.open(gateway.url, token=gateway.token(user), transports=carriers)
        for clients, carriers in kinds
    ]
    for client in everybody:
        client.connected()
    for client, (clients, carriers) in zip(everybody, kinds, strict=True):
        if clients is node and carriers is None:
            client.wait("upgrade")

    gateway.signal(number)
    assert gateway.wait() == (0 if in_order else -number)
    assert gateway.failures() == []
    for client, (clients, _) in zip(everybody, kinds, strict=True):
        gone = client.wait("disconnect")
        # An Engine.IO client of Python knows no `transport close`.
        words = (
            {"transport close"} if in_order and clients is node else {"transport close", "transport error"}
        )
        assert gone["reason"] in words
        assert gone.get("active", True)
    gateway.start()
    for client in everybody:
        client.connected(count=2)

    assert gateway.push_user(user, "again", 1)["connections"] == len(everybody)
    for client in everybody:
        assert client.event("again") == [1]
        client.disconnect()


def test_the_python_client_takes_the_close_packet_of_a_drain_over_polling_for_a_goodbye(
    gateway: GatewayProcess, python_clients: PythonClients, user: str
) -> None:
    client = python_clients.open(gateway.url, token=gateway.token(user), transports=["polling"]).connected()

    gateway.signal(signal.SIGTERM)

    # Its `AsyncClient` comes back from a lost connection only; the stock client comes back from this too.
    assert client.wait("disconnect")["reason"] == "io server disconnect"
    assert gateway.wait() == 0
    gateway.start()


async def test_a_drain_closes_websockets_with_1012_and_answers_polls_with_a_close_packet_alone(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await RawSocket.open(http, gateway.url)
    waiting, behind = [await RawPolling(http, gateway.url).open() for _ in range(2)]
    for each in (socket, waiting, behind):
        await each.join(gateway.token(user))
    parked = asyncio.create_task(waiting.poll())
    gateway.push_user(user, "last", 1)
    assert await parked == (200, '42["last",1]')
    parked = asyncio.create_task(waiting.poll())

    gateway.signal(signal.SIGTERM)

    assert await socket.closed() == (1012, ['42["last",1]'])
    assert await parked == (200, "1")
    # Clients that come now, on a connection that they still have, are sent elsewhere.
    address = f"{gateway.url}/socket.io/?EIO=4&transport=polling"
    async with http.get(address, headers={"Origin": "https://app.example"}) as refusal:
        assert (refusal.status, await refusal.json()) == (
            503,
            {"code": 4, "message": "this replica is shutting down"},
        )
        assert refusal.headers["Retry-After"] == "1"
        assert refusal.headers["Access-Control-Allow-Origin"] == "https://app.example"
    async with http.get(f"{gateway.url}/health/ready") as ready:
        assert (ready.status, json.loads(await ready.text())["status"]) == (503, "draining")
    assert await behind.poll() == (200, '42["last",1]')
    assert await behind.poll() == (200, "1")
    assert await asyncio.to_thread(gateway.wait) == 0
    assert not [line for line in gateway.log.entries if line.get("event") == "gateway.drain_timeout"]


async def test_a_client_that_never_polls_again_does_not_hold_up_the_end_for_long(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    polling = await RawPolling(http, gateway.url).open()
    await polling.join(gateway.token(user))

    gateway.signal(signal.SIGTERM)

    assert await asyncio.to_thread(gateway.wait, 8) == 0
    assert [
        line["sessions"] for line in gateway.log.entries if line.get("event") == "gateway.drain_timeout"
    ] == [1]


async def test_a_client_that_leaves_during_a_drain_does_not_hold_it_up(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    witness, polling = await RawSocket.open(http, gateway.url), await RawPolling(http, gateway.url).open()
    await witness.join(gateway.token(user))
    await polling.join(gateway.token(user))

    gateway.signal(signal.SIGTERM)
    assert await witness.closed() == (1012, [])
    await polling.close()

    assert await asyncio.to_thread(gateway.wait) == 0
    assert not [line for line in gateway.log.entries if line.get("event") == "gateway.drain_timeout"]
