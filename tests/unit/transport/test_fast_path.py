"""Whole requests take the fast path, all others aiohttp's; a client sees no difference."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import pytest_asyncio
import structlog
from aiohttp import web
from multidict import CIMultiDictProxy

from gateway.http_server import HttpServer
from gateway.metrics import MetricFactory, RequestMetrics
from gateway.timers import SystemClock
from gateway.transport import http
from gateway.transport.connection_totals import ConnectionTotals
from gateway.transport.fast_path import Answer, Caller
from gateway.transport.http import HttpLimits
from gateway.transport.tcp_connections import OpenConnections
from ingest_api.access_log import RejectedRequestLog
from tests.support.raw_clients import raw_connection
from tests.support.waiter import TIMEOUT_SECONDS

HEAD_TIMEOUT_SECONDS = 0.2
FAST, AIOHTTP = "fast path", "aiohttp"


class Server:
    """Echoes bodies and names the handler in ``X-Handler``; ``/wait`` waits for ``release``."""

    def __init__(self, keepalive_seconds: float = 30.0) -> None:
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.finished = asyncio.Event()
        self.bodies: list[bytes] = []
        self.waiting: list[asyncio.Future[None]] = []
        app = web.Application()
        app.router.add_post("/unread", self._unread)
        app.router.add_route("*", "/{any:.*}", self._handle_in_aiohttp)
        self.listener = HttpServer(
            app,
            direct={},
            fast_path=self,
            reject=RejectedRequestLog(RequestMetrics(MetricFactory())),
            limits=HttpLimits(head_timeout_seconds=HEAD_TIMEOUT_SECONDS, keepalive_seconds=keepalive_seconds),
            totals=ConnectionTotals(MetricFactory()),
            connections=OpenConnections(SystemClock(), listener="public", limit=10_000),
            finish_seconds=1.0,
        )
        self.port = 0

    beginnings: tuple[bytes, ...] = (b"POST /",)

    def matches(self, method: str, target: str) -> bool:
        return method == "POST" and target.startswith("/push")

    def begin(
        self,
        method: str,
        target: str,
        fields: Mapping[bytes, bytes],
        body: bytes,
        respond: Callable[[Answer], None],
        *,
        remote: str | None,
    ) -> bool:
        assert remote == "127.0.0.1"
        answer = 200, {"X-Handler": FAST, "X-Echo": fields.get(b"x-echo", b"").decode()}, body
        if target.endswith("/break"):
            answer = 200, {"X-Broken": "a\r\nX-Smuggled: b"}, b""
        if target == "/push/now/fail":
            raise RuntimeError("a bug")
        if target.startswith("/push/now"):
            self.bodies.append(body)
            respond(answer)
            if target == "/push/now/late-fail":
                raise RuntimeError("a bug")
        elif target.startswith("/push/later"):
            self.bodies.append(body)
            self.waiting.append(asyncio.ensure_future(self._respond_later(answer, respond)))
        return target.startswith(("/push/now", "/push/later"))

    async def _respond_later(self, answer: Answer, respond: Callable[[Answer], None]) -> None:
        await self._wait("/push/later/wait")
        respond(answer)

    async def handle(
        self,
        method: str,
        target: str,
        headers: CIMultiDictProxy[str],
        body: bytes,
        *,
        remote: str | None,
        caller: Caller | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        assert caller is not None
        assert not caller.is_closing
        assert remote == "127.0.0.1"
        self.bodies.append(body)
        if target == "/push/fail":
            raise RuntimeError("a bug")
        if target == "/push/break":
            return 200, {"X-Broken": "a\r\nX-Smuggled: b"}, b""
        await self._wait(target)
        return 200, {"X-Handler": FAST, "X-Echo": headers.get("X-Echo", "")}, body

    async def _handle_in_aiohttp(self, request: web.Request) -> web.Response:
        body = await request.read()
        await self._wait(request.path)
        return web.Response(
            body=body, headers={"X-Handler": AIOHTTP, "X-Echo": request.headers.get("X-Echo", "")}
        )

    async def _unread(self, request: web.Request) -> web.Response:
        response = web.Response(status=401)
        response.force_close()
        return response

    async def _wait(self, path: str) -> None:
        if path.endswith("/wait"):
            self.entered.set()
            await self.release.wait()
            self.finished.set()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    server.port = await server.listener.start("127.0.0.1", 0)
    yield server
    server.release.set()
    await server.listener.stop()


def post(target: str, body: bytes = b"hello", *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST {target} HTTP/{version}", "Host: gateway", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def wait_entered(server: Server) -> None:
    await asyncio.wait_for(server.entered.wait(), TIMEOUT_SECONDS)


async def test_whole_requests_of_one_connection_take_the_fast_path(server: Server) -> None:
    async with raw_connection(server.port) as connection:
        for body in (b"one", b"", b"x" * 10_000):
            connection.send(post("/push", body, "X-Echo: hi"))
            answer = await connection.read_response()

            assert (answer.status, answer.body) == (200, body)
            assert (answer.headers["x-handler"], answer.headers["x-echo"]) == (FAST, "hi")
            assert "date" in answer.headers


@pytest.mark.parametrize(
    "request_",
    [
        post("/other"),
        post("/push").replace(b"POST", b"PUT"),
        post("/push", b"hello", "Connection: close"),
        post("/push", b"hello", version="1.0"),
    ],
    ids=["not taken", "another method", "the last of its connection", "an older version"],
)
async def test_request_that_does_not_match_is_handled_by_aiohttp(server: Server, request_: bytes) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(request_)
        answer = await connection.read_response()

    assert (answer.headers["x-handler"], answer.body) == (AIOHTTP, b"hello")


@pytest.mark.parametrize("split", [10, -5, -1], ids=["in the head", "before the body", "in the body"])
async def test_request_in_two_pieces_is_answered(server: Server, split: int) -> None:
    async with raw_connection(server.port) as connection:
        for _ in range(2):
            request_ = post("/push")
            connection.send(request_[:split])
            await asyncio.sleep(0.02)  # no event to wait for; the pieces are two segments most of the time
            connection.send(request_[split:])

            assert (await connection.read_response()).body == b"hello"


async def test_head_timer_ends_when_the_second_piece_of_a_head_arrives(server: Server) -> None:
    async with raw_connection(server.port) as connection:
        request_ = post("/push/wait")
        connection.send(request_[:10])
        await asyncio.sleep(HEAD_TIMEOUT_SECONDS / 4)
        connection.send(request_[10:])
        await wait_entered(server)

        assert await connection.is_silent_for(2 * HEAD_TIMEOUT_SECONDS)
        server.release.set()


async def test_requests_in_one_piece_are_answered_in_order(server: Server) -> None:
    bodies = [str(number).encode() for number in range(50)]
    async with raw_connection(server.port) as connection:
        connection.send(
            b"".join(post("/push" if number % 3 else "/long", body) for number, body in enumerate(bodies))
        )

        assert [(await connection.read_response()).body for _ in bodies] == bodies


@pytest.mark.parametrize("first", ["/push/wait", "/push/later", "/long/wait"])
async def test_requests_that_follow_a_waiting_one_are_answered_after_it(server: Server, first: str) -> None:
    bodies = [str(number).encode() for number in range(200)]
    async with raw_connection(server.port) as connection:
        connection.send(post(first, b"first"))
        await wait_entered(server)
        for body in bodies:
            connection.send(post("/push", body))
            await asyncio.sleep(0)
        assert await connection.is_silent_for(0.1)
        server.release.set()

        assert [(await connection.read_response()).body for _ in range(201)] == [b"first", *bodies]


async def test_bytes_that_follow_a_waiting_request_wait_in_the_socket(server: Server) -> None:
    large = post("/push", b"x" * 60_000)
    async with raw_connection(server.port) as connection:
        connection.send(post("/push/wait"))
        await wait_entered(server)
        for _ in range(1_000):
            connection.send(large)
        await asyncio.sleep(0.2)

        # The kernel buffers a part on both sides, and this process a little more, but not all of it.
        assert connection.bytes_waiting > 10_000_000
        server.release.set()
        for _ in range(1_001):
            assert (await connection.read_response()).status == 200


async def test_request_that_offers_another_protocol_is_answered_and_the_connection_kept(
    server: Server,
) -> None:
    """Java's HttpClient sends these headers with its first request."""
    async with raw_connection(server.port) as connection:
        connection.send(post("/push", b"hello", "Connection: Upgrade", "Upgrade: h2c"))
        assert (await connection.read_response()).body == b"hello"
        connection.send(post("/push"))
        assert (await connection.read_response()).headers["x-handler"] == FAST


