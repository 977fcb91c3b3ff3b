"""Every kind of answer of every port has the same standard headers, also those to requests that no handler gets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import TIMEOUT_SECONDS

ENGINE = "/socket.io/?EIO=4&transport=polling"
LONG = "x" * 40_000


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    process = GatewayProcess(dev=True, ingest_port=0, request_timeout_seconds=1, redis_url=None)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def head(line: str, *headers: str, body: str = "") -> bytes:
    return "\r\n".join([line, "Host: gateway", *headers, "", body]).encode()


def answer(port: int, request: bytes) -> tuple[int, dict[str, list[str]], bytes]:
    """Return status, headers and body of the first answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            received = connection.recv(65536)
            assert received, data
            data += received
        text, _, body = data.partition(b"\r\n\r\n")
        first, *lines = text.decode().split("\r\n")
        headers: dict[str, list[str]] = {}
        for name, _, value in (line.partition(": ") for line in lines):
            headers.setdefault(name.lower(), []).append(value)
        length = int(headers.get("content-length", ["0"])[0])
        while len(body) < length and not request.startswith(b"HEAD"):
            received = connection.recv(65536)
            assert received
            body += received
        if int(first.split()[1]) in {400, 501}:
            connection.sendall(head("GET /healthz HTTP/1.1"))
            headers["closed"] = [] if connection.recv(1) else ["yes"]
    return int(first.split()[1]), headers, body


