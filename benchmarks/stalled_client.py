"""Measure a client that stops reading: its memory must be bounded, and other clients must not get slower."""

from __future__ import annotations

import math
import signal
import statistics
import threading
import time
from collections.abc import Callable
from typing import Final

from benchmarks import servers
from benchmarks.comparison import CLIENTS, Figures
from benchmarks.load.generator import Answer, LoadGenerator, Worker
from benchmarks.machine import cores
from benchmarks.servers import Server
from tests.support.backend import Backend

ROUNDS: Final = 3
PING_SECONDS: Final = 2.0
HEAVY_BYTES: Final = 4096
HEAVY_RATE: Final = 30
HEAVY_COUNT: Final = 180


def measure(report: Callable[[str], None]) -> dict[str, Figures]:
    """Stop one of 1 000 clients (SIGSTOP) during a broadcast; measure the others' latency and the gateway's memory."""
    rounds: dict[str, list[Figures]] = {"none stopped": [], "one stopped": []}
    for _ in range(ROUNDS):
        for kind, figures in rounds.items():
            figures.append(_measure_broadcasts(stop=kind == "one stopped"))
    found = {
        kind: {row: statistics.median(each[row] for each in figures) for row in figures[0]}
        for kind, figures in rounds.items()
    }
    for kind, medians in found.items():
        report(f"{kind}: " + ", ".join(f"{row} {value:,.4g}" for row, value in medians.items()))
    return found


def _measure_broadcasts(*, stop: bool) -> Figures:
    with (
        servers.gateway(
            ping_interval_seconds=PING_SECONDS, ping_timeout_seconds=PING_SECONDS, history_length=10
        ) as server,
        LoadGenerator(server, cores()[1]) as load,
    ):
        load.connect(CLIENTS - 1)
        stopped = Worker(cores()[1][-1])
        stopped.first, stopped.clients = CLIENTS, 1
        load.start_connect(stopped)
        stopped.read_result()
        load.broadcast(HEAVY_RATE, size=HEAVY_BYTES, rate=HEAVY_RATE)  # warm-up: buffers grow to their size
        monitor = _Monitor(server, f"u{CLIENTS}")
        if stop:
            stopped.signal(signal.SIGSTOP)
        with monitor:
            answer = load.broadcast(HEAVY_COUNT, size=HEAVY_BYTES, rate=HEAVY_RATE)
        stopped.signal(signal.SIGCONT)
        stopped.stop()
    if answer["missing"]:
        raise RuntimeError(f"{answer['missing']} messages were not delivered to the others")
    return _latency(answer) | monitor.figures()


class _Monitor:
    """Reads the memory of the server and the presence of one user until the context ends."""

    def __init__(self, server: Server, user: str) -> None:
        self._server, self._user = server, user
        self._backend = Backend(server.url, *servers.KEY)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor")
        self._began_at, self._before = time.monotonic(), server.rss_bytes()
        self._most = self._before
        self._gone_after = float("nan")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def figures(self) -> Figures:
        return {"memory MB": (self._most - self._before) / 1e6, "gone after s": self._gone_after}

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            self._most = max(self._most, self._server.rss_bytes())
            if math.isnan(self._gone_after) and not self._backend.presence(self._user)["online"]:
                self._gone_after = time.monotonic() - self._began_at


def _latency(answer: Answer) -> Figures:
    return {f"{name} ms": answer["latency"][name] * 1e3 for name in ("p50", "p99", "max")}
