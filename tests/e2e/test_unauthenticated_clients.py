"""What clients can do that proved nothing yet: no more than a little each, and not too many at once."""

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
from tests.support.raw_clients import RawPolling, RawSocket, connect_packet

CARRIERS = pytest.mark.parametrize("carrier", ["polling", "websocket"])
ORIGIN = "https://app.example"
LARGEST = 32_768
PROXY = {"X-Forwarded-For": "203.0.113.1"}


@contextmanager
def running(**settings: Any) -> Iterator[GatewayProcess]:
    process = GatewayProcess(cors_origins=ORIGIN, **settings)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


@pytest.fixture(scope="module")
def plain() -> Iterator[GatewayProcess]:
    """A gateway with the limits that it has by itself."""
    with running(namespaces="/,/a,/b,/c") as process:
        yield process


@pytest.fixture(scope="module")
def suspicious() -> Iterator[GatewayProcess]:
    """A gateway that takes one stranger at a time."""
    with running(max_unauthenticated=1) as process:
        yield process


@pytest.fixture(scope="module")
def behind_a_proxy() -> Iterator[GatewayProcess]:
    """A gateway behind a proxy on this machine, that takes a handshake in half an hour from each address."""
    with running(trusted_proxies="127.0.0.0/8", connect_rate_per_address=0.0005) as process:
        yield process


async def counted(http: aiohttp.ClientSession, gateway: GatewayProcess, metric: str) -> float:
    """What a line of the metrics says; 0 if it is not there yet."""
    async with http.get(f"{gateway.ingest_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"sio_gateway_{metric} "))


async def refused(gateway: GatewayProcess, http: aiohttp.ClientSession, **headers: str) -> list[Any]:
    """Status, body and when to come back, for a handshake on each carrier."""
    answers = []
    for carrier, upgrade in (
        ("polling", {}),
        ("websocket", {"Upgrade": "websocket", "Connection": "Upgrade"}),
    ):
        address = f"{gateway.url}/socket.io/?EIO=4&transport={carrier}"
        async with http.get(address, headers={"Origin": ORIGIN} | upgrade | headers) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            answers.append((answer.status, (await answer.json())["message"], answer.headers["Retry-After"]))
    return answers


async def test_when_there_are_too_many_strangers_others_are_told_to_come_back(
    suspicious: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    stranger = await RawPolling(http, suspicious.url).open()
    assert await counted(http, suspicious, "engineio_sessions_unauthenticated") == 1

    message = "too many clients have not shown a token yet"
    assert await refused(suspicious, http) == [(503, message, "5")] * 2
    assert (
        await counted(http, suspicious, 'engineio_requests_rejected_total{reason="unauthenticated_limit"}')
        == 2
    )

    await stranger.join(suspicious.token(user))
    assert await counted(http, suspicious, "engineio_sessions_unauthenticated") == 0
    other = await RawSocket.open(http, suspicious.url)
    await other.join(suspicious.token(user))
    await stranger.close()
    await other.socket.close()


@CARRIERS
async def test_a_client_that_is_turned_away_because_of_strangers_gets_in_later(
    suspicious: GatewayProcess, http: aiohttp.ClientSession, clients: Clients, carrier: str, user: str
) -> None:
    stranger = await RawSocket.open(http, suspicious.url)
    client = clients.open(suspicious.url, token=suspicious.token(user), transports=[carrier])
    await asyncio.to_thread(client.wait, "connect_error")

    await stranger.socket.close()

    await asyncio.to_thread(client.connected)
    client.disconnect()
    await asyncio.to_thread(
        suspicious.log.wait,
        lambda line: line.get("event") == "connection.closed" and line["user"] == user,
    )


async def test_a_stranger_sends_tokens_and_nothing_larger(
    plain: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket, polling = await RawSocket.open(http, plain.url), await RawPolling(http, plain.url).open()
    too_large = connect_packet("x" * LARGEST)
    before = await counted(http, plain, 'engineio_sessions_closed_total{reason="message_too_large"}')

    await socket.send(too_large)
    assert await socket.closed() == (1009, [])
    assert await polling.post(too_large) == (413, '{"code":3,"message":"Payload too large"}')
    assert await polling.poll() == (400, '{"code":1,"message":"Session ID unknown"}')

    after = await counted(http, plain, 'engineio_sessions_closed_total{reason="message_too_large"}')
    assert after - before == 2


@CARRIERS
def test_a_client_joins_several_namespaces_with_large_tokens_and_then_sends_more(
    plain: GatewayProcess, clients: Clients, carrier: str, user: str
) -> None:
    token = plain.token(user, picture="x" * 5_500)
    assert 7_000 < len(token) < 8_192

    joined = clients.open_together(plain.url, ["/", "/a", "/b", "/c"], token=token, transports=[carrier])
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

    assert await refused(behind_a_proxy, http, **PROXY) == [(503, message, "2000")] * 2
    made_up = {"X-Forwarded-For": "198.51.100.7, 203.0.113.1"}
    assert await refused(behind_a_proxy, http, **made_up) == [(503, message, "2000")] * 2
    other = await RawSocket.open(http, behind_a_proxy.url, headers={"X-Forwarded-For": "2001:db8::1"})
    await other.join(behind_a_proxy.token(user))

    neighbour = {"X-Forwarded-For": "2001:db8::2"}
    assert await refused(behind_a_proxy, http, **neighbour) == [(503, message, "2000")] * 2
    reason = 'engineio_requests_rejected_total{reason="address_rate"}'
    assert await counted(http, behind_a_proxy, reason) == 6
    await first.close()
    await other.socket.close()
    closed = await asyncio.to_thread(
        behind_a_proxy.log.wait,
        lambda line: line.get("event") == "connection.closed" and line["user"] == user,
    )
    assert closed["address"] == "2001:db8::1"


async def test_attachments_of_a_packet_that_is_never_whole_are_bounded(
    plain: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await RawSocket.open(http, plain.url)
    await socket.join(plain.token(user))

    await socket.send('453-["much"]', b"x" * 60_000, b"x" * 60_000)

    assert await socket.closed() == (1009, [])


def test_a_curl_that_waits_to_be_asked_for_its_body_is_asked(plain: GatewayProcess, user: str) -> None:
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


def test_browsers_and_others_hear_compressed_pushes_where_the_operator_wants_it(
    node: NodeClients, python_clients: Clients, user: str
) -> None:
    with running(ws_compression="true", ws_compression_threshold_bytes=100) as gateway:
        everybody = [
            clients.open(gateway.url, token=gateway.token(user), transports=transports).connected()
            for clients in (node, python_clients)
            for transports in (["websocket"], ["polling"], None)
        ]
        data = [{"number": number, "text": "much the same " * 100} for number in range(50)]

        for each in data:
            gateway.push_user(user, "news", each)
        gateway.wait_until_delivered(*everybody)

        for client in everybody:
            assert [arguments[0] for arguments in client.events("news")] == data
            assert client.emit_with_ack("much", "x" * 5_000)["error"]["code"] == "unknown_event"
            client.disconnect()
