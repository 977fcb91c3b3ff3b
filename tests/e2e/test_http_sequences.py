"""Requests that follow each other on one connection: each answer belongs to its request, whatever they are.

The oracle is the id that each request has and its answer repeats, and what a client receives of the pushes: exactly
those that were answered 200. A connection may end before the last request is answered, but only after an answer with
``Connection: close``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket
from tests.support.waiter import TIMEOUT_SECONDS

USER = "sequences"
H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: short",
)


@dataclass(frozen=True)
class Request:
    """A request, its id, or nothing if its answer does not repeat the id, and the status of the answer."""

    id: str
    sent: bytes
    status: int
    method: str = "POST"
    is_push: bool = False


@dataclass(frozen=True)
class Answer:
    version: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_last(self) -> bool:
        default = "keep-alive" if self.version == "HTTP/1.1" else "close"
        return self.headers.get("connection", default).lower() == "close"


@pytest.fixture(scope="module", params=["memory", "redis"])
def gateway(request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    """A gateway with two ports: the first for clients, the second for backends."""
    state = {}
    if request.param == "redis":
        state["redis_url"] = request.getfixturevalue("redis_server").url
    process = GatewayProcess(ingest_port=0, cors_origins="*", request_timeout_seconds=5, **state)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def push(
    gateway: GatewayProcess, *headers: str, version: str = "1.1", chunked: bool = False, method: str = "POST"
) -> Request:
    id_ = secrets.token_hex(8)
    target = f"/emit/user/{USER}"
    body = json.dumps({"event": "note", "data": id_}).encode()
    signed = gateway.backend.sign(method, target, body)
    lines = [f"{method} {target} HTTP/{version}", "Host: gateway", f"X-Request-Id: {id_}"]
    lines += [f"{name}: {value}" for name, value in signed.items()]
    lines += ["Content-Type: application/json", *headers]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        body = b"5\r\n%s\r\n%x;x=y\r\n%s\r\n0\r\nX-Trailer: z\r\n\r\n" % (body[:5], len(body) - 5, body[5:])
    else:
        lines.append(f"Content-Length: {len(body)}")
    is_push = method == "POST"
    return Request(
        id_, "\r\n".join([*lines, "", ""]).encode() + body, 200 if is_push else 405, method, is_push=is_push
    )


def plain(
    method: str, target: str, status: int, *headers: str, body: bytes = b"", version: str = "1.1"
) -> Request:
    id_ = secrets.token_hex(8)
    lines = [f"{method} {target} HTTP/{version}", "Host: gateway", f"X-Request-Id: {id_}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return Request(id_, "\r\n".join([*lines, "", ""]).encode() + body, status, method)


def malformed(*headers: str, body: bytes = b"") -> Request:
    request = plain("POST", "/broadcast", 400, *headers)
    return Request("", request.sent + body, 400)


def presence(gateway: GatewayProcess, method: str, *headers: str, body: bytes = b"") -> Request:
    target = f"/presence/{USER}"
    signed = [f"{name}: {value}" for name, value in gateway.backend.sign(method, target, body).items()]
    return plain(method, target, 200 if method == "GET" else 405, *signed, *headers, body=body)


KINDS: dict[str, Callable[[GatewayProcess], Request]] = {
    "push": push,
    "push h2c": lambda gateway: push(gateway, *H2C),
    "push chunked": lambda gateway: push(gateway, chunked=True),
    "push chunked h2c": lambda gateway: push(gateway, *H2C, chunked=True),
    "push expect": lambda gateway: push(gateway, "Expect: 100-continue"),
    "push websocket": lambda gateway: push(gateway, *WEBSOCKET),
    "push http/1.0": lambda gateway: push(gateway, version="1.0"),
    "push http/1.0 keep-alive": lambda gateway: push(gateway, "Connection: keep-alive", version="1.0"),
    "push close": lambda gateway: push(gateway, "Connection: close"),
    "put": lambda gateway: push(gateway, method="PUT"),
    "get": lambda gateway: presence(gateway, "GET"),
    "get h2c": lambda gateway: presence(gateway, "GET", *H2C),
    "get with body": lambda gateway: presence(gateway, "GET", body=b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
    "get with body h2c": lambda gateway: presence(gateway, "GET", *H2C, body=b"x\r\n\r\n"),
    "head": lambda gateway: presence(gateway, "HEAD"),
    "health": lambda _: Request("", b"HEAD /health/live HTTP/1.1\r\nHost: gateway\r\n\r\n", 200, "HEAD"),
    "unsigned": lambda _: plain("POST", "/broadcast", 401, *H2C, body=b"{}"),
    "unknown": lambda _: plain("POST", "/x", 404, *WEBSOCKET, body=b"GET / HTTP/1.1\r\n\r\n"),
    "connect": lambda _: plain("CONNECT", "gateway:80", 404),
    "obs-fold": lambda _: malformed("X-Fold: a\r\n b"),
    "two lengths": lambda _: malformed("Content-Length: 1", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\n"),
    "bare lf": lambda _: Request("", b"GET / HTTP/1.1\nHost: gateway\n\n", 400),
    "garbage": lambda _: Request("", b"\x00\x01\r\n\r\n", 400),
}  # fmt: skip
ENDS = ["half-close", "last request"]


def test_request_behind_an_unknown_upgrade_is_answered_and_delivered(gateway: GatewayProcess) -> None:
    requests = [push(gateway, *H2C), push(gateway), push(gateway)]

    answers = exchange(gateway.ports[1], requests, [])

    assert [answer.headers["x-request-id"] for answer in answers] == [request.id for request in requests]
    assert [answer.status for answer in answers] == [200, 200, 200]


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("gateway", ["redis"], indirect=True)
async def test_each_answer_of_a_pair_belongs_to_its_request(
    gateway: GatewayProcess, http: aiohttp.ClientSession, first: str
) -> None:
    sequences = [(first, second) for second in KINDS]
    await check_sequences(gateway, http, [(kinds, end, []) for kinds in sequences for end in ENDS])


@given(
    kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=3, max_size=5),
    end=st.sampled_from(ENDS),
    splits=st.lists(st.integers(1, 3_000), max_size=3, unique=True).map(sorted),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_each_answer_of_a_sequence_in_pieces_belongs_to_its_request(
    gateway: GatewayProcess, http: aiohttp.ClientSession, kinds: list[str], end: str, splits: list[int]
) -> None:
    await check_sequences(gateway, http, [(kinds, end, splits)])


async def check_sequences(
    gateway: GatewayProcess,
    http: aiohttp.ClientSession,
    cases: Sequence[tuple[Sequence[str], str, list[int]]],
) -> None:
    listener = await RawSocket.open(http, gateway.url)
    try:
        await listener.join(gateway.token(USER))
        await check_with_listener(gateway, listener, cases)
    finally:
        await listener.socket.close()


async def check_with_listener(
    gateway: GatewayProcess, listener: RawSocket, cases: Sequence[tuple[Sequence[str], str, list[int]]]
) -> None:
    accepted: list[str] = []
    for kinds, end, splits in cases:
        requests = [KINDS[kind](gateway) for kind in kinds]
        if end == "last request":
            requests.append(push(gateway, "Connection: close"))
        answers = await asyncio.to_thread(exchange, gateway.ports[1], requests, splits)
        check_answers(requests, answers)
        accepted += [
            request.id
            for request, answer in zip(requests, answers, strict=False)
            if request.is_push and answer.status == 200
        ]

    assert await received(gateway, listener) == accepted


def check_answers(requests: list[Request], answers: list[Answer]) -> None:
    sent = [request.sent for request in requests]
    assert answers, sent
    assert len(answers) <= len(requests), (sent, answers)
    for request, answer in zip(requests, answers, strict=False):
        assert answer.status == request.status, (sent, answers)
        if request.id:
            assert answer.headers["x-request-id"] == request.id, (sent, answers)
    assert len(answers) == len(requests) or answers[-1].is_last, (sent, answers)
    assert not any(answer.is_last for answer in answers[:-1]), (sent, answers)


async def received(gateway: GatewayProcess, listener: RawSocket) -> list[str]:
    """The ids of the pushes that the client has received so far."""
    mark = secrets.token_hex(8)
    await asyncio.to_thread(gateway.push_user, USER, "note", mark)
    ids: list[str] = []
    while not ids or ids[-1] != mark:
        ids.append(json.loads((await listener.frame())[2:])[1])
    return ids[:-1]


def exchange(port: int, requests: list[Request], splits: list[int]) -> list[Answer]:
    """Send requests in pieces that end at ``splits``, close the sending side, and read all answers."""
    data = send_all(port, b"".join(request.sent for request in requests), splits)
    return parse_answers(data, [request.method for request in requests])


def send_all(port: int, stream: bytes, splits: list[int]) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, stop in itertools.pairwise([0, *splits, len(stream)]):
            connection.sendall(stream[start:stop])
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def parse_answers(data: bytes, methods: list[str]) -> list[Answer]:
    answers: list[Answer] = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, head
        first, *lines = head.decode().split("\r\n")
        version, status = first.split()[:2]
        if status == "100":
            continue
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        assert len(data) >= length, (head, data)
        answers.append(Answer(version, int(status), headers, data[:length]))
        data = data[length:]
    return answers


UNKNOWN_SID = {"code": 1, "message": "Session ID unknown"}
BAD_METHOD = {"code": 2, "message": "Bad handshake method"}
BAD_REQUEST = {"code": 3, "message": "Bad request"}
BAD_VERSION = {"code": 5, "message": "Unsupported protocol version"}


def engine(method: str, query: str, *headers: str, body: bytes = b"") -> Request:
    return plain(method, f"/socket.io/?{query}", 0, *headers, body=body)


def test_requests_of_a_client_that_follow_an_upgrade_are_answered_in_order(gateway: GatewayProcess) -> None:
    requests = [
        engine("GET", "EIO=4&transport=polling", *H2C),
        engine("POST", "EIO=4&transport=polling&sid=x", *H2C, body=b"3"),
        engine("GET", "EIO=4&transport=websocket", *WEBSOCKET),
        engine("POST", "EIO=4&transport=polling", *WEBSOCKET, body=b"GET / HTTP/1.1\r\n\r\n"),
        engine("OPTIONS", "EIO=4&transport=polling", *H2C),
        engine("GET", "EIO=3&transport=websocket", *WEBSOCKET),
        engine("GET", "EIO=3&transport=polling"),
    ]

    opened, *answers = exchange(gateway.ports[0], requests, [])

    assert opened.body.startswith(b'0{"sid":')
    assert [answer.body and json.loads(answer.body) for answer in answers] == [
        UNKNOWN_SID, BAD_REQUEST, BAD_METHOD, b"", BAD_VERSION, BAD_VERSION,
    ]  # fmt: skip


def test_client_that_sends_no_more_after_its_requests_gets_their_answers(
    gateway: GatewayProcess,
) -> None:
    (opened,) = exchange(gateway.ports[0], [engine("GET", "EIO=4&transport=polling")], [])
    query = f"EIO=4&transport=polling&sid={json.loads(opened.body[1:])['sid']}"
    packet = f"40{json.dumps({'token': gateway.token('half-closed')})}".encode()

    posted, polled = exchange(
        gateway.ports[0], [engine("POST", query, body=packet), engine("GET", query)], []
    )

    assert (posted.body, posted.is_last) == (b"ok", False)
    assert polled.body.startswith(b'40{"sid":"')


def test_half_closed_connection_ends_the_session_whose_poll_waits(gateway: GatewayProcess) -> None:
    """The gateway cannot distinguish it from a closed one, and the reference server ends the session too."""
    (opened,) = exchange(gateway.ports[0], [engine("GET", "EIO=4&transport=polling")], [])
    poll = engine("GET", f"EIO=4&transport=polling&sid={json.loads(opened.body[1:])['sid']}")

    answers = [exchange(gateway.ports[0], [poll], [])[0] for _ in range(2)]

    assert [(answer.status, json.loads(answer.body)) for answer in answers] == [(400, UNKNOWN_SID)] * 2


def test_websocket_of_a_client_that_sends_no_more_is_rejected_or_closed(gateway: GatewayProcess) -> None:
    """It is closed if the gateway sees the end only after the handshake."""
    handshake = [*WEBSOCKET[:3], "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    request = engine("GET", "EIO=4&transport=websocket", *handshake)

    head, _, rest = send_all(gateway.ports[0], request.sent, []).partition(b"\r\n\r\n")

    if head.startswith(b"HTTP/1.1 101 "):
        assert rest[2:9] == b'0{"sid"' or rest[4:11] == b'0{"sid"'
    else:
        assert (head[:13], json.loads(rest)) == (b"HTTP/1.1 400 ", BAD_REQUEST)


@pytest.mark.parametrize("cut_at", [5, -100, -3], ids=["request line", "header", "body"])
def test_request_that_is_cut_off_is_answered_400(gateway: GatewayProcess, cut_at: int) -> None:
    whole = push(gateway)
    cut_off = Request("", push(gateway).sent[:cut_at], 400)

    answers = exchange(gateway.ports[1], [whole, cut_off], [])

    check_answers([whole, cut_off], answers)
    assert json.loads(answers[1].body)["code"] == "bad_request"
    assert answers[1].is_last
