"""What a comparison with Node's Socket.IO consists of, and its scenarios with one process and state in memory."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Final

from benchmarks.load.generator import Answer, LoadGenerator
from benchmarks.machine import cores
from benchmarks.servers import Server

CLIENTS: Final = 1000
BROADCASTS: Final = 300
BROADCASTS_ALONE: Final = 200
EMITS: Final = 12_000
EMIT_CONNECTIONS: Final = 32
RATE_SECONDS: Final = 8
PUSH_RATE: Final = 1000
PACED_CONNECTIONS: Final = 16
CONNECTIONS: Final = 9000


@dataclass(frozen=True)
class Floor:
    """The ratio that a row must reach: to Socket.IO's figure, or to the gateway's own figure of the row ``against``."""

    ratio: float
    against: str | None = None


@dataclass(frozen=True)
class Row:
    """One line of the comparison; ``cpu`` names the figure with the CPU time of each operation, in µs."""

    title: str
    unit: str
    more_is_better: bool
    floor: Floor | None = None
    cpu: str | None = None


Figures = dict[str, float]


@dataclass
class Comparison:
    """Medians, lowest and highest round, for each server and row; ``load`` has the figures of the load processes."""

    medians: dict[str, Figures]
    spread: dict[str, dict[str, tuple[float, float]]]
    load: dict[str, Figures]
    rounds: int


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
    check_complete(answer, server)
    return {
        "deliveries": answer["deliveries"] / answer["seconds"],
        "delivery_cpu": used / answer["deliveries"] * 1e6,
        "load_broadcast": answer["cpu_share"],
    }


def broadcast_alone(server: Server) -> Figures:
    """Broadcast one message after the other: the next follows when each client has this one.

    The kernel stamps each message, and the time between two broadcasts does not count. So a load generator that is
    slower than the server does not change the figures.
    """
    with LoadGenerator(server, cores()[1][:1]) as load:
        load.connect(CLIENTS, stamped=True)
        before = server.cpu_seconds()
        answer = load.broadcast(BROADCASTS_ALONE, window=1, connections=1, pause=0.0)
        used = server.cpu_seconds() - before
    check_complete(answer, server)
    return {
        "alone": answer["deliveries"] / answer["delivering_seconds"],
        "broadcast_p99": answer["latency"]["p99"] * 1e3,
        "alone_cpu": used / answer["deliveries"] * 1e6,
        "load_alone": answer["cpu_share"],
    }


def emit(server: Server) -> Figures:
    """Push single messages from 32 connections of backends; each waits for the answer before its next request."""
    with LoadGenerator(server, cores()[1]) as load:
        load.connect(CLIENTS)
        before = server.cpu_seconds()
        answer = load.emit(EMITS, connections=EMIT_CONNECTIONS)
        used = server.cpu_seconds() - before
    check_complete(answer, server)
    return {
        "emits": answer["requests_per_second"],
        "emit_cpu": used / EMITS * 1e6,
        "load_emit": answer["cpu_share"],
    }


def latency_at_rate(server: Server) -> Figures:
    """Measure the time from request to delivered message, at a rate that loads neither server."""
    count = PUSH_RATE * RATE_SECONDS
    with LoadGenerator(server, cores()[1]) as load:
        load.connect(CLIENTS, stamped=True)
        before = server.cpu_seconds()
        answer = load.emit(count, connections=PACED_CONNECTIONS, rate=PUSH_RATE)
        used = server.cpu_seconds() - before
    check_complete(answer, server)
    return {
        "p50": answer["latency"]["p50"] * 1e3,
        "p99": answer["latency"]["p99"] * 1e3,
        "paced_cpu": used / count * 1e6,
        "load_paced": answer["cpu_share"],
    }


def connect_and_disconnect(server: Server) -> Figures:
    """Measure the cost of 9 000 connections: CPU time to connect, memory, CPU time when all disconnect at once."""
    empty, before = server.rss_bytes(), server.idle_cpu_seconds()
    with LoadGenerator(server, cores()[1]) as load:
        load.connect(CONNECTIONS)
        time.sleep(2)
        connected, full = server.cpu_seconds(), server.rss_bytes()
    disconnect = server.idle_cpu_seconds() - connected
    return {
        "connect": (connected - before) / CONNECTIONS * 1e6,
        "memory": (full - empty) / CONNECTIONS / 1024,
        "disconnect": disconnect,
        "disconnect_cpu": disconnect / CONNECTIONS * 1e6,
    }


SCENARIOS: Final = (broadcast, broadcast_alone, emit, latency_at_rate, connect_and_disconnect)


def check_complete(answer: Answer, server: Server) -> None:
    """Raise RuntimeError if a message was not delivered: figures of less work are no figures."""
    if answer["missing"]:
        raise RuntimeError(f"{server.name}: {answer['missing']} messages were not delivered")


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
