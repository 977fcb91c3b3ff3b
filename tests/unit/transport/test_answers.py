"""Answers that a client reads slowly or not at all, over real sockets, on both event loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import uvloop
from aiohttp import web

from gateway.http_server import HttpServer
from gateway.metrics import MetricFactory, RequestMetrics
from gateway.timers import SystemClock
from gateway.transport.connection_totals import READ_BYTES, ByteTotal, ConnectionTotals
from gateway.transport.http import HttpLimits
from gateway.transport.http_response import LargeBody
from gateway.transport.tcp_connections import OpenConnections
from ingest_api.access_log import RejectedRequestLog
from tests.support.metrics import counted
from tests.support.waiter import TIMEOUT_SECONDS

TIMEOUT = 0.3
LARGE = 4 * 1024 * 1024
"""More than the sockets of both sides take."""
LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]
GET = "GET {} HTTP/1.1\r\nHost: gateway\r\n\r\n"


class Server:
    """A server of large answers, which counts the requests that it handled."""

    def __init__(self, *, unread_answers_bytes: int, timeout_seconds: float) -> None:
        self.metrics = MetricFactory()
        self.totals = ConnectionTotals(self.metrics, unread_answers_bytes=unread_answers_bytes)
        self.content = bytes(range(256)) * (LARGE // 256)
        self.handled = 0
        app = web.Application()
        app.router.add_get("/shared", self._shared)
        app.router.add_get("/own", self._own)
        app.router.add_get("/small", self._small)
        self.listener = HttpServer(
            app,
            direct={},
            reject=RejectedRequestLog(RequestMetrics(self.metrics)),
            limits=HttpLimits(head_timeout_seconds=5.0, answer_timeout_seconds=timeout_seconds),
            totals=self.totals,
            connections=OpenConnections(SystemClock(), listener="public", limit=10_000),
            finish_seconds=1.0,
        )
        self.port = 0

    @property
    def aborted(self) -> dict[str, float]:
        return counted(self.metrics, "http_connections_aborted_total")

    async def _shared(self, _: web.Request) -> web.Response:
        self.handled += 1
        return web.Response(body=LargeBody(self.content, is_shared=True))

    async def _own(self, _: web.Request) -> web.Response:
        self.handled += 1
        return web.Response(body=LargeBody(bytes(self.content), is_shared=False))

    async def _small(self, _: web.Request) -> web.Response:
        self.handled += 1
        return web.Response(text="small")


@asynccontextmanager
async def serving(
    *, unread_answers_bytes: int = 100 * LARGE, timeout_seconds: float = TIMEOUT
) -> AsyncIterator[Server]:
    server = Server(unread_answers_bytes=unread_answers_bytes, timeout_seconds=timeout_seconds)
    server.port = await server.listener.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.listener.stop()
    assert (len(server.totals.answers), server.totals.answers.bytes, server.totals.requests.bytes) == (
        0,
        0,
        0,
    )


@contextmanager
def connected(server: Server, *paths: str) -> Iterator[socket.socket]:
    """A client with a small receive buffer that has sent its requests."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.setblocking(False)
        client.send("".join(GET.format(path) for path in paths).encode())
        yield client


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():  # noqa: ASYNC110  # the server counts and sets no event
            await asyncio.sleep(0.01)


async def read(client: socket.socket, size: int, *, pause_seconds: float = 0.0) -> bytes:
    """Read as many bytes, or what arrives before the end."""
    loop, received = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while len(received) < size:
            data = await loop.sock_recv(client, 64 * 1024)
            if not data:
                break
            received += data
            await asyncio.sleep(pause_seconds)
    return bytes(received)


def run(new_loop: NewLoop, test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(test)


@LOOPS
@pytest.mark.parametrize("path", ["/shared", "/own"])
def test_connection_whose_answer_is_not_read_in_time_is_reset(new_loop: NewLoop, path: str) -> None:
    async def test() -> None:
        async with serving() as server:
            with connected(server, path) as client:
                await until(lambda: len(server.totals.answers) == 1)
                assert (server.totals.answers.bytes > 0) is (path == "/own")
                await until(lambda: server.aborted)
                assert server.aborted == {"answer_timeout": 1}
                with pytest.raises(ConnectionResetError):
                    await read(client, 2 * LARGE)

    run(new_loop, test())


@LOOPS
@pytest.mark.parametrize("path", ["/shared", "/own"])
def test_slow_client_that_reads_on_gets_the_whole_answer(new_loop: NewLoop, path: str) -> None:
    async def test() -> None:
        async with serving(timeout_seconds=1.0) as server:
            with connected(server, path, "/small") as client:
                received = await read(client, LARGE + 1, pause_seconds=0.002)
                while not received.endswith(b"small"):
                    received += await read(client, 1)
                head, _, body = received.partition(b"\r\n\r\n")
                assert b"Content-Length: %d" % LARGE in head
                assert body.startswith(server.content + b"HTTP/1.1 200 OK")
                assert server.aborted == {}

    run(new_loop, test())


@LOOPS
def test_next_request_is_handled_once_the_answer_before_it_is_read(new_loop: NewLoop) -> None:
    async def test() -> None:
        async with serving(timeout_seconds=TIMEOUT_SECONDS) as server:
            with connected(server, "/own", *["/small"] * 20) as client:
                await until(lambda: len(server.totals.answers) == 1)
                await asyncio.sleep(0.1)
                assert server.handled == 1
                await read(client, LARGE)
                await until(lambda: server.handled == 21)

    run(new_loop, test())


@LOOPS
def test_largest_unread_answers_are_given_up_when_the_total_is_reached(new_loop: NewLoop) -> None:
    async def test() -> None:
        async with serving(unread_answers_bytes=5 * LARGE // 2, timeout_seconds=TIMEOUT_SECONDS) as server:
            with connected(server, "/own"), connected(server, "/own"), connected(server, "/own"):
                await until(lambda: server.handled == 3 and server.aborted)
                assert server.aborted == {"answers_total": 1}
                assert server.totals.answers.bytes <= 5 * LARGE // 2

    run(new_loop, test())


@LOOPS
def test_shared_bodies_do_not_count_in_the_total(new_loop: NewLoop) -> None:
    async def test() -> None:
        async with serving(unread_answers_bytes=READ_BYTES, timeout_seconds=TIMEOUT_SECONDS) as server:
            with connected(server, "/shared"), connected(server, "/shared"), connected(server, "/shared"):
                await until(lambda: len(server.totals.answers) == 3)
                assert (server.totals.answers.bytes, server.aborted) == (0, {})

    run(new_loop, test())


class Holder:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def give_up(self, reason: str) -> None:
        self.reasons.append(reason)


def test_total_gives_up_the_largest_and_keeps_the_others() -> None:
    total, small, large = ByteTotal(100, "reason"), Holder(), Holder()
    total.hold(small, 10)
    total.hold(large, 80)
    total.hold(small, 15)
    assert (total.bytes, large.reasons) == (95, [])

    total.hold(small, 21)

    assert (total.bytes, small.reasons, large.reasons) == (21, [], ["reason"])


def test_space_is_made_by_giving_up_the_largest() -> None:
    total, first, second = ByteTotal(100, "reason"), Holder(), Holder()
    assert total.make_space(200)
    total.hold(first, 50)
    total.hold(second, 40)
    assert total.make_space(10)

    assert not total.make_space(20)

    assert (total.bytes, first.reasons, second.reasons) == (40, ["reason"], [])
    assert not total.make_space(20)
    total.release(first)
    assert total.make_space(20)
