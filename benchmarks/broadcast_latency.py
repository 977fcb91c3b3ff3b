"""Measure the latency of acknowledgements and health requests during broadcasts to 12 000 clients."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.request import urlopen

from benchmarks import servers
from benchmarks.comparison import Figures
from benchmarks.load import frames
from benchmarks.load.generator import LoadGenerator
from benchmarks.machine import cores, on_cores
from benchmarks.servers import Server
from tests.support.backend import Backend
from tests.support.tokens import token

CLIENTS: Final = 12_000
PROBE_SECONDS: Final = 0.002

Probe = Callable[[], None]
"""Sends one request to the gateway and waits for the answer."""


def measure(report: Callable[[str], None]) -> dict[str, Figures]:
    """Measure how long a probe waits for its answer during broadcasts to 12 000 clients.

    The clients are stopped meanwhile, so that the probe has a core for itself; the kernel buffers the messages.
    """
    found: dict[str, Figures] = {}
    with (
        servers.gateway(ping_interval_seconds=3600, message_rate=100_000, namespaces="/,/probe") as server,
        LoadGenerator(server, cores()[1], at_least=2) as load,
    ):
        load.connect(CLIENTS)
        acts: dict[str, Callable[[], object]] = {"nothing to do": partial(time.sleep, 2)}
        for size, count in ((64, 20), (16_384, 4)):
            kind = f"{count} broadcasts of {size:,} bytes".replace(",", " ")
            acts[kind] = partial(_broadcast_unread, server, load, count, size)
        for kind, act in acts.items():
            for name, open_probe in (("acknowledgement", _acknowledgement), ("/health/live", _health)):
                waited = server.waited_seconds()
                took = _probe(server, act, open_probe)
                found[f"{kind}, {name}"] = _quantiles(took, (server.waited_seconds() - waited) * 1e3)
    for kind, figures in found.items():
        report(f"{kind}: " + ", ".join(f"{row} {value:.2f} ms" for row, value in figures.items()))
    return found


def _broadcast_unread(server: Server, load: LoadGenerator, count: int, size: int) -> None:
    """Broadcast while the clients are stopped; return once they read everything."""
    backend = Backend(server.url, *servers.KEY)
    before = _deliveries(server)
    for worker in load.workers:
        worker.signal(signal.SIGSTOP)
    for _ in range(count):
        answer = backend.broadcast("heavy", {"pad": "x" * size})
        if answer.status != http.client.OK:
            raise RuntimeError(answer.text)
    while _deliveries(server) < before + count * CLIENTS:
        time.sleep(0.1)
    for worker in load.workers:
        worker.signal(signal.SIGCONT)
    for worker in load.workers:
        worker.execute("count")


def _deliveries(server: Server) -> float:
    """Return how many messages the server has delivered to connections."""
    with urlopen(f"{server.url}/metrics", timeout=10) as answer:
        for line in answer:
            if line.startswith(b'sio_gateway_deliveries_total{kind="message"} '):
                return float(line.split()[1])
    raise RuntimeError("the gateway does not count deliveries")


def _probe(server: Server, act: Callable[[], object], open_probe: Callable[[Server], Probe]) -> list[float]:
    """Send one request after the other while ``act`` runs; return the seconds that each took."""
    took: list[float] = []
    stopped = threading.Event()

    def repeat(once: Probe) -> None:
        while not stopped.wait(PROBE_SECONDS):
            began_at = time.perf_counter()
            once()
            took.append(time.perf_counter() - began_at)

    with on_cores(set(cores()[1])):
        thread = threading.Thread(target=repeat, args=(open_probe(server),), name="probe")
        thread.start()
        try:
            act()
        finally:
            stopped.set()
            thread.join()
    return took


def _health(server: Server) -> Probe:
    """Return a function that sends one GET /health/live."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def once() -> None:
        connection.request("GET", "/health/live")
        connection.getresponse().read()

    return once


def _acknowledgement(server: Server) -> Probe:
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
            raise ConnectionError("the gateway closed the probe's connection")
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
