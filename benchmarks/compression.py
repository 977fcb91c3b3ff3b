"""Compare clients that offer permessage-deflate, as every browser does, with clients that do not."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Final

from benchmarks import servers
from benchmarks.comparison import Figures
from benchmarks.load.generator import LoadGenerator
from benchmarks.machine import cores

CLIENTS: Final = 3000
ROUNDS: Final = 3


def measure(report: Callable[[str], None]) -> dict[str, Figures]:
    """Measure CPU and memory of the gateway for each client and delivery; ``granted`` counts accepted offers."""
    rounds: dict[str, list[Figures]] = {"offered": [], "not offered": []}
    for _ in range(ROUNDS):
        for kind, figures in rounds.items():
            with servers.gateway() as server, LoadGenerator(server, cores()[1]) as load:
                empty, before = server.rss_bytes(), server.idle_cpu_seconds()
                load.connect(CLIENTS, deflate=kind == "offered")
                connected = server.idle_cpu_seconds()
                full = server.rss_bytes()
                answer = load.broadcast(60)
                figures.append(
                    {
                        "memory kB": (full - empty) / CLIENTS / 1024,
                        "connect µs": (connected - before) / CLIENTS * 1e6,
                        "delivery µs": (server.idle_cpu_seconds() - connected) / answer["deliveries"] * 1e6,
                        "granted": load.compressed(),
                    }
                )
    found = {
        kind: {row: statistics.median(each[row] for each in figures) for row in figures[0]}
        for kind, figures in rounds.items()
    }
    for kind, medians in found.items():
        report(
            f"permessage-deflate {kind}: " + ", ".join(f"{row} {value:.2f}" for row, value in medians.items())
        )
    return found
