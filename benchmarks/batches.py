"""Measure batches of pushes, and pushes to 100 users, beside Node's Socket.IO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks import servers
from benchmarks.comparison import (
    CLIENTS,
    EMITS,
    Comparison,
    Figures,
    Row,
    check_complete,
    medians,
    record,
    shown,
    spread,
)
from benchmarks.load.generator import LoadGenerator
from benchmarks.machine import cores
from benchmarks.servers import Server

TOGETHER: Final = 100
MESSAGES: Final = 100_000
RECIPIENTS: Final = 100
TO_USERS: Final = 2_000
BATCH_CONNECTIONS: Final = 16
CONNECTIONS: Final = 32

ROWS: Final = {
    "messages": Row(
        "Pushes to single users, 100 in a request (Node: one)", "messages/s", True, cpu="message_cpu"
    ),
    "to_users": Row("Pushes to 100 users", "requests/s", True, cpu="to_users_cpu"),
}
LOAD: Final = {"load_messages": "Pushes to single users", "load_to_users": "Pushes to 100 users"}


def measure(rounds: int, report: Callable[[str], None]) -> Comparison:
    """Run both scenarios against both servers, one at a time, in turn, in rounds."""
    makers = {"gateway": servers.gateway, "node": servers.node}
    results: dict[str, dict[str, list[float]]] = {name: {} for name in makers}
    shares: dict[str, dict[str, list[float]]] = {name: {} for name in makers}
    for number in range(1, rounds + 1):
        for scenario in (batches, to_users):
            for name, make in makers.items():
                with make() as server:
                    figures = scenario(server)
                record(name, figures, results, shares)
                report(f"round {number}: {name}: {shown(figures)}")
    return Comparison(medians(results), spread(results), medians(shares), rounds)


def batches(server: Server) -> Figures:
    """Push messages to single users: in batches, or one by one to a server that has none."""
    with LoadGenerator(server, cores()[1]) as load:
        load.connect(CLIENTS)
        before = server.cpu_seconds()
        count = MESSAGES if server.ingest_key is not None else EMITS
        if server.ingest_key is not None:
            answer = load.emit_batches(count, together=TOGETHER, connections=BATCH_CONNECTIONS)
            rate = answer["requests_per_second"] * TOGETHER
        else:
            answer = load.emit(count, connections=CONNECTIONS)
            rate = answer["requests_per_second"]
        used = server.cpu_seconds() - before
    check_complete(answer, server)
    return {"messages": rate, "message_cpu": used / count * 1e6, "load_messages": answer["cpu_share"]}


def to_users(server: Server) -> Figures:
    """Push each message to 100 users with one request."""
    with LoadGenerator(server, cores()[1]) as load:
        load.connect(CLIENTS)
        before = server.cpu_seconds()
        answer = load.emit_to_users(TO_USERS, recipients=RECIPIENTS, connections=CONNECTIONS)
        used = server.cpu_seconds() - before
    check_complete(answer, server)
    return {
        "to_users": answer["requests_per_second"],
        "to_users_cpu": used / TO_USERS * 1e6,
        "load_to_users": answer["cpu_share"],
    }
