"""Limits of connections, of the connect rate and of send buffers: only the client at the limit is affected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest

from tests.support.clients import Clients, NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawPolling, RawSocket

TRANSPORTS = pytest.mark.parametrize("transport", ["polling", "websocket"])
ORIGIN = "https://app.example"


@contextmanager
def running(**settings: Any) -> Iterator[GatewayProcess]:
    process = GatewayProcess(cors_origins=ORIGIN, **settings)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


@pytest.fixture(scope="module")
def full() -> Iterator[GatewayProcess]:
    with running(max_connections=1) as process:
        yield process


@pytest.fixture(scope="module")
def rate_limited() -> Iterator[GatewayProcess]:
    with running(connect_rate=2) as process:
        yield process


@TRANSPORTS
def test_client_rejected_by_a_full_replica_connects_when_another_client_leaves(
    full: GatewayProcess, clients: Clients, transport: str, user: str
) -> None:
    first = clients.open(full.url, token=full.token(user), transports=[transport]).connected()
    second = clients.open(full.url, token=full.token(user), transports=[transport])

    error = second.wait("connect_error")
    second.wait("connect_error", count=2)
    assert error.get("active", True)
    if "status" in error and transport == "polling":
        assert (error["status"], json.loads(error["body"])) == (
            503,
            {"code": 4, "message": "this replica is full"},
        )
    first.disconnect()

    second.connected()
    second.disconnect()
    full.log.wait(lambda line: line.get("event") == "connection.closed" and line["sid"] == second.sid)


async def test_full_replica_answers_503_with_retry_after_and_cors_headers(
    full: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    taken = await RawSocket.open(http, full.url)
    for headers, transport in (
        ({}, "polling"),
        ({"Upgrade": "websocket", "Connection": "Upgrade"}, "websocket"),
    ):
        address = f"{full.url}/socket.io/?EIO=4&transport={transport}"
        async with http.get(address, headers={"Origin": ORIGIN} | headers) as answer:
            assert (answer.status, await answer.json()) == (
                503,
                {"code": 4, "message": "this replica is full"},
            )
            assert answer.headers["Retry-After"] == "5"
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    await taken.socket.close()


@TRANSPORTS
def test_clients_over_the_connect_rate_are_rejected_and_all_connect_later(
    rate_limited: GatewayProcess, node: NodeClients, transport: str, user: str
) -> None:
    token = rate_limited.token(user)
    all_clients = [node.open(rate_limited.url, token=token, transports=[transport]) for _ in range(5)]

    for client in all_clients:
        client.connected()
    errors = [entry for client in all_clients for entry in client.entries if entry["type"] == "connect_error"]

    assert errors
    if transport == "polling":
        assert {(error["status"], error["body"]) for error in errors} == {
            (503, '{"code":4,"message":"too many clients connect at once"}')
        }
    for client in all_clients:
        client.disconnect()


@pytest.fixture(scope="module")
def small_buffer() -> Iterator[GatewayProcess]:
    """A gateway with a small send buffer."""
    with running(max_body_bytes=200_000, send_buffer_bytes=400_000, log_level="info") as process:
        yield process


async def test_client_that_does_not_read_is_disconnected_and_others_keep_receiving(
    small_buffer: GatewayProcess, http: aiohttp.ClientSession, node: NodeClients, user: str
) -> None:
    room = f"{user}-room"
    reader = node.open(
        small_buffer.url, token=small_buffer.token(f"{user}-reader", rooms=[room]), transports=["websocket"]
    )
    poller = node.open(
        small_buffer.url, token=small_buffer.token(f"{user}-poller", rooms=[room]), transports=["polling"]
    )
    for client in (reader, poller):
        await asyncio.to_thread(client.connected)
    unread_socket, unread_polling = (
        await RawSocket.open(http, small_buffer.url),
        await RawPolling(http, small_buffer.url).open(),
    )
    await unread_socket.join(small_buffer.token(f"{user}-unread-socket", rooms=[room]))
    await unread_polling.join(small_buffer.token(f"{user}-unread-polling", rooms=[room]))

    def push_until_disconnected() -> int:
        """Push at the pace of the two clients that read, so that only the others lag; return the number of pushes."""
        for number in range(1, 300):
            answer = small_buffer.backend.push_room(room, "much", [number, "x" * 190_000]).body
            for client in (reader, poller):
                client.event("much", count=number)
            if answer["connections"] == 2:
                return number
        raise AssertionError("the clients that do not read are still connected")

    pushed = await asyncio.to_thread(push_until_disconnected)

    for client in (reader, poller):
        assert [arguments[0][0] for arguments in client.events("much")] == list(range(1, pushed + 1))
        client.disconnect()
    reasons = {
        line["user"]: line["reason"]
        for line in small_buffer.log.entries
        if line.get("event") == "connection.closed"
    }
    assert (reasons[f"{user}-unread-socket"], reasons[f"{user}-unread-polling"]) == (
        "slow_consumer",
        "slow_consumer",
    )
    assert await unread_polling.poll() == (400, '{"code":1,"message":"Session ID unknown"}')
    # Frames sent before can still be read; then the connection ends without a close frame.
    code, frames = await unread_socket.closed()
    assert code == 1006
    assert [json.loads(frame[2:])[1][0] for frame in frames] == list(range(1, len(frames) + 1))
    assert len(frames) < pushed
