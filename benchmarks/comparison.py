"""Compare the gateway with Node's Socket.IO: the same work, one server at a time, in turn, in rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks import servers
from benchmarks.load.generator import LoadGenerator
from benchmarks.machine import cores
from benchmarks.servers import Server

CLIENTS: Final = 1000
BROADCASTS: Final = 300
EMITS: Final = 12_000
RATE_SECONDS: Final = 8
PUSH_RATE: Final = 1000
CONNECTIONS: Final = 9000


@dataclass(frozen=True)
class Row:
    """One line of the comparison."""

    title: str
    unit: str
    more_is_better: bool


ROWS: Final = {
    "deliveries": Row("Broadcast to 1 000 clients", "deliveries/s", True),
    "deliveries_per_cpu": Row("The same, for each second of CPU", "deliveries/s", True),
    "emits": Row("REST pushes to single users", "requests/s", True),
    "emits_per_cpu": Row("The same, for each second of CPU", "requests/s", True),
    "p50": Row("Latency at 1 000 pushes/s, median", "ms", False),
    "p99": Row("Latency at 1 000 pushes/s, 99 %", "ms", False),
    "memory": Row("Memory for each of 9 000 connections", "kB", False),
    "connect": Row("CPU to connect one client", "µs", False),
    "disconnect": Row("CPU when all 9 000 disconnect at once", "s", False),
}
Figures = dict[str, float]


@dataclass
class Comparison:
    """Medians, lowest and highest round, for each server and row; ``load`` has the figures of the load processes."""

    medians: dict[str, Figures]
    spread: dict[str, dict[str, tuple[float, float]]]
    load: dict[str, Figures]
    rounds: int


def compare(rounds: int, report: Callable[[str], None]) -> Comparison:
    """Run all scenarios against both servers. Takes some minutes."""
    makers = {"gateway": servers.gateway, "node": servers.node}
    results: dict[str, dict[str, list[float]]] = {name: {} for name in makers}
    shares: dict[str, dict[str, list[float]]] = {name: {} for name in [*makers, "bare sender"]}
    for number in range(1, rounds + 1):
        for scenario in (broadcast, emit, latency_at_rate, connect_and_disconnect):
            for name, make in makers.items():
                with make() as server:
                    figures = scenario(server)
                record(name, figures, results, shares)
                report(f"round {number}: {name}: {shown(figures)}")
        with servers.bare_sender() as server:
            for row, value in broadcast(server).items():
                shares["bare sender"].setdefault(row, []).append(value)
    return Comparison(
        medians=medians(results),
        spread=spread(results),
        load=medians(shares),
        rounds=rounds,
    )


def record(
    name: str,
    figures: Figures,
    results: dict[str, dict[str, list[float]]],
    shares: dict[str, dict[str, list[float]]],
) -> None:
    """Add the figures of one scenario of a server; those of the load processes go into ``shares``."""
    for row, value in figures.items():
        into = shares if row.startswith("load") else results
        into[name].setdefault(row, []).append(value)


def shown(figures: Figures) -> str:
    """Return the figures as one line."""
    return ", ".join(f"{row} {value:,.4g}" for row, value in figures.items())


def broadcast(server: Server) -> Figures:
    """Broadcast as fast as one core of the server can deliver."""
    with LoadGenerator(server, cores()[1]) as load:
        load.connect(CLIENTS)
        before = server.cpu_seconds()
        answer = load.broadcast(BROADCASTS)
        used = server.cpu_seconds() - before
    _check_complete(answer["missing"], server)
    return {
        "deliveries": answer["deliveries"] / answer["seconds"],
        "deliveries_per_cpu": answer["deliveries"] / used,
        "load_broadcast": answer["cpu_share"],
    }


def emit(server: Server) -> Figures:
    """Push single messages from 32 connections of backends; each waits for the answer before its next request."""
    with LoadGenerator(server, cores()[1]) as load:
        load.connect(CLIENTS)
        before = server.cpu_seconds()
        answer = load.emit(EMITS, connections=32)
        used = server.cpu_seconds() - before
    _check_complete(answer["missing"], server)
    return {
        "emits": answer["requests_per_second"],
        "emits_per_cpu": EMITS / used,
        "load_emit": answer["cpu_share"],
    }


def latency_at_rate(server: Server) -> Figures:
    """Measure the time from request to delivered message, at a rate that loads neither server."""
    with LoadGenerator(server, cores()[1]) as load:
        load.connect(CLIENTS)
        answer = load.emit(PUSH_RATE * RATE_SECONDS, connections=16, rate=PUSH_RATE)
    _check_complete(answer["missing"], server)
    latency = answer["latency"]
    return {"p50": latency["p50"] * 1e3, "p99": latency["p99"] * 1e3, "load_paced": answer["cpu_share"]}


def connect_and_disconnect(server: Server) -> Figures:
    """Measure the cost of 9 000 connections: CPU time to connect, memory, CPU time when all disconnect at once."""
    empty, before = server.rss_bytes(), server.idle_cpu_seconds()
    with LoadGenerator(server, cores()[1]) as load:
        load.connect(CONNECTIONS)
        time.sleep(2)
        connected, full = server.cpu_seconds(), server.rss_bytes()
    return {
        "connect": (connected - before) / CONNECTIONS * 1e6,
        "memory": (full - empty) / CONNECTIONS / 1024,
        "disconnect": server.idle_cpu_seconds() - connected,
    }


def _check_complete(missing: int, server: Server) -> None:
    if missing:
        raise RuntimeError(f"{server.name}: {missing} messages were not delivered")


def medians(results: dict[str, dict[str, list[float]]]) -> dict[str, Figures]:
    """Return the median of all rounds for each server and row."""
    return {
        name: {row: statistics.median(values) for row, values in rows.items()}
        for name, rows in results.items()
    }


def spread(results: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the lowest and the highest round for each server and row."""
    return {
        name: {row: (min(values), max(values)) for row, values in rows.items()}
        for name, rows in results.items()
    }
