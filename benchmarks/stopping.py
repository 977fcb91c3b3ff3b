"""Measure a client that stops reading: it may cost a bounded memory, and other clients nothing."""

from __future__ import annotations

import math
import signal
import statistics
import threading
import time
from collections.abc import Callable
from typing import Final

from benchmarks import servers
from benchmarks.comparing import CLIENTS, Figures
from benchmarks.load.crowd import Answer, Crowd, Worker
from benchmarks.machine import cores
from benchmarks.servers import Server
from tests.support.backend import Backend

ROUNDS: Final = 3
PING_SECONDS: Final = 2.0
HEAVY_BYTES: Final = 4096
HEAVY_PACE: Final = 30
HEAVY_COUNT: Final = 180


def stop_one(say: Callable[[str], None]) -> dict[str, Figures]:
    """Stop one of 1 000 clients (SIGSTOP) during a broadcast; measure the others' latency and the gateway's memory."""
    rounds: dict[str, list[Figures]] = {"none stopped": [], "one stopped": []}
    for _ in range(ROUNDS):
        for kind, figures in rounds.items():
            figures.append(_hear_out(stop=kind == "one stopped"))
    found = {
        kind: {row: statistics.median(each[row] for each in figures) for row in figures[0]}
        for kind, figures in rounds.items()
    }
    for kind, medians in found.items():
        say(f"{kind}: " + ", ".join(f"{row} {value:,.4g}" for row, value in medians.items()))
    return found


def _hear_out(*, stop: bool) -> Figures:
    with (
        servers.gateway(
            ping_interval_seconds=PING_SECONDS, ping_timeout_seconds=PING_SECONDS, history_length=10
        ) as server,
        Crowd(server, cores()[1]) as crowd,
    ):
        crowd.connect(CLIENTS - 1)
        victim = Worker(cores()[1][-1])
        victim.first, victim.clients = CLIENTS, 1
        crowd.order_connect(victim)
        victim.hear()
        crowd.broadcast(HEAVY_PACE, size=HEAVY_BYTES, rate=HEAVY_PACE)  # warm-up: buffers grow to their size
        watch = _Watch(server, f"u{CLIENTS}")
        if stop:
            victim.signal(signal.SIGSTOP)
        with watch:
            answer = crowd.broadcast(HEAVY_COUNT, size=HEAVY_BYTES, rate=HEAVY_PACE)
        victim.signal(signal.SIGCONT)
        victim.stop()
    if answer["missing"]:
        raise RuntimeError(f"{answer['missing']} messages were not delivered to the others")
    return _latency(answer) | watch.figures()


class _Watch:
    """Reads the memory of the server and the presence of one user until the context ends."""

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


def _latency(answer: Answer) -> Figures:
    return {f"{name} ms": answer["latency"][name] * 1e3 for name in ("p50", "p99", "max")}
