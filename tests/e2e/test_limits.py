"""What happens when a limit is reached: one client notices, the others do not."""

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

CARRIERS = pytest.mark.parametrize("carrier", ["polling", "websocket"])
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
def slow_to_take() -> Iterator[GatewayProcess]:
    with running(connect_rate=2) as process:
        yield process


@CARRIERS
def test_clients_are_turned_away_from_a_full_replica_and_get_in_when_there_is_room(
    full: GatewayProcess, clients: Clients, carrier: str, user: str
) -> None:
    first = clients.open(full.url, token=full.token(user), transports=[carrier]).connected()
    second = clients.open(full.url, token=full.token(user), transports=[carrier])

    error = second.wait("connect_error")
    second.wait("connect_error", count=2)
    assert error.get("active", True)
    if "status" in error and carrier == "polling":
        assert (error["status"], json.loads(error["body"])) == (
            503,
            {"code": 4, "message": "this replica is full"},
        )
    first.disconnect()

    second.connected()
    second.disconnect()
    full.log.wait(lambda line: line.get("event") == "connection.closed" and line["sid"] == second.sid)


async def test_a_full_replica_says_503_when_to_come_back_and_lets_the_page_read_it(
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


@CARRIERS
def test_clients_that_come_too_fast_are_turned_away_and_all_get_in(
    slow_to_take: GatewayProcess, node: NodeClients, carrier: str, user: str
) -> None:
    token = slow_to_take.token(user)
    everybody = [node.open(slow_to_take.url, token=token, transports=[carrier]) for _ in range(5)]

    for client in everybody:
        client.connected()
    errors = [entry for client in everybody for entry in client.entries if entry["type"] == "connect_error"]

    assert errors
    if carrier == "polling":
        assert {(error["status"], error["body"]) for error in errors} == {
            (503, '{"code":4,"message":"too many clients connect at once"}')
        }
    for client in everybody:
        client.disconnect()


@pytest.fixture(scope="module")
def small() -> Iterator[GatewayProcess]:
    """A gateway that keeps little for clients that do not read."""
    with running(max_body_bytes=200_000, send_buffer_bytes=400_000, log_level="info") as process:
        yield process


async def test_who_does_not_read_is_cut_off_and_the_others_go_on(
    small: GatewayProcess, http: aiohttp.ClientSession, node: NodeClients, user: str
) -> None:
    room = f"{user}-room"
    reader = node.open(small.url, token=small.token(f"{user}-reader", rooms=[room]), transports=["websocket"])
    poller = node.open(small.url, token=small.token(f"{user}-poller", rooms=[room]), transports=["polling"])
    for client in (reader, poller):
        await asyncio.to_thread(client.connected)
    deaf, absent = await RawSocket.open(http, small.url), await RawPolling(http, small.url).open()
    await deaf.join(small.token(f"{user}-deaf", rooms=[room]))
    await absent.join(small.token(f"{user}-absent", rooms=[room]))

    def push_until_alone() -> int:
        """As fast as those read who do, so that nobody else falls behind; the number of pushes."""
        for number in range(1, 300):
            answer = small.backend.push_room(room, "much", [number, "x" * 190_000]).body
            for client in (reader, poller):
                client.event("much", count=number)
            if answer["connections"] == 2:
                return number
        raise AssertionError("those who do not read are still there")

    pushed = await asyncio.to_thread(push_until_alone)

    for client in (reader, poller):
        assert [arguments[0][0] for arguments in client.events("much")] == list(range(1, pushed + 1))
        client.disconnect()
    reasons = {
        line["user"]: line["reason"] for line in small.log.entries if line.get("event") == "connection.closed"
    }
    assert (reasons[f"{user}-deaf"], reasons[f"{user}-absent"]) == ("slow_consumer", "slow_consumer")
    assert await absent.poll() == (400, '{"code":1,"message":"Session ID unknown"}')
    # What had left the gateway before is still there to be read; then the connection ends without a close frame.
    code, frames = await deaf.closed()
    assert code == 1006
    assert [json.loads(frame[2:])[1][0] for frame in frames] == list(range(1, len(frames) + 1))
    assert len(frames) < pushed
