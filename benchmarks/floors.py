"""The floors: ratios to Node's Socket.IO in the same run that the gateway must reach, and whether it does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from benchmarks import comparison, replicated, servers
from benchmarks.comparison import Comparison, Figures, Floor, Row, medians, record, shown, spread
from benchmarks.replicated import MAKERS, Pair, start_pair
from benchmarks.servers import Server

ROWS: Final = {
    "alone": Row("Broadcast to 1 000 clients, one at a time", "deliveries/s", True, Floor(1.9), "alone_cpu"),
    "broadcast_p99": Row("Latency of these broadcasts, 99 %", "ms", False, Floor(1.0), "alone_cpu"),
    "deliveries": Row("Broadcast, up to 48 at once", "deliveries/s", True, cpu="delivery_cpu"),
    "emits": Row("REST pushes to single users", "requests/s", True, Floor(1.0), "emit_cpu"),
    "p50": Row("Latency at 1 000 pushes/s, median", "ms", False, Floor(1.0), "paced_cpu"),
    "p99": Row("Latency at 1 000 pushes/s, 99 %", "ms", False, Floor(1.0), "paced_cpu"),
    "memory": Row("Memory for each of 9 000 connections", "kB", False, Floor(0.5)),
    "connect": Row("CPU to connect one client", "µs", False, Floor(1.0), "connect"),
    "disconnect": Row("CPU when all 9 000 disconnect at once", "s", False, Floor(1.0), "disconnect_cpu"),
    "redis_emits": Row("REST pushes through Redis", "requests/s", True, Floor(1.0), "redis_emit_cpu"),
    "redis_own_cpu": Row("CPU of Redis for each of them", "µs", False, cpu="redis_own_cpu"),
    "redis_p50": Row("Latency through Redis, median", "ms", False, Floor(1.1), "redis_paced_cpu"),
    "redis_p99": Row("Latency through Redis, 99 %", "ms", False, Floor(0.5), "redis_paced_cpu"),
    "redis_connect": Row(
        "CPU to connect one client with Redis", "µs", False, Floor(1.3, "connect"), "redis_connect"
    ),
}
FLOORS: Final = tuple(key for key, row in ROWS.items() if row.floor is not None)


def measure(rounds: int, report: Callable[[str], None]) -> Comparison:
    """Run all scenarios against both servers, one server at a time, in turn, in rounds. Takes some minutes."""
    results: dict[str, dict[str, list[float]]] = {name: {} for name in MAKERS}
    shares: dict[str, dict[str, list[float]]] = {name: {} for name in [*MAKERS, "bare sender"]}
    runs = [_in_memory(scenario) for scenario in comparison.SCENARIOS]
    runs += [_with_redis(scenario) for scenario in replicated.SCENARIOS]
    for number in range(1, rounds + 1):
        for run in runs:
            for name in MAKERS:
                figures = run(name)
                record(name, figures, results, shares)
                report(f"round {number}: {name}: {shown(figures)}")
        with servers.bare_sender() as server:
            figures = comparison.broadcast(server)
        for key in ("deliveries", "load_broadcast"):
            shares["bare sender"].setdefault(key, []).append(figures[key])
    return Comparison(medians(results), spread(results), medians(shares), rounds)


def ratio(found: Comparison, key: str) -> float:
    """Return the ratio of a row that its floor is about, or NaN if one of the two figures was not measured."""
    row, nothing = ROWS[key], float("nan")
    against = row.floor.against if row.floor is not None else None
    ours = found.medians["gateway"].get(key, nothing)
    base = (
        found.medians["gateway"].get(against, nothing) if against else found.medians["node"].get(key, nothing)
    )
    return ours / base if base else nothing


def holds(found: Comparison, key: str) -> bool | None:
    """Return whether the floor of a row holds, or None if it was not measured or has no floor."""
    row, reached = ROWS[key], ratio(found, key)
    if row.floor is None or math.isnan(reached):
        return None
    return reached >= row.floor.ratio if row.more_is_better else reached <= row.floor.ratio


def summary(found: Comparison) -> str:
    """Return in a sentence or two how many floors hold, and name each one that does not or was not measured."""
    verdicts = {key: holds(found, key) for key in FLOORS}
    text = f"{sum(each is True for each in verdicts.values())} of {len(FLOORS)} floors hold."
    missed = [
        f"{ROWS[key].title} ({ratio(found, key):.2f}×, floor {bound(key)})"
        for key, each in verdicts.items()
        if each is False
    ]
    unknown = [ROWS[key].title for key, each in verdicts.items() if each is None]
    if missed:
        text += f" Missed: {'; '.join(missed)}."
    if unknown:
        text += f" Not measured: {'; '.join(unknown)}."
    return text


def bound(key: str) -> str:
    """Return the floor of a row as text, such as ``≥ 1.9×``; empty if it has none."""
    row = ROWS[key]
    if row.floor is None:
        return ""
    text = f"{'≥' if row.more_is_better else '≤'} {row.floor.ratio:.1f}×"
    return f"{text} without Redis" if row.floor.against else text


def _in_memory(scenario: Callable[[Server], Figures]) -> Callable[[str], Figures]:
    def run(name: str) -> Figures:
        with MAKERS[name]() as server:
            return scenario(server)

    return run


def _with_redis(scenario: Callable[[Pair], Figures]) -> Callable[[str], Figures]:
    def run(name: str) -> Figures:
        with start_pair(name) as pair:
            return scenario(pair)

    return run
