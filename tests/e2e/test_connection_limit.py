"""Too many TCP connections: unused and idle ones make room, probes are answered, and files that run out end nothing."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.health import readiness
from tests.support.waiter import TIMEOUT_SECONDS, wait_until

LIMIT = 100
SPARE = 64
WAIT_SECONDS = 8.0
"""Longer than a connection keeps its place that waits for its client, shorter than REQUEST_TIMEOUT_SECONDS."""
POLL = "/socket.io/?EIO=4&transport=polling"


@contextmanager
def running(**settings: Any) -> Iterator[GatewayProcess]:
    process = GatewayProcess(**settings)
    yield process
    assert process.stop() == 0
    assert [line for line in process.failures() if line.get("event") != "gateway.files_exhausted"] == []


def connect(gateway: GatewayProcess, stack: ExitStack) -> socket.socket:
    return stack.enter_context(
        socket.create_connection(("127.0.0.1", gateway.ports[0]), timeout=TIMEOUT_SECONDS)
    )


def request(
    connection: socket.socket, path: str, method: str = "GET", body: bytes = b""
) -> tuple[int, str, bytes]:
    """Send a request; return status, head and body of the answer."""
    connection.sendall(
        f"{method} {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
    return read(connection)


def read(connection: socket.socket) -> tuple[int, str, bytes]:
    with connection.makefile("rb") as stream:
        lines = []
        while line := stream.readline().decode().strip():
            lines.append(line)
        assert lines, "the connection was closed without an answer"
        length = next(int(line.split()[1]) for line in lines if line.lower().startswith("content-length:"))
        return int(lines[0].split()[1]), "\n".join(lines), stream.read(length)


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def poll(gateway: GatewayProcess, connection: socket.socket) -> None:
    """Open a session on the connection and leave a poll waiting there: the connection is neither unused nor idle."""
    status, _, body = request(connection, POLL)
    assert status == 200
    sid = json.loads(body[1:])["sid"]
    connection.sendall(f"GET {POLL}&sid={sid} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())


def metric(gateway: GatewayProcess, stack: ExitStack, series: str) -> float:
    _, _, body = request(connect(gateway, stack), "/metrics")
    lines = body.decode().splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"sio_gateway_{series} "))


def test_oldest_unused_connection_makes_room() -> None:
    with running(max_tcp_connections=LIMIT) as gateway, ExitStack() as stack:
        used = connect(gateway, stack)
        assert request(used, "/healthz")[0] == 200
        unused = [connect(gateway, stack) for _ in range(LIMIT - 1)]

        late = connect(gateway, stack)

        assert request(late, POLL)[0] == 200
        assert is_closed(unused[0])
        assert request(unused[-1], POLL)[0] == 200
        assert request(used, "/healthz")[0] == 200
        series = 'tcp_connections_replaced_total{listener="public",reason="unused"}'
        assert metric(gateway, stack, series) >= 1
        assert (
            gateway.log.wait(lambda line: line.get("event") == "connections.limit_reached")["limit"] == LIMIT
        )


def test_connections_that_were_idle_make_room() -> None:
    with running(max_tcp_connections=LIMIT) as gateway, ExitStack() as stack:
        idle = [connect(gateway, stack) for _ in range(LIMIT)]
        for connection in idle:
            assert request(connection, "/healthz")[0] == 200

        attempts = 0
        while request_or_none(gateway, POLL) != 200:  # Connections keep their places for the first second.
            attempts += 1
            assert attempts < 10_000

        assert is_closed(idle[0])


def request_or_none(gateway: GatewayProcess, path: str) -> int | None:
    with ExitStack() as stack:
        return request(connect(gateway, stack), path)[0]


def test_connection_without_a_place_is_answered_503_and_probes_are_answered() -> None:
    with running(max_tcp_connections=LIMIT) as gateway, ExitStack() as stack:
        for _ in range(LIMIT):
            poll(gateway, connect(gateway, stack))

        for path, method, body in ((POLL, "GET", b""), ("/broadcast", "POST", b"{}")):
            late = connect(gateway, stack)
            status, head, content = request(late, path, method, body)
            assert (status, json.loads(content)["code"]) == (503, "overloaded")
            assert "Retry-After: 5" in head
            assert is_closed(late)
        for path in ("/healthz", "/health/live", "/health/ready", "/metrics"):
            assert request_or_none(gateway, path) == 200
        assert metric(gateway, stack, 'tcp_connections_rejected_total{listener="public"}') >= 2


def test_connections_beyond_the_spare_ones_are_answered_503_at_once() -> None:
    with running(max_tcp_connections=LIMIT) as gateway, ExitStack() as stack:
        for _ in range(LIMIT):
            poll(gateway, connect(gateway, stack))
        spare = [connect(gateway, stack) for _ in range(SPARE)]
        for connection in spare:
            connection.sendall(f"GET {POLL} HTTP/1.1\r\n".encode())

        late = connect(gateway, stack)

        assert request(late, "/healthz")[0] in {200, 503}


def test_backends_keep_their_places_beside_clients() -> None:
    with running(max_tcp_connections=LIMIT, ingest_port=0) as gateway, ExitStack() as stack:
        for _ in range(LIMIT):
            poll(gateway, connect(gateway, stack))
        assert gateway.push_user("someone", "event")["online"] is False
        assert readiness(gateway)[0] == 200


def test_limit_follows_the_limit_of_open_files() -> None:
    with running(under=("sh", "-c", 'ulimit -n 200 && exec "$@"', "sh")) as gateway, ExitStack() as stack:
        assert metric(gateway, stack, 'tcp_connections_limit{listener="public"}') == 150
        connections = [connect(gateway, stack) for _ in range(400)]

        assert request(connections[-1], "/healthz")[0] == 200
        assert gateway.push_user("someone", "event")["online"] is False


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_files_that_run_out_are_logged_and_survived(
    loop: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp(loop)
    if loop == "asyncio":
        (folder / "uvloop.py").write_text(
            "raise ImportError('not installed, for a test')\n", encoding="utf-8"
        )
    with running(under=("env", f"PYTHONPATH={folder}:.")) as gateway, ExitStack() as stack:
        assert gateway.push_user("someone", "event")["online"] is False
        # Fewer files than the gateway has: those that are open stay open.
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (5, 20_000))
        waiting = [connect(gateway, stack) for _ in range(20)]
        gateway.log.wait(lambda line: line.get("event") == "gateway.files_exhausted", timeout=TIMEOUT_SECONDS)
        for connection in waiting:
            connection.close()

        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (20_000, 20_000))

        assert gateway.push_user("someone", "event")["online"] is False
        assert (
            len([line for line in gateway.log.entries if line.get("event") == "gateway.files_exhausted"]) == 1
        )


def wait_until_probes_are_answered(gateway: GatewayProcess) -> None:
    answered = time.monotonic() + WAIT_SECONDS
    while (status := request_or_none(gateway, "/health/live")) != 200:
        assert time.monotonic() < answered, status


UNFINISHED = {
    "a head": b"G",
    "a body": b"POST /socket.io/ HTTP/1.1\r\nHost: gateway\r\nContent-Length: 10\r\n\r\n1",
    "the client to close": b"GET /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("rest", UNFINISHED.values(), ids=UNFINISHED.keys())
def test_connections_that_wait_for_their_client_after_a_request_keep_no_probe_out(rest: bytes) -> None:
    with running(max_tcp_connections=LIMIT) as gateway, ExitStack() as stack:
        for _ in range(LIMIT + SPARE):
            connection = connect(gateway, stack)
            with suppress(OSError):
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
                read(connection)
                connection.sendall(rest)

        wait_until_probes_are_answered(gateway)
        wait_until(lambda: request_or_none(gateway, POLL) == 200, "a new client is served")


def test_pushes_whose_bodies_do_not_arrive_keep_no_probe_out() -> None:
    with running(max_tcp_connections=LIMIT) as gateway, ExitStack() as stack:
        headers = gateway.backend.sign("POST", "/broadcast", b"") | {"Content-Type": "application/json"}
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        for _ in range(LIMIT + SPARE):
            head = f"POST /broadcast HTTP/1.1\r\nHost: gateway\r\n{lines}Content-Length: 10\r\n\r\n{{"
            connect(gateway, stack).sendall(head.encode())

        wait_until_probes_are_answered(gateway)


def test_websocket_counts_as_one_connection_and_only_while_it_is_open() -> None:
    with running() as gateway:
        series = 'tcp_connections{listener="public"}'
        for _ in range(3):
            with ExitStack() as sockets:
                for _ in range(10):
                    open_websocket(connect(gateway, sockets))
                wait_until(lambda: metric_once(gateway, series) == 11, "ten WebSockets and the scrape count")
            wait_until(lambda: metric_once(gateway, series) == 1, "the scrape alone counts")


def open_websocket(connection: socket.socket) -> None:
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    connection.sendall(
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key.encode() + b"\r\n\r\n"
    )
    assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")


def metric_once(gateway: GatewayProcess, series: str) -> float:
    """Scrape on a connection of its own, which is closed afterwards."""
    with ExitStack() as stack:
        return metric(gateway, stack, series)
