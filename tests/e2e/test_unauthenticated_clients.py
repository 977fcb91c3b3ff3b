"""Unauthenticated clients: limits of their number, of the size of their frames and of the rate of handshakes."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest

from tests.support.clients import Clients, NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.metrics import read_metrics
from tests.support.raw_clients import RawPolling, RawSocket, connect_packet

TRANSPORTS = pytest.mark.parametrize("transport", ["polling", "websocket"])
ORIGIN = "https://app.example"
MAX_UNAUTHENTICATED_FRAME_BYTES = 32_768
PROXY = {"X-Forwarded-For": "203.0.113.1"}


@contextmanager
def running(**settings: Any) -> Iterator[GatewayProcess]:
    process = GatewayProcess(cors_origins=ORIGIN, **settings)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


@pytest.fixture(scope="module")
def plain() -> Iterator[GatewayProcess]:
    """A gateway with the default limits."""
    with running(namespaces="/,/a,/b,/c") as process:
        yield process


@pytest.fixture(scope="module")
def one_at_a_time() -> Iterator[GatewayProcess]:
    """A gateway that accepts one unauthenticated client at a time."""
    with running(max_unauthenticated=1) as process:
        yield process


@pytest.fixture(scope="module")
def behind_a_proxy() -> Iterator[GatewayProcess]:
    """A gateway behind a proxy on this machine that accepts one handshake per address in 2000 s."""
    with running(trusted_proxies="127.0.0.0/8", connect_rate_per_address=0.0005) as process:
        yield process


async def metric_value(gateway: GatewayProcess, metric: str) -> float:
    """The value of a metric; 0 if it has no line yet."""
    lines = (await asyncio.to_thread(read_metrics, gateway.ingest_url)).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"sio_gateway_{metric} "))


async def rejections(gateway: GatewayProcess, http: aiohttp.ClientSession, **headers: str) -> list[Any]:
    """Attempt a handshake on each transport; return status, message and ``Retry-After`` of each answer."""
    answers = []
    for transport, upgrade in (
        ("polling", {}),
        ("websocket", {"Upgrade": "websocket", "Connection": "Upgrade"}),
    ):
        address = f"{gateway.url}/socket.io/?EIO=4&transport={transport}"
        async with http.get(address, headers={"Origin": ORIGIN} | upgrade | headers) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            answers.append((answer.status, (await answer.json())["message"], answer.headers["Retry-After"]))
    return answers


async def test_handshake_over_the_limit_of_unauthenticated_clients_gets_503_with_retry_after(
    one_at_a_time: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    unauthenticated = await RawPolling(http, one_at_a_time.url).open()
    assert await metric_value(one_at_a_time, "engineio_sessions_unauthenticated") == 1

    message = "too many clients have not shown a token yet"
    assert await rejections(one_at_a_time, http) == [(503, message, "2")] * 2
    rejected = 'engineio_requests_rejected_total{reason="unauthenticated_limit"}'
    assert await metric_value(one_at_a_time, rejected) == 2

    await unauthenticated.join(one_at_a_time.token(user))
    assert await metric_value(one_at_a_time, "engineio_sessions_unauthenticated") == 0
    other = await RawSocket.open(http, one_at_a_time.url)
    await other.join(one_at_a_time.token(user))
    await unauthenticated.close()
    await other.socket.close()


@TRANSPORTS
async def test_client_that_joins_nothing_makes_room_for_one_that_connects(
    one_at_a_time: GatewayProcess, http: aiohttp.ClientSession, clients: Clients, transport: str, user: str
) -> None:
    socket = await RawSocket.open(http, one_at_a_time.url)
    client = clients.open(one_at_a_time.url, token=one_at_a_time.token(user), transports=[transport])
    await asyncio.to_thread(client.wait, "connect_error")

    await asyncio.to_thread(client.connected)
    assert await socket.closed() == (1006, [])

    polling = await RawPolling(http, one_at_a_time.url).open()
    other = clients.open(one_at_a_time.url, token=one_at_a_time.token(user), transports=[transport])
    await asyncio.to_thread(other.connected)
    assert await polling.poll() == (400, '{"code":1,"message":"Session ID unknown"}')
    for each in (client, other):
        each.disconnect()
        await asyncio.to_thread(
            one_at_a_time.log.wait,
            lambda line: line.get("event") == "connection.closed" and line["user"] == user,
        )


async def test_unauthenticated_client_that_sends_more_than_a_token_is_disconnected(
    plain: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket, polling = await RawSocket.open(http, plain.url), await RawPolling(http, plain.url).open()
    too_large = connect_packet("x" * MAX_UNAUTHENTICATED_FRAME_BYTES)
    before = await metric_value(plain, 'engineio_sessions_closed_total{reason="message_too_large"}')

    await socket.send(too_large)
    assert await socket.closed() == (1009, [])
    assert await polling.post(too_large) == (413, '{"code":3,"message":"Payload too large"}')
    assert await polling.poll() == (400, '{"code":1,"message":"Session ID unknown"}')

    after = await metric_value(plain, 'engineio_sessions_closed_total{reason="message_too_large"}')
    assert after - before == 2


@TRANSPORTS
def test_client_joins_several_namespaces_with_large_tokens_and_then_sends_a_larger_event(
    plain: GatewayProcess, clients: Clients, transport: str, user: str
) -> None:
    token = plain.token(user, picture="x" * 5_500)
    assert 7_000 < len(token) < 8_192

    joined = clients.open_together(plain.url, ["/", "/a", "/b", "/c"], token=token, transports=[transport])
    for client in joined:
        client.connected()

    assert joined[0].emit_with_ack("much", "x" * 90_000)["error"]["code"] == "unknown_event"
    for client in joined:
        client.disconnect()


async def test_each_address_behind_the_proxy_has_its_own_rate(
    behind_a_proxy: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    message = "too many clients connect from this address"
    first = await RawPolling(http, behind_a_proxy.url).open(headers=PROXY)

    assert await rejections(behind_a_proxy, http, **PROXY) == [(503, message, "2000")] * 2
    forged = {"X-Forwarded-For": "198.51.100.7, 203.0.113.1"}
    assert await rejections(behind_a_proxy, http, **forged) == [(503, message, "2000")] * 2
    other = await RawSocket.open(http, behind_a_proxy.url, headers={"X-Forwarded-For": "2001:db8::1"})
    await other.join(behind_a_proxy.token(user))

    same_network = {"X-Forwarded-For": "2001:db8::2"}
    assert await rejections(behind_a_proxy, http, **same_network) == [(503, message, "2000")] * 2
    reason = 'engineio_requests_rejected_total{reason="address_rate"}'
    assert await metric_value(behind_a_proxy, reason) == 6
    await first.close()
    await other.socket.close()
    closed = await asyncio.to_thread(
        behind_a_proxy.log.wait,
        lambda line: line.get("event") == "connection.closed" and line["user"] == user,
    )
    assert closed["address"] == "2001:db8::1"


async def test_attachments_of_an_incomplete_packet_are_bounded(
    plain: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await RawSocket.open(http, plain.url)
    await socket.join(plain.token(user))

    await socket.send('453-["much"]', b"x" * 60_000, b"x" * 60_000)

    assert await socket.closed() == (1009, [])


def test_curl_that_sends_expect_100_continue_is_asked_for_the_body(plain: GatewayProcess, user: str) -> None:
    address = f"{plain.url}/socket.io/?EIO=4&transport=polling"
    opened = subprocess.run(["curl", "-s", address], capture_output=True, check=True, text=True).stdout
    sid = opened.partition('"sid":"')[2].partition('"')[0]

    post = ["curl", "-sv", "--expect100-timeout", "30", "--max-time", "10", "-H", "Expect: 100-continue"]
    answer = subprocess.run(
        [*post, "--data-binary", connect_packet(plain.token(user)), f"{address}&sid={sid}"],
        capture_output=True,
        check=True,
        text=True,
    )

    assert answer.stdout == "ok"
    assert "HTTP/1.1 100 Continue" in answer.stderr


def test_clients_of_both_kinds_receive_pushes_when_compression_is_on(
    node: NodeClients, python_clients: Clients, user: str
) -> None:
    with running(ws_compression="true", ws_compression_threshold_bytes=100) as gateway:
        opened = [
            clients.open(gateway.url, token=gateway.token(user), transports=transports).connected()
            for clients in (node, python_clients)
            for transports in (["websocket"], ["polling"], None)
        ]
        data = [{"number": number, "text": "much the same " * 100} for number in range(50)]

        for each in data:
            gateway.push_user(user, "news", each)
        gateway.wait_until_delivered(*opened)

        for client in opened:
            assert [arguments[0] for arguments in client.events("news")] == data
            assert client.emit_with_ack("much", "x" * 5_000)["error"]["code"] == "unknown_event"
            client.disconnect()
