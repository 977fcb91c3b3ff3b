"""The connection handler over real sockets: valid, malformed and slow requests."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import cast

import pytest
import pytest_asyncio
import structlog
from aiohttp import web

from gateway.http_server import HttpServer, printable_host
from gateway.metrics import MetricFactory, RequestMetrics
from gateway.timers import SystemClock
from gateway.transport.connection_totals import ConnectionTotals
from gateway.transport.http import GatewayRequestHandler, HttpLimits
from gateway.transport.tcp_connections import OpenConnections
from ingest_api.access_log import RejectedRequestLog
from ingest_api.errors import PROBLEM_TYPE
from tests.support.raw_clients import Response, raw_connection
from tests.support.waiter import TIMEOUT_SECONDS

HEAD_TIMEOUT_SECONDS = 0.2
GET = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"


class Server:
    """A listener whose handlers set events for the test."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.lost = asyncio.Event()
        self.release = asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/", self._echo)
        app.router.add_get("/only-get", self._echo)
        self.listener = HttpServer(
            app,
            direct={
                "/wait": self._wait,
                "/fail": self._fail,
                "/left": self._left,
                "/half": self._half,
                "/read": self._read,
            },
            reject=RejectedRequestLog(RequestMetrics(MetricFactory())),
            limits=HttpLimits(head_timeout_seconds=HEAD_TIMEOUT_SECONDS),
            totals=ConnectionTotals(MetricFactory()),
            connections=OpenConnections(SystemClock(), listener="public", limit=10_000),
            finish_seconds=2.0,
        )
        self.port = 0

    async def _echo(self, request: web.Request) -> web.Response:
        return web.Response(body=request.query_string.encode() + await request.read())

    async def _wait(self, request: web.Request) -> web.Response:
        cast(GatewayRequestHandler, request.protocol).on_close = self.lost.set
        self.entered.set()
        await self.release.wait()
        return web.Response(text="done")

    async def _read(self, request: web.Request) -> web.Response:
        self.entered.set()
        try:
            await request.content.read()
        except web.RequestPayloadError:
            return web.Response(status=400, text="broken")
        return web.Response(text="whole")

    async def _fail(self, request: web.Request) -> web.Response:
        raise RuntimeError("a bug")

    async def _left(self, request: web.Request) -> web.Response:
        raise ConnectionResetError("the client left")

    async def _half(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        raise RuntimeError("a bug")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    server.port = await server.listener.start("127.0.0.1", 0)
    yield server
    server.release.set()
    await server.listener.stop()


async def send_request(server: Server, request: bytes) -> Response:
    async with raw_connection(server.port) as connection:
        connection.send(request)
        return await connection.read_response()


def is_problem(answer: Response, status: int, code: str) -> bool:
    return (answer.status, answer.headers["content-type"]) == (status, PROBLEM_TYPE) and json.loads(
        answer.body
    )["code"] == code


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /\x00 HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"GET /\x7f HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"GET / b HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"GET / HTTP/9.9.9\r\nHost: gateway\r\n\r\n",
        b"GET /\r\nHost: gateway\r\n\r\n",
        b"G\x01T / HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: gateway\r\nBad Name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: gateway\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: gateway\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_malformed_request_is_answered_400_as_a_problem_without_a_traceback(
    server: Server, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    with structlog.testing.capture_logs() as logs:
        answer = await send_request(server, request_)

    assert is_problem(answer, 400, "bad_request"), answer
    assert [(line["event"], line["log_level"]) for line in logs] == [("request.answered", "info")]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"GET /" + b"x" * 200_000,
        b"GET / HTTP/1.1\r\nHost: gateway\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: gateway\r\n" + b"X-Many: x\r\n" * 1_000 + b"\r\n",
    ],
    ids=["long request line", "endless request line", "long header", "many headers"],
)
async def test_head_that_is_too_long_is_rejected(
    server: Server, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    answer = await send_request(server, request_)

    assert is_problem(answer, 431, "headers_too_large"), answer
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "request_",
    [
        b"CONNECT gateway:1 HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"GET http://gateway HTTP/1.1\r\nHost: gateway\r\n\r\n",
    ],
    ids=["no path to speak of", "absolute form without a path"],
)
async def test_request_that_selects_no_application_is_answered_as_a_problem(
    server: Server, request_: bytes
) -> None:
    assert is_problem(await send_request(server, request_), 404, "not_found")