@pytest.mark.parametrize("target", ["/push/now/break", "/push/later/break", "/push/now/fail"])
async def test_failure_of_a_request_that_was_begun_is_answered_once(server: Server, target: str) -> None:
    server.release.set()
    async with raw_connection(server.port) as connection:
        with structlog.testing.capture_logs() as lines:
            connection.send(post(target, b"", "X-Request-Id: r-1"))
            answer = await asyncio.wait_for(connection.read_response(), TIMEOUT_SECONDS)

        assert (answer.status, json.loads(answer.body)["code"]) == (500, "internal_error")
        assert (answer.headers["x-request-id"], "x-smuggled" in answer.headers) == ("r-1", False)
        assert [line["event"] for line in lines if line["log_level"] == "error"] == ["request.failed"]
        connection.send(post("/push"))
        assert (await connection.read_response()).headers["x-handler"] == FAST


async def test_failure_after_the_answer_adds_no_second_answer(server: Server) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(post("/push/now/late-fail"))
        assert (await connection.read_response()).status == 200
        connection.send(post("/push", b"next"))
        assert (await connection.read_response()).body == b"next"


@pytest.mark.parametrize("target", ["/push/fail", "/push/break"])
async def test_exception_is_answered_and_logged_and_the_next_request_is_served(
    server: Server, target: str
) -> None:
    async with raw_connection(server.port) as connection:
        with structlog.testing.capture_logs() as lines:
            connection.send(post(target, b"", "X-Request-Id: r-1"))
            answer = await connection.read_response()

        assert (answer.status, json.loads(answer.body)["code"]) == (500, "internal_error")
        assert (answer.headers["x-request-id"], "x-smuggled" in answer.headers) == ("r-1", False)
        assert [line["event"] for line in lines if line["log_level"] == "error"] == ["request.failed"]
        connection.send(post("/push"))
        assert (await connection.read_response()).headers["x-handler"] == FAST


