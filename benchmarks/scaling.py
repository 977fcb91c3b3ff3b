"""Measure the CPU time of each step, by number of connections. It should be the same with any number."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Final

from benchmarks import servers
from benchmarks.comparison import Figures, check_complete
from benchmarks.load.generator import LoadGenerator, Worker
from benchmarks.machine import cores
from benchmarks.servers import JWT_SECRET, Server

LEVELS: Final = (1000, 4000, 9000, 18_000)
STEPS: Final = 1000
"""How many connections execute each step at each level."""
EMITS: Final = 3000
DELIVERIES: Final = 54_000
"""How many deliveries the broadcasts of each level have at least."""
ROUNDS: Final = 3
STAFF, SUPPORT = "staff-{}", "support-{}"
"""Two roles, each a room for every ten users: the number of rooms grows with the number of connections."""


def measure(report: Callable[[str], None]) -> dict[int, Figures]:
    """Measure the CPU time of the gateway in µs for each step, a delivery of a broadcast included, at each level."""
    found: dict[int, Figures] = {}
    # No pings: at 18 000 connections they would be a small part of each figure.
    with (
        servers.gateway(ping_interval_seconds=3600, max_connections=20_000) as server,
        LoadGenerator(server, cores()[1], at_least=2) as load,
    ):
        permanent, measured = load.workers[0], load.workers[-1]
        measured.first, measured.clients = 100_000, STEPS
        for level in LEVELS:
            _fill(load, permanent, level - STEPS)
            found[level] = median([_measure_level(server, load, measured, level) for _ in range(ROUNDS)])
            shown = ", ".join(f"{step} {cost:.1f}" for step, cost in found[level].items())
            report(f"{level} connections, µs each: {shown}")
    return found


def cost(server: Server, count: int, act: Callable[[], object]) -> float:
    """Return the CPU time of the server in µs for one of ``count`` operations."""
    before = server.idle_cpu_seconds()
    act()
    return (server.idle_cpu_seconds() - before) / count * 1e6


def deliver(server: Server, load: LoadGenerator, count: int, *, size: int = 64) -> float:
    """Return the CPU time in µs for each delivery of broadcasts that follow one another."""
    clients = sum(worker.clients for worker in load.workers)

    def act() -> None:
        check_complete(load.broadcast(count, size=size, window=1, connections=1, pause=0.0), server)

    return cost(server, count * clients, act)


def median(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each step."""
    return {step: statistics.median(each[step] for each in rounds) for step in rounds[0]}


def _fill(load: LoadGenerator, worker: Worker, count: int) -> None:
    """Connect clients until ``count`` are connected; they stay connected."""
    more = count - worker.clients
    if more > 0:
        worker.first, already = worker.clients, worker.clients
        worker.clients = more
        load.start_connect(worker, role=STAFF)
        worker.read_result()
        worker.first, worker.clients = 0, already + more


def _measure_level(server: Server, load: LoadGenerator, measured: Worker, level: int) -> Figures:
    """Connect 1 000 clients, change their rooms, disconnect them."""

    def connect() -> None:
        load.start_connect(measured, role=STAFF)
        measured.read_result()

    def refresh(role: str | None) -> None:
        measured.execute(
            "refresh", first=measured.first, count=STEPS, secret=JWT_SECRET, role=role, at_once=100
        )

    return {
        "connect": cost(server, STEPS, connect),
        "emit": cost(server, EMITS, lambda: check_complete(load.emit_to(measured, EMITS), server)),
        "broadcast": level * (each := deliver(server, load, -(-DELIVERIES // level))),
        "of it for each client": each,
        "leave a room": cost(server, STEPS, lambda: refresh(None)),
        "join a room": cost(server, STEPS, lambda: refresh(SUPPORT)),
        "disconnect": cost(server, STEPS, lambda: measured.execute("disconnect", count=STEPS)),
    }
