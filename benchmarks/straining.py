"""What must not cost: a client that stops reading, a broadcast to very many, a browser that offers compression."""

from __future__ import annotations

import http.client
import math
import signal
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.request import urlopen

from benchmarks import servers
from benchmarks.comparing import CLIENTS, Figures
from benchmarks.load.crowd import Answer, Crowd, Worker
from benchmarks.machine import cores, on_cores
from benchmarks.servers import Server
from tests.harness.backend import Backend

PING_SECONDS: Final = 2.0
HEAVY_BYTES: Final = 4096
HEAVY_PACE: Final = 30
HEAVY_COUNT: Final = 240
CROWDED: Final = 12_000
OFFERING: Final = 3000
PROBE_SECONDS: Final = 0.002


def stop_one(say: Callable[[str], None]) -> dict[str, Figures]:
    """One of 1 000 clients is stopped (SIGSTOP) during a heavy broadcast; the others' latency, the gateway's memory."""
    found: dict[str, Figures] = {}
    for kind in ("nobody stopped", "one stopped"):
        with (
            servers.gateway(
                ping_interval=PING_SECONDS, ping_timeout=PING_SECONDS, history_length=10
            ) as server,
            Crowd(server, cores()[1]) as crowd,
        ):
            crowd.connect(CLIENTS - 1)
            victim = Worker(cores()[1][-1])
            victim.first, victim.clients = CLIENTS, 1
            crowd.order_connect(victim)
            victim.hear()
            crowd.broadcast(HEAVY_PACE, size=HEAVY_BYTES, rate=HEAVY_PACE)  # buffers have their size
            watch = _Watch(server, f"u{CLIENTS}")
            if kind == "one stopped":
                victim.signal(signal.SIGSTOP)
            with watch:
                answer = crowd.broadcast(HEAVY_COUNT, size=HEAVY_BYTES, rate=HEAVY_PACE)
            victim.signal(signal.SIGCONT)
            victim.stop()
        if answer["missing"]:
            raise RuntimeError(f"{kind}: {answer['missing']} messages did not arrive at the others")
        found[kind] = _latency(answer) | watch.figures()
        say(f"{kind}: " + ", ".join(f"{row} {value:,.4g}" for row, value in found[kind].items()))
    return found


def hold(say: Callable[[str], None]) -> dict[str, Figures]:
    """How long /health/live waits for its answer while everybody of 12 000 is sent to: how long the loop is held.

    The load is stopped meanwhile, so that the prober has its core for itself; the kernel keeps what is sent.
    """
    found: dict[str, Figures] = {}
    with servers.gateway(ping_interval=3600) as server, Crowd(server, cores()[1], at_least=2) as crowd:
        crowd.connect(CROWDED)
        waited = server.waited_seconds()
        took = _probe(server, partial(time.sleep, 2))
        found["nothing to do"] = _quantiles(took, (server.waited_seconds() - waited) * 1e3)
        for size, count in ((64, 20), (16_384, 4)):
            waited = server.waited_seconds()
            took = _probe(server, partial(_broadcast_unread, server, crowd, count, size))
            waited = (server.waited_seconds() - waited) * 1e3
            found[f"{count} broadcasts of {size:,} bytes".replace(",", " ")] = _quantiles(took, waited)
    for kind, figures in found.items():
        say(f"{kind}: " + ", ".join(f"{row} {value:.2f} ms" for row, value in figures.items()))
    return found


def offer_compression(say: Callable[[str], None]) -> dict[str, Figures]:
    """Clients that offer permessage-deflate, as every browser does, beside clients that do not."""
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


class _Watch:
    """Looks at memory and at the presence of one user until it is told to stop."""

    def __init__(self, server: Server, user: str) -> None:
        self._server, self._user = server, user
        self._backend = Backend(server.url, *servers.KEY)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch")
        self._began_at, self._before = time.monotonic(), server.rss_bytes()
        self._most = self._before
        self._gone_after = float("nan")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def figures(self) -> Figures:
        return {"memory MB": (self._most - self._before) / 1e6, "gone after s": self._gone_after}

    def _look(self) -> None:
        while not self._stopped.wait(0.1):
            self._most = max(self._most, self._server.rss_bytes())
            if math.isnan(self._gone_after) and not self._backend.presence(self._user)["online"]:
                self._gone_after = time.monotonic() - self._began_at


def _broadcast_unread(server: Server, crowd: Crowd, count: int, size: int) -> None:
    """Broadcast while nobody reads; returns when everything was sent and read."""
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
    """How many messages it has handed to connections."""
    with urlopen(f"{server.url}/metrics", timeout=10) as answer:
        for line in answer:
            if line.startswith(b"push_gateway_deliveries_total "):
                return float(line.split()[1])
    raise RuntimeError("the gateway does not count deliveries")


def _probe(server: Server, act: Callable[[], object]) -> list[float]:
    """Seconds that each look at /health/live took while ``act`` ran, one after the other."""
    took: list[float] = []
    stopped = threading.Event()

    def look() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        while not stopped.wait(PROBE_SECONDS):
            began_at = time.perf_counter()
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            took.append(time.perf_counter() - began_at)
        connection.close()

    with on_cores(set(cores()[1])):
        thread = threading.Thread(target=look, name="prober")
        thread.start()
        try:
            act()
        finally:
            stopped.set()
            thread.join()
    return took


def _quantiles(seconds: list[float], waited: float) -> Figures:
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        "median": ordered[last // 2] * 1e3,
        "99 %": ordered[round(0.99 * last)] * 1e3,
        "longest": ordered[last] * 1e3,
        "without its core": waited,
    }


def _latency(answer: Answer) -> Figures:
    return {f"{name} ms": answer["latency"][name] * 1e3 for name in ("p50", "p99", "max")}