@pytest.mark.parametrize("target", ["/push/wait", "/push/later"])
async def test_client_that_closes_before_the_answer_breaks_nothing(
    server: Server, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(post(target))
        await wait_entered(server)
        connection.reset()
    server.release.set()

    await asyncio.wait_for(server.finished.wait(), TIMEOUT_SECONDS)
    async with raw_connection(server.port) as connection:
        connection.send(post("/push"))
        assert (await connection.read_response()).status == 200
    assert caplog.records == []


async def test_request_that_is_answered_in_the_step_is_followed_by_the_next(server: Server) -> None:
    async with raw_connection(server.port) as connection:
        for body in (b"one", b"", b"x" * 10_000):
            connection.send(post("/push/now", body, "X-Echo: hi"))
            answer = await connection.read_response()
            assert (answer.status, answer.body, answer.headers["x-echo"]) == (200, body, "hi")
    assert server.bodies == [b"one", b"", b"x" * 10_000]


async def test_client_that_closes_its_side_gets_the_answer(server: Server) -> None:
    for target in ("/push", "/push/now", "/push/later"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(post(target, b"last"))
        writer.write_eof()
        server.release.set()
        answer = await asyncio.wait_for(reader.read(), TIMEOUT_SECONDS)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"last")
        writer.close()


async def test_bytes_after_the_last_answer_of_a_connection_are_not_handled(server: Server) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(b"POST /unread HTTP/1.1\r\nHost: gateway\r\nContent-Length: 10\r\n\r\n")
        answer = await connection.read_response()
        connection.send(b"x" * 10 + post("/push", b"smuggled"))

        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert await connection.read_to_end() == b""
    assert server.bodies == []


@pytest.mark.parametrize("target", ["/push/wait", "/push/later"])
async def test_stopping_server_lets_a_request_finish(server: Server, target: str) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(post(target))
        await wait_entered(server)
        stopping = asyncio.create_task(server.listener.stop())
        assert await connection.is_silent_for(0.1)
        server.release.set()

        answer = await connection.read_response()
        await stopping
        assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
        assert await connection.read_to_end() == b""


async def test_stopping_server_waits_for_a_limited_time(server: Server) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(post("/push/wait"))
        await wait_entered(server)

        await asyncio.wait_for(server.listener.stop(), TIMEOUT_SECONDS)

        assert await connection.read_to_end() == b""
    assert not server.finished.is_set()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "fast path" and not task.done()]


@pytest.mark.parametrize("target", ["/push/wait", "/push/later"])
async def test_idle_connection_is_closed_but_not_before_its_answer(
    monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(http, "KEEPALIVE_GRACE_SECONDS", 0.1)
    server = Server(keepalive_seconds=0.1)
    server.port = await server.listener.start("127.0.0.1", 0)
    async with raw_connection(server.port) as connection:
        connection.send(post(target))
        await wait_entered(server)
        assert await connection.is_silent_for(0.6)
        server.release.set()
        assert (await connection.read_response()).body == b"hello"
        connection.send(post("/push"))
        assert (await connection.read_response()).body == b"hello"

        assert await connection.read_to_end() == b""
    await server.listener.stop()


@pytest.mark.parametrize(
    ("request_", "announced"),
    [
        (post("/push"), "timeout=30"),
        (post("/other"), "timeout=30"),
        (post("/push/fail"), "timeout=30"),
        (post("/push", b"hello", "Connection: keep-alive", version="1.0"), "timeout=30"),
        (post("/push", b"hello", version="1.0"), None),
        (post("/push", b"hello", "Connection: close"), None),
        (post("/unread"), None),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", None),
    ],
    ids=["fast path", "aiohttp", "failure", "kept with 1.0", "1.0", "close", "closing", "malformed"],
)
async def test_answer_announces_how_long_the_connection_is_kept(
    server: Server, request_: bytes, announced: str | None
) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(request_)
        answer = await connection.read_response()

    assert answer.headers.get("keep-alive") == announced
    if announced:
        assert answer.headers["connection"] == "keep-alive"
    else:
        assert answer.headers.get("connection", "close") == "close"
