"""Long cookies, queries and tokens: served up to the limits; above them page and operator get the reason."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import TIMEOUT_SECONDS

LIMIT, TOKEN_LIMIT = 32_768, 16_384
ORIGIN = "https://app.example.com"
SECRET_VALUE = "never-in-the-log"
CORS = {"access-control-allow-origin": ORIGIN, "access-control-allow-credentials": "true"}


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    process = GatewayProcess(cors_origins=ORIGIN, request_timeout_seconds=1)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def get(query: str = "", *headers: str, origin: str | None = ORIGIN) -> bytes:
    lines = [f"GET /socket.io/?EIO=4&transport=polling{query} HTTP/1.1", "Host: gateway", *headers]
    return "\r\n".join([*lines, *([f"Origin: {origin}"] if origin else []), "", ""]).encode()


def answer(gateway: GatewayProcess, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send the pieces, half a second apart where there are several, and read one answer."""
    with socket.create_connection(("127.0.0.1", gateway.ports[0]), timeout=TIMEOUT_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        data = b""
        while b"\r\n\r\n" not in data:
            received = connection.recv(65536)
            assert received, data
            data += received
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += connection.recv(65536)
    return int(first.split()[1]), headers, body


@pytest.mark.parametrize(
    "request_",
    [
        get("", "Cookie: " + "c" * 9_000, *[f"X-{number}: " + "x" * 7_000 for number in range(3)]),
        get("&x=" + "q" * 20_000),
        get("", "Cookie: " + "c" * (LIMIT - len(get("", "Cookie: ")))),
    ],
    ids=["cookies of 9 kB", "query of 20 kB", "exactly the limit"],
)
@pytest.mark.parametrize("is_split", [False, True], ids=["at once", "in pieces"])
def test_head_up_to_the_limit_is_served(gateway: GatewayProcess, request_: bytes, is_split: bool) -> None:
    pieces = [request_[start : start + 5_000] for start in range(0, len(request_), 5_000)]

    status, headers, body = answer(gateway, *(pieces if is_split else [request_]))

    assert (status, body[:8]) == (200, b'0{"sid":')
    assert headers.items() >= CORS.items()


COOKIE = "Cookie: session=" + SECRET_VALUE * 100


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (get("", COOKIE * 30), "Cookie"),
        (get("", *[f"X-Part-{number}: {SECRET_VALUE * 50}" for number in range(60)], COOKIE), "Cookie"),
        (get("&token=" + SECRET_VALUE * 3_000), "the request line"),
        (get("", "X" * 70 + ": " + SECRET_VALUE * 3_000), "a header without a valid name"),
        (get("", "Authorization: Bearer " + SECRET_VALUE * 3_500), "Authorization"),
    ],
    ids=["one cookie", "many headers", "query", "long name", "authorization"],
)
@pytest.mark.parametrize("is_split", [False, True], ids=["at once", "in pieces"])
def test_long_head_is_answered_431_for_the_page_and_the_log_names_the_header(
    gateway: GatewayProcess, request_: bytes, named: str, is_split: bool
) -> None:
    pieces = [request_[start : start + 5_000] for start in range(0, len(request_), 5_000)]
    before = len(gateway.log.entries)

    status, headers, body = answer(gateway, *(pieces if is_split else [request_]))

    assert (status, headers["content-type"]) == (431, "application/problem+json")
    assert headers.items() >= (CORS | {"connection": "close"}).items()
    problem = json.loads(body)
    assert (problem["code"], problem["status"]) == ("headers_too_large", 431)
    assert str(LIMIT) in problem["detail"]
    line = gateway.log.wait(lambda entry: entry.get("request_id") == problem["request_id"])
    assert line["detail"].endswith(f" bytes, {longest(request_)} of them in {named}")
    assert SECRET_VALUE not in str(gateway.log.entries[before:])
    assert SECRET_VALUE not in body.decode()


def longest(request_: bytes) -> int:
    return max(map(len, request_.split(b"\r\n")))


@pytest.mark.parametrize(
    "request_",
    [
        get("", "Cookie: " + "c" * LIMIT, origin=None),
        get("", "Cookie: " + "c" * LIMIT, origin="https://elsewhere.example.com"),
    ],
    ids=["no page", "another page"],
)
def test_long_head_of_no_accepted_page_is_answered_without_cors_headers(
    gateway: GatewayProcess, request_: bytes
) -> None:
    status, headers, _ = answer(gateway, request_)

    assert (status, headers.keys() & CORS.keys()) == (431, set())


@pytest.mark.parametrize(
    "count", [100_000, 40_000], ids=["twice the limit and more", "less than twice the limit"]
)
def test_head_without_an_end_is_answered_431(gateway: GatewayProcess, count: int) -> None:
    status, headers, body = answer(gateway, get("&x=" + "q" * count)[:-4])

    assert (status, json.loads(body)["code"]) == (431, "headers_too_large")
    assert headers["connection"] == "close"


def test_too_many_headers_are_answered_431(gateway: GatewayProcess) -> None:
    status, headers, body = answer(gateway, get("", *["A: b"] * 200))

    assert (status, json.loads(body)["detail"]) == (431, "the head of the request has more than 128 headers")
    assert headers.items() >= CORS.items()


def test_malformed_head_of_a_page_is_answered_with_cors_headers(gateway: GatewayProcess) -> None:
    status, headers, _ = answer(gateway, get("", "No colon"))

    assert (status, headers["access-control-allow-origin"]) == (400, ORIGIN)


@pytest.mark.parametrize("place", ["auth", "header", "query"])
def test_token_up_to_the_limit_connects_and_a_longer_one_gets_its_code_in_each_place(
    gateway: GatewayProcess, node: NodeClients, user: str, place: str
) -> None:
    def of_length(length: int) -> str:
        filler = length * 3 // 4 - 400
        while len(token := gateway.token(user, filler="x" * filler)) < length:
            filler += 1
        return token

    def open_client(token: str) -> StockClient:
        options: dict[str, Any] = {
            "auth": {"auth": {"token": token}},
            "header": {"extraHeaders": {"Authorization": f"Bearer {token}"}},
            "query": {"query": {"token": token}},
        }[place]
        return node.open(gateway.url, transports=["polling"], **options)

    longest_token = of_length(TOKEN_LIMIT - 4)
    assert TOKEN_LIMIT - 4 <= len(longest_token) <= TOKEN_LIMIT

    accepted, rejected = open_client(longest_token), open_client(of_length(TOKEN_LIMIT + 1))

    accepted.connected()
    assert rejected.wait("connect_error")["data"] == {"code": "token_too_long"}
