"""Measure latency during broadcasts to many clients, and browsers that offer compression."""

from __future__ import annotations

import http.client
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.request import urlopen

from benchmarks import servers
from benchmarks.comparing import Figures
from benchmarks.load import frames
from benchmarks.load.crowd import Crowd
from benchmarks.machine import cores, on_cores
from benchmarks.servers import Server
from tests.support.backend import Backend
from tests.support.tokens import token

CROWDED: Final = 12_000
OFFERING: Final = 3000
PROBE_SECONDS: Final = 0.002

Look = Callable[[], None]
"""Sends one request to the gateway and waits for the answer."""


def hold(say: Callable[[str], None]) -> dict[str, Figures]:
    """Measure how long a prober waits during broadcasts to 12 000 clients.

    The clients are stopped meanwhile, so that the prober has a core for itself; the kernel buffers what is sent.
    """
    found: dict[str, Figures] = {}
    with (
        servers.gateway(ping_interval_seconds=3600, message_rate=100_000, namespaces="/,/probe") as server,
        Crowd(server, cores()[1], at_least=2) as crowd,
    ):
        crowd.connect(CROWDED)
        acts: dict[str, Callable[[], object]] = {"nothing to do": partial(time.sleep, 2)}
        for size, count in ((64, 20), (16_384, 4)):
            kind = f"{count} broadcasts of {size:,} bytes".replace(",", " ")
            acts[kind] = partial(_broadcast_unread, server, crowd, count, size)
        for kind, act in acts.items():
            for asked, look in (("acknowledgement", _acknowledgement), ("/health/live", _health)):
                waited = server.waited_seconds()
                took = _probe(server, act, look)
                found[f"{kind}, {asked}"] = _quantiles(took, (server.waited_seconds() - waited) * 1e3)
    for kind, figures in found.items():
        say(f"{kind}: " + ", ".join(f"{row} {value:.2f} ms" for row, value in figures.items()))
    return found


def offer_compression(say: Callable[[str], None]) -> dict[str, Figures]:
    """Compare clients that offer permessage-deflate, as every browser does, with clients that do not."""
    rounds: dict[str, list[Figures]] = {"offered": [], "not offered": []}
    for _ in range(3):
        for kind, figures in rounds.items():
            with servers.gateway() as server, Crowd(server, cores()[1]) as crowd:
                empty, before = server.rss_bytes(), server.settled_cpu_seconds()
                crowd.connect(OFFERING, deflate=kind == "offered")
                connected = server.settled_cpu_seconds()
                full = server.rss_bytes()
                answer = crowd.broadcast(60)
                figures.append(
                    {
                        "memory kB": (full - empty) / OFFERING / 1024,
                        "connect µs": (connected - before) / OFFERING * 1e6,
                        "delivery µs": (server.settled_cpu_seconds() - connected)
                        / answer["deliveries"]
                        * 1e6,
                        "granted": crowd.compressed(),
                    }
                )
    found = {
        kind: {row: statistics.median(each[row] for each in figures) for row in figures[0]}
        for kind, figures in rounds.items()
    }
    for kind, medians in found.items():
        say(
            f"permessage-deflate {kind}: " + ", ".join(f"{row} {value:.2f}" for row, value in medians.items())
        )
    return found


def _broadcast_unread(server: Server, crowd: Crowd, count: int, size: int) -> None:
    """Broadcast while no client reads; return when everything was sent and read."""
    backend = Backend(server.url, *servers.KEY)
    before = _deliveries(server)
    for worker in crowd.workers:
        worker.signal(signal.SIGSTOP)
    for _ in range(count):
        answer = backend.broadcast("heavy", {"pad": "x" * size})
        if answer.status != http.client.OK:
            raise RuntimeError(answer.text)
    while _deliveries(server) < before + count * CROWDED:
        time.sleep(0.1)
    for worker in crowd.workers:
        worker.signal(signal.SIGCONT)
    for worker in crowd.workers:
        worker.ask("count")


def _deliveries(server: Server) -> float:
    """Return how many messages the server has delivered to connections."""
    with urlopen(f"{server.url}/metrics", timeout=10) as answer:
        for line in answer:
            if line.startswith(b'sio_gateway_deliveries_total{kind="message"} '):
                return float(line.split()[1])
    raise RuntimeError("the gateway does not count deliveries")


def _probe(server: Server, act: Callable[[], object], look: Callable[[Server], Look]) -> list[float]:
    """Return the seconds that each request took while ``act`` ran, one request after the other."""
    took: list[float] = []
    stopped = threading.Event()

    def repeat(once: Look) -> None:
        while not stopped.wait(PROBE_SECONDS):
            began_at = time.perf_counter()
            once()
            took.append(time.perf_counter() - began_at)

    with on_cores(set(cores()[1])):
        thread = threading.Thread(target=repeat, args=(look(server),), name="prober")
        thread.start()
        try:
            act()
        finally:
            stopped.set()
            thread.join()
    return took


def _health(server: Server) -> Look:
    """Return a function that sends one GET /health/live."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def once() -> None:
        connection.request("GET", "/health/live")
        connection.getresponse().read()

    return once


def _acknowledgement(server: Server) -> Look:
    """Return a function that waits for one acknowledgement, in a namespace of its own where nothing is broadcast."""
    client = socket.create_connection(("127.0.0.1", server.port), 10)
    client.sendall(frames.handshake(server.port, deflate=False))
    _read_until(client, b'"sid"')
    client.sendall(frames.text(f'40/probe,{{"token":"{token("prober", servers.JWT_SECRET)}"}}'))
    _read_until(client, b'"authenticated"')

    def once() -> None:
        client.sendall(frames.text('42/probe,7["probe"]'))
        _read_until(client, b"43/probe,7[")

    return once


def _read_until(client: socket.socket, mark: bytes) -> None:
    data = b""
    while mark not in data:
        received = client.recv(65536)
        if not received:
            raise ConnectionError("the gateway closed the prober's connection")
        data += received


def _quantiles(seconds: list[float], waited: float) -> Figures:
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        "median": ordered[last // 2] * 1e3,
        "99 %": ordered[round(0.99 * last)] * 1e3,
        "longest": ordered[last] * 1e3,
        "without its core": waited,
    }
