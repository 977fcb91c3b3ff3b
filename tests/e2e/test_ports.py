"""Two ports: with ``INGEST_PORT``, the REST API is not served on the port of Socket.IO, and vice versa."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import aiohttp
import pytest

from tests.support.backend import Backend
from tests.support.clients import Clients, NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import raw_connection
from tests.support.waiter import TIMEOUT_SECONDS

INGEST_PATHS = ["/health/live", "/health/ready", "/metrics", "/openapi.yaml"]
SOCKETIO_PATHS = [
    "/socket.io/?EIO=4&transport=polling",
    "/socket.io/socket.io.js",
    "/socket.io/socket.io.min.js",
]


@pytest.fixture(scope="module")
def split() -> Iterator[GatewayProcess]:
    """A gateway with a port of its own for the REST API."""
    process = GatewayProcess(ingest_port=0)
    assert len(set(process.ports)) == 2
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def test_push_to_the_ingest_port_reaches_a_client_on_the_socketio_port(
    split: GatewayProcess, clients: Clients, user: str
) -> None:
    client = clients.open(split.url, token=split.token(user)).connected()

    assert split.push_user(user, "note", 1)["connections"] == 1

    assert client.event("note") == [1]
    assert split.backend.presence(user)["online"] is True
    client.disconnect()


@pytest.mark.parametrize("path", INGEST_PATHS)
async def test_path_for_backends_and_probes_is_served_on_the_ingest_port_only(
    split: GatewayProcess, http: aiohttp.ClientSession, path: str
) -> None:
    async with http.get(f"{split.ingest_url}{path}") as served:
        assert served.status == 200
    async with http.get(f"{split.url}{path}") as other:
        await expect_not_found(other)


@pytest.mark.parametrize("path", SOCKETIO_PATHS)
async def test_path_for_browsers_is_served_on_the_socketio_port_only(
    split: GatewayProcess, http: aiohttp.ClientSession, path: str
) -> None:
    async with http.get(f"{split.url}{path}") as served:
        assert served.status == 200
        if (await served.text())[:1] == "0":
            sid = (await served.text()).split('"')[3]
            await (await http.post(f"{split.url}{path}&sid={sid}", data="1")).read()
    async with http.get(f"{split.ingest_url}{path}") as other:
        await expect_not_found(other)
    if "EIO" in path:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(f"{split.ingest_url}{path.replace('polling', 'websocket')}")
        assert caught.value.status == 404


def test_signed_request_to_the_socketio_port_is_answered_with_not_found(
    split: GatewayProcess, user: str
) -> None:
    backend = Backend(split.url, split.key_id, split.secret)

    for answer in (
        backend.push_user(user, "note"),
        backend.push_room("org:7", "note"),
        backend.broadcast("note"),
        backend.disconnect(user),
        backend.send("GET", f"/presence/{user}"),
    ):
        assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
        assert answer.body["code"] == "not_found"


def test_unknown_path_gets_the_same_answer_on_both_ports(split: GatewayProcess) -> None:
    for number in split.ports:
        backend = Backend(f"http://127.0.0.1:{number}", split.key_id, split.secret)
        answer = backend.send("GET", "/nothing/here")
        assert (answer.status, answer.body["code"], answer.body["title"]) == (404, "not_found", "Not Found")


async def expect_not_found(answer: aiohttp.ClientResponse) -> None:
    assert (answer.status, answer.content_type) == (404, "application/problem+json")
    assert (await answer.json(content_type=None))["code"] == "not_found"


def test_port_in_use_is_named_in_the_log_and_ends_the_process(split: GatewayProcess) -> None:
    port = str(split.ports[0])
    environment = {"GATEWAY_PORT": port, "GATEWAY_LOG_FORMAT": "json", "PATH": os.environ["PATH"]}

    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--dev"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )

    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ended.returncode == 1
    assert [line["reason"].split(":")[0] for line in lines if line["event"] == "gateway.cannot_listen"] == [
        f"port {port} of 127.0.0.1 cannot be opened"
    ]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
def test_host_that_is_not_of_this_machine_is_named_with_its_setting(host: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--dev", "--host", host, "--port", "0"],
        env={"GATEWAY_LOG_FORMAT": "json", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )

    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    (failed,) = [line for line in lines if line["event"] == "gateway.cannot_listen"]
    assert ended.returncode == 1
    assert f"of {host} cannot be opened" in failed["reason"]
    assert failed["advice"] == "set GATEWAY_HOST to an address of this machine"


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
async def test_probe_path_accepts_get_and_head_and_answers_other_methods_with_405(
    split: GatewayProcess, http: aiohttp.ClientSession, path: str
) -> None:
    async with http.head(f"{split.ingest_url}{path}") as served:
        assert served.status == 200
    async with http.post(f"{split.ingest_url}{path}", data=b"{}") as rejected:
        assert (rejected.status, rejected.headers["Allow"]) == (405, "GET,HEAD")
        assert (await rejected.json(content_type="application/problem+json"))["code"] == "method_not_allowed"


BOTH_LOOPBACKS = ["127.0.0.1", "[::1]"]


@pytest.mark.parametrize(("dev", "host"), [(False, "::"), (False, "localhost"), (True, None)])
async def test_gateway_serves_clients_and_backends_over_both_families(
    http: aiohttp.ClientSession, node: NodeClients, user: str, dev: bool, host: str | None
) -> None:
    gateway = GatewayProcess(dev=dev, ingest_port=0, host=host)
    try:
        for address in BOTH_LOOPBACKS:
            client = node.open(f"http://{address}:{gateway.ports[0]}", token=gateway.token(user)).connected()
            backend = Backend(f"http://{address}:{gateway.ports[1]}", gateway.key_id, gateway.secret)
            assert backend.push_user(user, "note", address).body["connections"] == 1
            assert client.event("note") == [address]
            assert backend.presence(user)["online"] is True
            client.disconnect()
            async with http.get(f"http://{address}:{gateway.ports[1]}/health/ready") as ready:
                assert ready.status == 200
        if dev:
            page = gateway.printed.wait(
                lambda line: "Try it" in line.get("text", ""), timeout=TIMEOUT_SECONDS
            )
            async with http.get(page["text"].split()[-1]) as opened:
                assert opened.status == 200
    finally:
        assert gateway.stop() == 0
    addresses = {line["address"] for line in gateway.log.entries if line.get("event") == "connection.closed"}
    assert addresses == {"127.0.0.1", "::1"}
    assert gateway.failures() == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_load_balancer_gets_a_status_and_nothing_else_at_the_port_of_clients(
    split: GatewayProcess, gateway_process: GatewayProcess, http: aiohttp.ClientSession, method: str
) -> None:
    for process in (split, gateway_process):
        async with http.request(method, f"{process.url}/healthz") as answer:
            assert (answer.status, await answer.read()) == (200, b"")
            assert set(answer.headers) <= {
                "Date",
                "Server",
                "Content-Length",
                "Cache-Control",
                "Connection",
                "Keep-Alive",
                "X-Content-Type-Options",
            }
            assert answer.headers["Cache-Control"] == "no-store"


async def test_check_of_haproxy_is_answered(split: GatewayProcess) -> None:
    """``option httpchk`` sends HTTP/1.0 without a Host."""
    async with raw_connection(split.ports[0]) as connection:
        connection.send(b"OPTIONS /healthz HTTP/1.0\r\n\r\n")
        assert (await connection.read_to_end()).split()[1] == b"200"


async def test_public_path_takes_no_other_method_and_is_no_path_of_backends(
    split: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    async with http.post(f"{split.url}/healthz", data=b"{}") as rejected:
        assert (rejected.status, rejected.headers["Allow"]) == (405, "GET,HEAD,OPTIONS")
    for url in (f"{split.ingest_url}/healthz", f"{split.url}/healthz/x", f"{split.url}/health"):
        async with http.get(url) as other:
            await expect_not_found(other)


async def test_load_balancer_gets_503_before_a_replica_drains(http: aiohttp.ClientSession) -> None:
    process = GatewayProcess(shutdown_delay_seconds=TIMEOUT_SECONDS, ingest_port=0)
    try:
        process.signal(signal.SIGTERM)
        process.log.wait(lambda line: line.get("event") == "gateway.draining", timeout=TIMEOUT_SECONDS)
        for method in ("GET", "HEAD", "OPTIONS"):
            async with http.request(method, f"{process.url}/healthz") as answer:
                assert (answer.status, await answer.read()) == (503, b"")
    finally:
        process.kill()


V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x50\x00\x50"
REQUEST = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: push.example\r\n\r\n"


@pytest.mark.parametrize("port", [0, 1], ids=["clients", "backends"])
@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n" + REQUEST, 400, ["PROXY protocol", "send-proxy"]),
        (b"PROXY UNKNOWN\r\n" + REQUEST, 400, ["PROXY protocol", "proxy_protocol_v2.enabled"]),
        (V2 + REQUEST, 400, ["PROXY protocol", "TRUSTED_PROXIES"]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, ["TLS"]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, ["HTTP/2", "HTTP/1.1"]),
    ],
)
async def test_other_protocol_of_a_load_balancer_is_named_in_the_log_and_in_the_answer(
    split: GatewayProcess, port: int, sent: bytes, status: int, words: list[str]
) -> None:
    async with raw_connection(split.ports[port]) as connection:
        connection.send(sent)
        head, _, body = (await connection.read_to_end()).partition(b"\r\n\r\n")

    assert head.split()[1] == str(status).encode()
    problem = json.loads(body)
    assert [word for word in words if word not in problem["detail"]] == []
    line = split.log.wait(
        lambda line: line.get("request_id") == problem["request_id"], timeout=TIMEOUT_SECONDS
    )
    assert (line["event"], line["status"], line["detail"]) == ("request.answered", status, problem["detail"])


async def test_the_same_bytes_later_on_a_connection_are_part_of_a_request(split: GatewayProcess) -> None:
    async with raw_connection(split.ports[0]) as connection:
        connection.send(REQUEST[:-2] + b"X-Text: ")
        await asyncio.sleep(0)
        connection.send(b"PROXY TCP4\r\n\r\n")
        assert (await connection.read_response()).status == 200


@pytest.mark.parametrize(
    "head",
    [
        "GET /health/live HTTP/1.1\r\nHost: x",
        "GET /healthz HTTP/1.1\r\nHost: x",
        "GET /metrics HTTP/1.1\r\nHost: x",
        "GET /openapi.yaml HTTP/1.1\r\nHost: x",
        "GET /nothing HTTP/1.1\r\nHost: x",
        "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 0",
        "POST /broadcast HTTP/1.1\r\nHost: x\r\nExpect: something",
        "DELETE /health/live HTTP/1.1\r\nHost: x",
        "CONNECT x:80 HTTP/1.1\r\nHost: x",
        "GET /socket.io/socket.io.esm.min.js HTTP/1.1\r\nHost: x",
        "HEAD /socket.io/socket.io.js HTTP/1.1\r\nHost: x",
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x",
        "GET /socket.io/?EIO=3&transport=polling HTTP/1.1\r\nHost: x",
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nOrigin: https://else.example",
        "OPTIONS /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x",
        (
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        ),
        "GET / HTTP/1.1",
        "GET / HTTP/1.0",
        "GET / HTTP/3.0\r\nHost: x",
        "GET /\0 HTTP/1.1\r\nHost: x",
        "GET / HTTP/1.1\r\nHost: x\r\nCookie: " + "c" * 40_000,
        "PRI * HTTP/2.0",
        "PROXY TCP4 127.0.0.1 127.0.0.1 1 2",
    ],
)
async def test_no_answer_names_a_version(split: GatewayProcess, head: str) -> None:
    for port in split.ports:
        async with raw_connection(port) as connection:
            connection.send(f"{head}\r\n\r\n".encode())
            received = await connection.read_until(b"\r\n\r\n")
        fields = received.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")[1:]

        assert [field for field in fields if field.startswith(("server:", "x-powered-by:", "via:"))] in (
            [],
            ["server: sio-gateway"],
        )
        assert not [field for field in fields if "python" in field or "aiohttp" in field]