async def test_rejection_has_the_request_id_that_is_in_the_log(server: Server) -> None:
    with structlog.testing.capture_logs() as logs:
        answer = await send_request(
            server, b"GET http://gateway HTTP/1.1\r\nHost: gateway\r\nX-Request-Id: of-the-caller\r\n\r\n"
        )

    assert answer.headers["x-request-id"] == "of-the-caller"
    assert json.loads(answer.body)["request_id"] == "of-the-caller"
    assert [(line["request_id"], line["status"], line["code"]) for line in logs] == [
        ("of-the-caller", 404, "not_found")
    ]


@pytest.mark.parametrize("version", [b"HTTP/2.0"])
async def test_other_version_of_http_is_rejected(server: Server, version: bytes) -> None:
    assert is_problem(
        await send_request(server, b"GET / " + version + b"\r\nHost: gateway\r\n\r\n"),
        505,
        "unsupported_version",
    )


async def test_method_that_a_path_does_not_have_is_answered_as_a_problem(server: Server) -> None:
    answer = await send_request(
        server, b"POST /only-get HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n"
    )

    assert is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET,HEAD"


async def test_malformed_rest_of_a_body_raises_in_its_reader(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(
            b"POST /read HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
        )
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await server.entered.wait()
        connection.send(b"no chunk\r\n")
        answer = await connection.read_response()
        await connection.read_to_end()

    assert (answer.status, answer.body) == (400, b"broken")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_connection_is_closed_after_a_rejection(server: Server) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(b"GET / b HTTP/1.1\r\n\r\n" + GET)
        answer = await connection.read_response()

        assert answer.status == 400
        assert await connection.read_to_end() == b""


@pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\nHost: gateway\r\nX-Slow: "])
async def test_half_a_head_times_out(server: Server, part: bytes) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with raw_connection(server.port) as connection:
        connection.send(part)
        answer = await connection.read_response()
        rest = await connection.read_to_end()

    assert is_problem(answer, 408, "request_timeout")
    assert rest == b""
    assert loop.time() - began >= HEAD_TIMEOUT_SECONDS * 0.9


async def test_head_that_arrives_in_small_pieces_times_out(server: Server) -> None:
    answers: list[bytes] = []
    # A piece that crosses the answer makes the kernel reset the connection and drop the answer.
    while not any(answers) and len(answers) < 5:
        async with raw_connection(server.port) as connection:
            connection.send(b"GET / HTTP/1.1\r\n")
            while await connection.is_silent_for(HEAD_TIMEOUT_SECONDS * 0.3):
                connection.send(b"X: y\r\n")
            answers.append(await connection.read_to_end())

    assert b"408" in answers[-1]


async def test_head_in_two_parts_is_answered_if_the_second_arrives_in_time(server: Server) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(GET[:10])
        assert await connection.is_silent_for(HEAD_TIMEOUT_SECONDS / 4)
        connection.send(GET[10:])

        assert (await connection.read_response()).status == 200
        assert await connection.is_silent_for(HEAD_TIMEOUT_SECONDS * 1.5)
        connection.send(GET)
        assert (await connection.read_response()).status == 200


async def test_idle_connection_and_slow_body_do_not_time_out(server: Server) -> None:
    async with raw_connection(server.port) as connection:
        assert await connection.is_silent_for(HEAD_TIMEOUT_SECONDS * 1.5)
        connection.send(b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 5\r\n\r\nhe")
        assert await connection.is_silent_for(HEAD_TIMEOUT_SECONDS * 1.5)
        connection.send(b"llo")

        assert (await connection.read_response()).body == b"hello"


async def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(b"".join(b"GET /?%d HTTP/1.1\r\nHost: gateway\r\n\r\n" % n for n in range(20)))

        assert [(await connection.read_response()).body for _ in range(20)] == [b"%d" % n for n in range(20)]


async def test_garbage_after_a_request_is_rejected(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(GET)
        first = await connection.read_response()
        connection.send(b"\x00\x01garbage\r\n\r\n")
        second = await connection.read_response()
        rest = await connection.read_to_end()

    assert first.status == 200
    assert is_problem(second, 400, "bad_request")
    assert rest == b""
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_garbage_in_one_piece_with_a_request_is_rejected_after_the_answer_to_the_request(
    server: Server,
) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(b"GET /?a HTTP/1.1\r\nHost: gateway\r\n\r\n\x00\x01garbage\r\n\r\n")
        first = await connection.read_response()
        second = await connection.read_response()
        rest = await connection.read_to_end()

    assert (first.status, first.body) == (200, b"a")
    assert is_problem(second, 400, "bad_request")
    assert rest == b""


@pytest.mark.parametrize("ending", ["reset", "close"])
async def test_waiting_handler_is_notified_at_once_when_its_client_closes(
    server: Server, ending: str
) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(b"GET /wait HTTP/1.1\r\nHost: gateway\r\n\r\n")
        await asyncio.wait_for(server.entered.wait(), TIMEOUT_SECONDS)
        if ending == "reset":
            connection.reset()
            await asyncio.wait_for(server.lost.wait(), TIMEOUT_SECONDS)

    await asyncio.wait_for(server.lost.wait(), TIMEOUT_SECONDS)


async def test_exception_in_a_handler_is_answered_500_as_a_problem_and_logged_once(server: Server) -> None:
    with structlog.testing.capture_logs() as logs:
        answer = await send_request(server, b"GET /fail HTTP/1.1\r\nHost: gateway\r\n\r\n")

    assert is_problem(answer, 500, "internal_error")
    assert [entry["event"] for entry in logs] == ["request.failed", "request.answered"]
    assert "a bug" not in answer.body.decode()


async def test_exception_after_half_an_answer_ends_the_connection_and_is_logged_once(server: Server) -> None:
    with structlog.testing.capture_logs() as logs:
        async with raw_connection(server.port) as connection:
            connection.send(b"GET /half HTTP/1.1\r\nHost: gateway\r\n\r\n")
            rest = await connection.read_to_end()

    assert rest.endswith(b"half\r\n")
    assert [entry["event"] for entry in logs] == ["request.failed"]


async def test_client_that_closes_is_not_logged_as_a_failure(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with raw_connection(server.port) as connection:
            connection.send(b"GET /left HTTP/1.1\r\nHost: gateway\r\n\r\n")
            rest = await connection.read_to_end()

    assert (rest, logs) == (b"", [])
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_closed_listener_accepts_no_connection_and_serves_open_ones(
    server: Server,
) -> None:
    async with raw_connection(server.port) as connection:
        connection.send(b"GET /wait HTTP/1.1\r\nHost: gateway\r\n\r\n")
        await asyncio.wait_for(server.entered.wait(), TIMEOUT_SECONDS)

        server.listener.close()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", server.port)
        server.release.set()

        assert (await connection.read_response()).body == b"done"


async def test_stopping_server_finishes_running_requests_and_closes_idle_connections(server: Server) -> None:
    async with raw_connection(server.port) as idle, raw_connection(server.port) as busy:
        idle.send(GET)
        await idle.read_response()
        busy.send(b"GET /wait HTTP/1.1\r\nHost: gateway\r\n\r\n")
        await asyncio.wait_for(server.entered.wait(), TIMEOUT_SECONDS)

        stopping = asyncio.create_task(server.listener.stop())
        assert await idle.read_to_end() == b""
        server.release.set()

        assert (await busy.read_response()).body == b"done"
        await asyncio.wait_for(stopping, TIMEOUT_SECONDS)


@pytest.mark.parametrize(
    ("host", "printed"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("::1", "[::1]"),
        ("gw.example", "gw.example"),
    ],
)
def test_host_is_printed_as_it_is_written_in_a_url(host: str, printed: str) -> None:
    assert printable_host(host) == printed
