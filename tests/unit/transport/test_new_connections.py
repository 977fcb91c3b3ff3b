"""New connections: whole ordinary handshakes open WebSockets at once, aiohttp's handler gets everything else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import structlog
from aiohttp import web
from hypothesis import given, note, settings
from hypothesis import strategies as st

from gateway.http_server import HttpServer
from gateway.metrics import MetricFactory, RequestMetrics
from gateway.timers import SystemClock
from gateway.transport.connection_totals import ConnectionTotals
from gateway.transport.errors import unavailable
from gateway.transport.http import KEEPALIVE_GRACE_SECONDS, HttpLimits
from gateway.transport.tcp_connections import SPARE, OpenConnections
from ingest_api.access_log import RejectedRequestLog
from tests.support.metrics import counted
from tests.support.raw_clients import raw_connection
from tests.support.waiter import TIMEOUT_SECONDS, await_until
from tests.unit.transport.harness import PATH, EngineHarness, running_engine

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
QUERY = "EIO=4&transport=websocket"
HANDSHAKE = {
    "Host": "gateway",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}
GET = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"
PING_FRAME = b"\x81\x81\x00\x00\x00\x002"


def encode(
    target: str = f"{PATH}?{QUERY}", *more: tuple[str, str], method: str = "GET", **changed: str
) -> bytes:
    """Return a handshake; ``changed``: other values of its headers, underscores for hyphens; none if it is empty."""
    headers = HANDSHAKE | {name.replace("_", "-"): value for name, value in changed.items()}
    fields = [(name, value) for name, value in headers.items() if value]
    lines = [f"{name}: {value}" for name, value in [*fields, *more]]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode()


# handshakes


@pytest.mark.parametrize(
    "handshake",
    [
        encode(),
        encode(f"{PATH}?{QUERY}&token=a.b-c_d"),
        encode(f"{PATH}?{QUERY}&t="),
        encode(Connection="keep-alive, Upgrade", Upgrade="WebSocket"),
        encode(f"{PATH}?{QUERY}", ("Origin", "https://app.example"), ("Cookie", "a=b; c=d")),
    ],
)
async def test_ordinary_handshake_on_a_new_connection_is_opened_at_once(handshake: bytes) -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        connection.send(handshake)
        received = await connection.read_until(b'"maxPayload"')

        assert received.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in received
        assert server.opened_at_once == 1
        assert server.engine.websockets == 1
        assert server.connections.count == 0
        assert server.handshake_addresses == ["127.0.0.1"]


@pytest.mark.parametrize(
    "handshake",
    [
        encode(f"{PATH}?{QUERY}&a=%20"),
        encode(f"{PATH}?{QUERY}&EIO=4"),
        encode(f"{PATH}?{QUERY}&"),
        encode(f"{PATH}?{QUERY}&b"),
        encode(f"{PATH}?{QUERY}&b=1=2"),
        encode(f"{PATH}?{QUERY}", ("X-A", "1"), ("X-A", "2")),
        encode(Connection="Upgrade,keep-alive"),
        encode() + PING_FRAME,
    ],
)
async def test_other_handshake_is_left_to_aiohttp(handshake: bytes) -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        connection.send(handshake)
        assert (await connection.read_until(b'"maxPayload"')).startswith(b"HTTP/1.1 101 ")

        assert server.opened_at_once == 0
        assert server.handshake_addresses == ["127.0.0.1"]


async def test_handshake_in_two_pieces_is_left_to_aiohttp() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        connection.send(encode()[:40])
        await await_until(lambda: not server.listener._new, "the first piece has arrived")
        connection.send(encode()[40:])
        assert (await connection.read_until(b'"maxPayload"')).startswith(b"HTTP/1.1 101 ")

        assert server.opened_at_once == 0


async def test_handshake_after_another_request_is_left_to_aiohttp() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        connection.send(f"GET {PATH}?EIO=4&transport=polling HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
        assert (await connection.read_response()).status == 200
        connection.send(encode())
        assert (await connection.read_until(b'"maxPayload"')).startswith(b"HTTP/1.1 101 ")

        assert server.opened_at_once == 0
        assert len(server.engine.sessions) == 2


async def test_session_that_was_opened_at_once_gets_and_sends_frames() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        connection.send(encode())
        await connection.read_until(b'"maxPayload"')
        server.join()
        connection.send(b"\x81\x83\x00\x00\x00\x004hi")
        await asyncio.wait_for(server.observer.message_arrived.wait(), TIMEOUT_SECONDS)

        assert server.observer.received == ["hi"]
        connection.reset()
        await server.wait_empty()
        assert server.engine.websockets == 0


async def test_failure_while_a_session_opens_is_logged_and_aborts_the_connection() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        server.observer.fails_to_open = True
        with structlog.testing.capture_logs() as lines:
            connection.send(encode())
            assert await connection.read_to_end() == b""

        assert [line["event"] for line in lines] == ["request.failed"]
        assert (server.connections.count, server.engine.websockets) == (0, 0)


async def test_failure_before_a_session_opens_is_logged_and_answered_500() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        server.fails_to_admit = True
        connection.send(encode())

        assert (await connection.read_response()).status == 500


# Handshakes are answered alike, whatever is wrong with them.

QUERIES = [
    QUERY, f"{QUERY}&token=a.b-c", f"{QUERY}&recovery=0", f"{QUERY}&b64=1", f"{QUERY}&sid=", f"{QUERY}&sid=none",
    "EIO=3&transport=websocket", "EIO=4&transport=polling", "EIO=4", "transport=websocket", "EIO=4&transport=other",
    "EIO=&transport=websocket", f"{QUERY}&EIO=3", f"EIO=3&{QUERY}", f"{QUERY}&token=%41%2B", f"{QUERY}&token=a+b",
    f"{QUERY}#part", f"?{QUERY}", f"&{QUERY}", f"{QUERY};x=1", "",
]  # fmt: skip
TARGETS = [f"{PATH}?", PATH, f"{PATH[:-1]}?", f"{PATH}x?", "/?", f"/{PATH}?", f"http://gateway{PATH}?"]
MORE = [
    ("Origin", "https://app.example"), ("Origin", "https://evil.example"), ("Origin", "null"), ("Origin", ""),
    ("Sec-WebSocket-Protocol", "a, b"), ("Sec-WebSocket-Protocol", "a b"), ("Sec-WebSocket-Protocol", ""),
    ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
    ("Sec-WebSocket-Extensions", "permessage-deflate; unknown"), ("Sec-WebSocket-Key1", "a"),
    ("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "203.0.113.9, 198.51.100.7"), ("X-Forwarded-For", "x"),
    ("X-Forwarded-Host", "app.example"), ("Cookie", "a=b; token=c"), ("Authorization", "Bearer a"),
    ("Expect", "100-continue"), ("Content-Length", "0"), ("Content-Length", "1"), ("Transfer-Encoding", "chunked"),
    ("Host", "again"), ("Upgrade", "websocket"), ("Proxy-Connection", "close"), ("X-Space", "a "), ("X-Empty", ""),
    ("X-Long", "x" * 40_000), ("X-Text", "\u00e9"),
]  # fmt: skip
CHANGED = [
    ("Connection", "keep-alive, Upgrade"), ("Connection", "upgrade"), ("Connection", "keep-alive"),
    ("Connection", "close"), ("Connection", "Upgrade, close"), ("Connection", "Upgrade,keep-alive"),
    ("Upgrade", "WebSocket"), ("Upgrade", "h2c"), ("Upgrade", "websocket/13"), ("Upgrade", ""),
    ("Sec_WebSocket_Version", "8"), ("Sec_WebSocket_Version", ""), ("Sec_WebSocket_Key", KEY[:-4]),
    ("Sec_WebSocket_Key", "?"), ("Sec_WebSocket_Key", f" {KEY}"), ("Host", ""), ("Host", "a b"),
]  # fmt: skip
handshakes = st.builds(
    lambda target, query, more, changed, method: encode(
        target + query, *more, method=method, **dict(changed)
    ),
    st.sampled_from([TARGETS[0]] * 20 + TARGETS),
    st.sampled_from([QUERY] * 40 + QUERIES),
    st.lists(st.sampled_from(MORE), max_size=2),
    st.lists(st.sampled_from(CHANGED), max_size=1),
    st.sampled_from(["GET"] * 20 + ["POST", "HEAD", "OPTIONS", "get"]),
)


@asynccontextmanager
async def both_servers() -> AsyncIterator[list[EngineHarness]]:
    """A server that opens handshakes at once, and one that leaves all to aiohttp."""
    async with AsyncExitStack() as stack:
        yield [
            (
                await stack.enter_async_context(
                    running_engine(
                        trusted_proxies=["127.0.0.0/8"], deflates_from_bytes=100, opens_at_once=opens_at_once
                    )
                )
            )[0]
            for opens_at_once in (True, False)
        ]


async def outcome(server: EngineHarness, request: bytes) -> dict[str, Any]:
    """Send a request; return what its client and the layers above have of it, without random values."""
    opened = len(server.observer.opened)
    server.handshake_addresses.clear()
    with structlog.testing.capture_logs() as lines:
        async with raw_connection(server.port) as connection:
            connection.send(request)
            received = await connection.read_until(b"\r\n\r\n")
            connection.send_eof()
            received += await connection.read_to_end()
        await server.wait_empty()
    return {
        "received": _RANDOM.sub(b"-", received),
        "lines": [{**line, "request_id": "-"} for line in lines],
        "handshakes": [(each.handshake, each.transport) for each in server.observer.opened[opened:]],
        # A rejected handshake is checked twice: it takes nothing from any rate.
        "admitted": server.handshake_addresses if server.rejection is None else None,
        "rejected": counted(server.metrics, "engineio_requests_rejected_total"),
        "closed": counted(server.metrics, "engineio_sessions_closed_total"),
        "connections": server.connections.count,
        "websockets": server.engine.websockets,
    }


_RANDOM = re.compile(
    rb'"sid":"[^"]*"|date: [^\r]*|"(?:request_)?id":"[^"]*"|x-request-id: [^\r]*', re.IGNORECASE
)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[asyncio.Runner, list[EngineHarness]]]:
    with asyncio.Runner() as runner:
        both = both_servers()
        at_once, ordinary = runner.run(both.__aenter__())
        yield runner, [at_once, ordinary]
        runner.run(both.__aexit__(None, None, None))
        # Otherwise aiohttp would have been compared with itself.
        assert at_once.opened_at_once > 50
        assert ordinary.opened_at_once == 0


@settings(max_examples=1_500)
@given(request=handshakes, is_full=st.sampled_from([False, False, False, True]))
def test_handshake_has_the_same_outcome_with_aiohttp(
    servers: tuple[asyncio.Runner, list[EngineHarness]], request: bytes, is_full: bool
) -> None:
    runner, both = servers
    note(repr(request))
    for server in both:
        server.rejection = unavailable("full", "there is no place", 5) if is_full else None
    at_once, ordinary = [runner.run(outcome(server, request)) for server in both]
    assert at_once == ordinary


# connections


class Server:
    """A server with few connections that answers each GET."""

    def __init__(self, *, limit: int, keepalive_seconds: float = 600.0) -> None:
        app = web.Application()
        app.router.add_get("/", self._answer)
        app.router.add_get("/healthz", self._answer)
        self.connections = OpenConnections(SystemClock(), listener="public", limit=limit)
        self.listener = HttpServer(
            app,
            direct={},
            reject=RejectedRequestLog(RequestMetrics(MetricFactory())),
            limits=HttpLimits(head_timeout_seconds=5.0, keepalive_seconds=keepalive_seconds),
            totals=ConnectionTotals(MetricFactory()),
            connections=self.connections,
            finish_seconds=1.0,
        )

    async def _answer(self, request: web.Request) -> web.Response:
        return web.Response(text="done")


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[int]:
    port = await server.listener.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        await server.listener.stop()


async def test_new_connection_is_closed_after_the_time_of_an_idle_one() -> None:
    server = Server(limit=10, keepalive_seconds=-KEEPALIVE_GRACE_SECONDS)
    async with running(server) as port, raw_connection(port) as connection:
        assert await connection.read_to_end() == b""
        await await_until(lambda: server.connections.count == 0, "the connection is closed")


async def test_new_connection_that_ends_is_counted_no_longer() -> None:
    server = Server(limit=10)
    async with running(server) as port:
        async with raw_connection(port) as connection:
            await await_until(lambda: server.connections.count == 1, "the connection is open")
            connection.send_eof()
            assert await connection.read_to_end() == b""
        await await_until(lambda: server.connections.count == 0, "the connection is closed")


async def test_stopping_server_closes_new_connections() -> None:
    server = Server(limit=10)
    async with running(server) as port, raw_connection(port) as connection:
        await await_until(lambda: server.connections.count == 1, "the connection is open")
        await server.listener.stop()
        assert await connection.read_to_end() == b""
        assert server.connections.count == 0


async def test_new_connection_makes_room_for_the_next_one() -> None:
    server = Server(limit=1)
    async with running(server) as port, raw_connection(port) as first:
        await await_until(lambda: server.connections.count == 1, "the first one is open")
        async with raw_connection(port) as second:
            assert await first.read_to_end() == b""
            second.send(GET)
            assert (await second.read_response()).body == b"done"
        assert server.connections.closed == {"unused": 1, "waiting": 0}


async def test_connection_without_a_place_is_answered_503_and_closed() -> None:
    server = Server(limit=-SPARE)
    async with running(server) as port, raw_connection(port) as connection:
        answer = await connection.read_to_end()

        assert answer.startswith(b"HTTP/1.1 503 ")
        assert server.connections.rejected == 1
        await await_until(lambda: server.connections.count == 0, "the connection is closed")
