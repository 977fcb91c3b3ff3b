"""Measure what each step costs the gateway, by number of connections. It should cost the same with any number."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

from benchmarks import servers
from benchmarks.comparing import Figures
from benchmarks.load.crowd import Crowd, Worker
from benchmarks.machine import cores
from benchmarks.servers import JWT_SECRET, Server

LEVELS: Final = (1000, 6000, 12_000, 18_000)
STEPS: Final = 1000
"""How many connections execute each step at each level."""
EMITS: Final = 3000
ROUNDS: Final = 3
STAFF, GUESTS = "staff-{}", "guests-{}"
"""Two roles, thus rooms, of ten users each: the number of rooms grows with the number of connections."""


def scale(say: Callable[[str], None]) -> dict[int, Figures]:
    """Measure the CPU time of the gateway in µs for each connect, emit, join, leave and disconnect, at each level."""
    found: dict[int, Figures] = {}
    # No pings: at 18 000 connections they would be a small part of each figure.
    with (
        servers.gateway(ping_interval_seconds=3600, max_connections=20_000) as server,
        Crowd(server, cores()[1], at_least=2) as crowd,
    ):
        stable, moving = crowd.workers[0], crowd.workers[-1]
        moving.first, moving.clients = 100_000, STEPS
        for level in LEVELS:
            _fill(crowd, stable, level - STEPS)
            found[level] = _median([_measure(server, crowd, moving) for _ in range(ROUNDS)])
            shown = ", ".join(f"{step} {cost:.0f}" for step, cost in found[level].items())
            say(f"{level} connections, µs each: {shown}")
    return found


def _fill(crowd: Crowd, worker: Worker, wanted: int) -> None:
    """Connect clients that stay, until ``wanted`` of them are connected."""
    more = wanted - worker.clients
    if more > 0:
        worker.first, already = worker.clients, worker.clients
        worker.clients = more
        crowd.order_connect(worker, role=STAFF)
        worker.hear()
        worker.first, worker.clients = 0, already + more


def _measure(server: Server, crowd: Crowd, moving: Worker) -> Figures:
    """Connect 1 000 clients, change their rooms, disconnect them."""
    costs: Figures = {}

    def cost_of(step: str, count: int, act: Callable[[], object]) -> None:
        before = server.settled_cpu_seconds()
        act()
        time.sleep(0.2)
        costs[step] = (server.settled_cpu_seconds() - before) / count * 1e6

    def connect() -> None:
        crowd.order_connect(moving, role=STAFF)
        moving.hear()

    def refresh(role: str | None) -> None:
        moving.ask("refresh", first=moving.first, count=STEPS, secret=JWT_SECRET, role=role, at_once=100)

    cost_of("connect", STEPS, connect)
    cost_of("emit", EMITS, lambda: crowd.emit_to(moving, EMITS))
    cost_of("leave a room", STEPS, lambda: refresh(None))
    cost_of("join a room", STEPS, lambda: refresh(GUESTS))
    cost_of("disconnect", STEPS, lambda: moving.ask("leave", count=STEPS))
    return costs


def _median(rounds: list[Figures]) -> Figures:
    return {step: statistics.median(each[step] for each in rounds) for step in rounds[0]}