PUBLIC, BACKENDS = 0, -1
CHUNKED = "1\r\nx\r\n0\r\n\r\n"
ANSWERS = {
    "handshake": (PUBLIC, head(f"GET {ENGINE} HTTP/1.1"), 200),
    "unknown session": (PUBLIC, head(f"GET {ENGINE}&sid=x HTTP/1.1"), 400),
    "post of an unknown session": (
        PUBLIC,
        head(f"POST {ENGINE}&sid=x HTTP/1.1", "Content-Length: 1", body="1"),
        400,
    ),
    "bad WebSocket handshake": (
        PUBLIC,
        head(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade"
        ),
        400,
    ),
    "preflight": (PUBLIC, head(f"OPTIONS {ENGINE} HTTP/1.1", "Origin: https://a.example"), 204),
    "client file": (PUBLIC, head("GET /socket.io/socket.io.js HTTP/1.1"), 200),
    "head of a client file": (PUBLIC, head("HEAD /socket.io/socket.io.js HTTP/1.1"), 200),
    "client file that is known": (
        PUBLIC,
        head("GET /socket.io/socket.io.js HTTP/1.1", "If-None-Match: *"),
        304,
    ),
    "client file in no coding": (
        PUBLIC,
        head("GET /socket.io/socket.io.js HTTP/1.1", "Accept-Encoding: identity;q=0"),
        406,
    ),
    "development page for another host": (PUBLIC, head("GET /dev/ HTTP/1.1"), 403),
    "public health": (PUBLIC, head("GET /healthz HTTP/1.1"), 200),
    "method of health": (PUBLIC, head("POST /healthz HTTP/1.1", "Content-Length: 0"), 405),
    "unknown public path": (PUBLIC, head("GET /nothing HTTP/1.1"), 404),
    "health": (BACKENDS, head("GET /health/live HTTP/1.1"), 200),
    "metrics": (BACKENDS, head("GET /metrics HTTP/1.1"), 200),
    "OpenAPI": (BACKENDS, head("GET /openapi.yaml HTTP/1.1"), 200),
    "push without a signature": (
        BACKENDS,
        head("POST /broadcast HTTP/1.1", "Content-Length: 2", body="{}"),
        401,
    ),
    "webhooks without a signature": (BACKENDS, head("GET /webhooks HTTP/1.1"), 401),
    "dead letters without a signature": (BACKENDS, head("GET /webhooks/app/dead?limit=1 HTTP/1.1"), 401),
    "replay without a signature": (
        BACKENDS,
        head("POST /webhooks/app/replay HTTP/1.1", "Content-Length: 2", body="{}"),
        401,
    ),
    "drop without a signature": (
        BACKENDS,
        head("POST /webhooks/app/drop HTTP/1.1", "Content-Length: 2", body="{}"),
        401,
    ),
    "webhooks on the public port": (PUBLIC, head("GET /webhooks HTTP/1.1"), 404),
    "id of a webhook that is no UTF-8": (BACKENDS, head("GET /webhooks/%FF/dead HTTP/1.1"), 400),
    "method of dead letters": (BACKENDS, head("PUT /webhooks/app/dead HTTP/1.1"), 405),
    "method of a push": (BACKENDS, head("GET /broadcast HTTP/1.1"), 405),
    "unknown path": (BACKENDS, head("GET /nothing HTTP/1.1"), 404),
    "asterisk": (BACKENDS, head("OPTIONS * HTTP/1.1"), 404),
    "other expectation": (
        BACKENDS,
        head("POST /broadcast HTTP/1.1", "Content-Length: 2", "Expect: x", body="{}"),
        417,
    ),
    "other upgrade": (
        BACKENDS,
        head("GET /health/live HTTP/1.1", "Upgrade: h2c", "Connection: Upgrade"),
        200,
    ),
    "HTTP/1.0": (BACKENDS, head("GET /health/live HTTP/1.0"), 200),
    "malformed head": (PUBLIC, head("GET / HTTP/1.1", "no colon"), 400),
    "HTTP/1.1 without Host": (PUBLIC, b"GET / HTTP/1.1\r\n\r\n", 400),
    "TLS": (PUBLIC, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "HTTP/2": (PUBLIC, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "other version": (PUBLIC, head("GET / HTTP/1.9"), 400),
    "long head": (PUBLIC, head("GET / HTTP/1.1", f"Cookie: {LONG}"), 431),
    "many headers": (PUBLIC, head("GET / HTTP/1.1", *["X: y"] * 200), 431),
    "slow head": (PUBLIC, b"GET / HTTP/1.1\r\n", 408),
    "slow body": (BACKENDS, head("POST /broadcast HTTP/1.1", "Content-Length: 5", body="{"), 401),
}
CODINGS = {
    "gzip, chunked": ("POST /broadcast HTTP/1.1", ["Transfer-Encoding: gzip, chunked"], 501),
    "in two lines": (
        "POST /broadcast HTTP/1.1",
        ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
        None,
    ),
    "identity, chunked": ("POST /broadcast HTTP/1.1", ["Transfer-Encoding: identity, chunked"], 501),
    "chunked twice": ("POST /broadcast HTTP/1.1", ["Transfer-Encoding: chunked, chunked"], 400),
    "chunked in two lines": ("POST /broadcast HTTP/1.1", ["Transfer-Encoding: chunked"] * 2, 400),
    "chunked not last": ("POST /broadcast HTTP/1.1", ["Transfer-Encoding: chunked, gzip"], None),
    "unknown": ("POST /broadcast HTTP/1.1", ["Transfer-Encoding: xchunked"], None),
    "identity": ("POST /broadcast HTTP/1.1", ["Transfer-Encoding: identity"], None),
    "gzip": ("POST /broadcast HTTP/1.1", ["Transfer-Encoding: gzip"], None),
    "empty": ("POST /broadcast HTTP/1.1", ["Transfer-Encoding:"], None),
    "comma": ("POST /broadcast HTTP/1.1", ["Transfer-Encoding: ,chunked"], None),
    "parameter": ("POST /broadcast HTTP/1.1", ["Transfer-Encoding: chunked;x=y"], None),
    "vertical tab": ("POST /broadcast HTTP/1.1", ["Transfer-Encoding: \x0bchunked"], None),
    "HTTP/1.0": ("POST /broadcast HTTP/1.0", ["Transfer-Encoding: chunked"], 400),
    "beside a length": (
        "POST /broadcast HTTP/1.1",
        ["Transfer-Encoding: chunked", "Content-Length: 11"],
        400,
    ),
    "behind a length": (
        "POST /broadcast HTTP/1.1",
        ["Content-Length: 11", "Transfer-Encoding: chunked"],
        400,
    ),
    "of a GET": ("GET /health/live HTTP/1.1", ["Transfer-Encoding: gzip, chunked"], 501),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_answer_has_the_standard_headers(gateway: GatewayProcess, kind: str) -> None:
    port, request, expected = ANSWERS[kind]

    status, headers, _ = answer(gateway.ports[port], request)

    assert status == expected
    assert headers["server"] == ["sio-gateway"]
    assert headers["x-content-type-options"] == ["nosniff"]
    assert "aiohttp" not in str(headers)
    assert len(headers["date"]) == 1


@pytest.mark.parametrize("port", [PUBLIC, BACKENDS])
@pytest.mark.parametrize("kind", CODINGS)
def test_transfer_encoding_other_than_chunked_is_rejected(
    gateway: GatewayProcess, kind: str, port: int
) -> None:
    line, lines, expected = CODINGS[kind]
    line = line if port == BACKENDS else line.replace("/broadcast", f"{ENGINE}&sid=x")

    status, headers, body = answer(gateway.ports[port], head(line, *lines, body=CHUNKED))

    assert status in ({400, 501} if expected is None else {expected})
    assert json.loads(body)["code"] == ("bad_request" if status == 400 else "unsupported_transfer_encoding")
    assert headers["server"] == ["sio-gateway"]
    assert headers["x-content-type-options"] == ["nosniff"]
    assert headers["closed"]


def test_chunked_body_is_accepted_in_any_case(gateway: GatewayProcess) -> None:
    for value in ("chunked", "Chunked", " chunked "):
        request = head("POST /broadcast HTTP/1.1", f"Transfer-Encoding:{value}", body=CHUNKED)
        status, _, body = answer(gateway.ports[BACKENDS], request)
        assert (status, json.loads(body)["code"]) == (401, "missing_signature")
