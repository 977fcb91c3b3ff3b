"""Measure the CPU time of each step, by number of connections. It should be the same with any number."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

from benchmarks import servers
from benchmarks.comparison import Figures
from benchmarks.load.generator import LoadGenerator, Worker
from benchmarks.machine import cores
from benchmarks.servers import JWT_SECRET, Server

LEVELS: Final = (1000, 6000, 12_000, 18_000)
STEPS: Final = 1000
"""How many connections execute each step at each level."""
EMITS: Final = 3000
ROUNDS: Final = 3
STAFF, SUPPORT = "staff-{}", "support-{}"
"""Two roles, each a room for every ten users: the number of rooms grows with the number of connections."""


def measure(report: Callable[[str], None]) -> dict[int, Figures]:
    """Measure the CPU time of the gateway in µs for each connect, emit, join, leave and disconnect, at each level."""
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
            found[level] = _median([_measure_level(server, load, measured) for _ in range(ROUNDS)])
            shown = ", ".join(f"{step} {cost:.0f}" for step, cost in found[level].items())
            report(f"{level} connections, µs each: {shown}")
    return found


def _fill(load: LoadGenerator, worker: Worker, count: int) -> None:
    """Connect clients until ``count`` are connected; they stay connected."""
    more = count - worker.clients
    if more > 0:
        worker.first, already = worker.clients, worker.clients
        worker.clients = more
        load.start_connect(worker, role=STAFF)
        worker.read_result()
        worker.first, worker.clients = 0, already + more


def _measure_level(server: Server, load: LoadGenerator, measured: Worker) -> Figures:
    """Connect 1 000 clients, change their rooms, disconnect them."""
    costs: Figures = {}

    def cost_of(step: str, count: int, act: Callable[[], object]) -> None:
        before = server.idle_cpu_seconds()
        act()
        time.sleep(0.2)
        costs[step] = (server.idle_cpu_seconds() - before) / count * 1e6

    def connect() -> None:
        load.start_connect(measured, role=STAFF)
        measured.read_result()

    def refresh(role: str | None) -> None:
        measured.execute(
            "refresh", first=measured.first, count=STEPS, secret=JWT_SECRET, role=role, at_once=100
        )

    cost_of("connect", STEPS, connect)
    cost_of("emit", EMITS, lambda: load.emit_to(measured, EMITS))
    cost_of("leave a room", STEPS, lambda: refresh(None))
    cost_of("join a room", STEPS, lambda: refresh(SUPPORT))
    cost_of("disconnect", STEPS, lambda: measured.execute("disconnect", count=STEPS))
    return costs


def _median(rounds: list[Figures]) -> Figures:
    return {step: statistics.median(each[step] for each in rounds) for step in rounds[0]}
