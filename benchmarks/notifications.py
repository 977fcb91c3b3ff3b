"""Measure notifications from the client to the webhook, and what presence events add to a connection."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import servers
from benchmarks.comparison import CLIENTS, Figures, shown
from benchmarks.load.generator import LoadGenerator
from benchmarks.machine import cores, on_cores
from benchmarks.servers import Server
from tests.support.redis_server import RedisServer

ROUNDS: Final = 3
NOTIFICATIONS: Final = 20_000
WARM_UP: Final = 2_000
WINDOW: Final = 400
BATCHES: Final = (1, 100)
STEPS: Final = 1_000
"""Connections that are measured."""
ARRIVE_SECONDS: Final = 120.0
WEBHOOK_SECRET: Final = "whsec_ZXhhbXBsZS1ob29rLXNlY3JldC1vZi0zMi1ieXRlcyE="  # noqa: S105  # of a server that lives for seconds
SAVE: Final = """
version: 1
namespaces: {/: {client_events: {save: {args: [{type: object}], notify: app, ack: {ok: true, seq: $0.seq}}}}}
"""
NOTHING: Final = "version: 1\n"
PRESENCE: Final = "version: 1\npresence: {{offline_after_seconds: {seconds}, notify: app}}\n"
LONG_SECONDS, SHORT_SECONDS = 600, 1
"""Of ``offline_after_seconds``: so that a user who reconnects was online all the time, or was offline in between."""
LATER_SECONDS: Final = SHORT_SECONDS + 2.0
"""What a step causes later than this does not count to it."""


@dataclass(frozen=True)
class Found:
    """Notifications for each state and batch, and the CPU time of a connection for each state and kind of presence."""

    delivered: dict[str, Figures]
    connections: dict[str, Figures]


def measure(report: Callable[[str], None]) -> Found:
    """Measure with the memory state and with the Redis state; medians of ROUNDS rounds."""
    found = Found({}, {})
    for state in ("memory", "Redis"):
        for batch in BATCHES:
            name = f"{state}, {batch} in a request"
            found.delivered[name] = _median(delivered(state, batch) for _ in range(ROUNDS))
            report(f"{name}: {shown(found.delivered[name])}")
        costs = connections(state)
        found.connections.update(costs)
        for name, figures in costs.items():
            report(f"{name}: {shown(figures)}")
    return found


def delivered(state: str, batch: int) -> Figures:
    """Let 1 000 clients send events that a webhook gets, as fast as the gateway accepts and delivers them."""
    with (
        _gateway(state, SAVE, batch) as (server, receiver),
        LoadGenerator(server, cores()[1][:1]) as load,
    ):
        load.connect(CLIENTS)
        _emit(load, WARM_UP)
        _wait_until_arrived(receiver, WARM_UP)
        before, began_at = server.cpu_seconds(), time.monotonic()
        _emit(load, NOTIFICATIONS)
        accepted_at = time.monotonic()
        _wait_until_arrived(receiver, WARM_UP + NOTIFICATIONS)
        arrived_at, used = time.monotonic(), server.cpu_seconds() - before
    return {
        "accepted/s": NOTIFICATIONS / (accepted_at - began_at),
        "delivered/s": NOTIFICATIONS / (arrived_at - began_at),
        "delivered/s of CPU": NOTIFICATIONS / used,
        "CPU µs each": used / NOTIFICATIONS * 1e6,
    }


def connections(state: str) -> dict[str, Figures]:
    """Measure the CPU time of connecting and leaving, with and without presence events, in turns."""
    kinds = {
        "without presence events": (NOTHING, 1),
        "the user stays online": (PRESENCE.format(seconds=LONG_SECONDS), 1),
        "both are changes, 1 in a request": (PRESENCE.format(seconds=SHORT_SECONDS), 1),
        "both are changes, 100 in a request": (PRESENCE.format(seconds=SHORT_SECONDS), 100),
    }
    rounds: dict[str, list[Figures]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, (catalogue, batch) in kinds.items():
            rounds[name].append(_connect_and_leave(state, catalogue, batch))
    found = {f"{state}, {name}": _median(each) for name, each in rounds.items()}
    off = found[f"{state}, without presence events"]
    return {
        name: figures
        | {"both, of that without": (figures["connect µs"] + figures["leave µs"]) / sum(off.values())}
        for name, figures in found.items()
    }


def _connect_and_leave(state: str, catalogue: str, batch: int) -> Figures:
    later = LATER_SECONDS if catalogue == PRESENCE.format(seconds=SHORT_SECONDS) else 0.0
    with (
        _gateway(state, catalogue, batch, ping_interval_seconds=3600) as (server, _),
        LoadGenerator(server, cores()[1][:1]) as load,
    ):

        def connect() -> None:
            load.connect(STEPS)

        def leave() -> None:
            load.workers[0].execute("disconnect", count=STEPS)

        connect()  # warm-up: every step once
        _cost(server, leave, later)
        costs = _cost(server, connect, later), _cost(server, leave, later)
    return dict(zip(("connect µs", "leave µs"), costs, strict=True))


def _cost(server: Server, act: Callable[[], object], later_seconds: float) -> float:
    """Return the CPU time in µs of one of STEPS, what happens up to ``later_seconds`` later included."""
    before = server.idle_cpu_seconds()
    act()
    time.sleep(later_seconds)
    return (server.idle_cpu_seconds() - before) / STEPS * 1e6


@contextmanager
def _gateway(state: str, catalogue: str, batch: int, **settings: Any) -> Iterator[tuple[Server, Server]]:
    """Start a gateway on a core of its own; webhook and Redis are on one of the load."""
    with ExitStack() as stack:
        receiver = stack.enter_context(servers.webhook_receiver())
        if state == "Redis":
            with on_cores(set(cores()[1])):
                redis = RedisServer()
            stack.callback(redis.stop)
            settings["redis_url"] = redis.url
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        webhook = {"id": "app", "url": receiver.url, "secret": WEBHOOK_SECRET, "batch": batch}
        (folder / "gateway.yaml").write_text(json.dumps({"webhooks": [webhook]}), "utf-8")
        (folder / "events.yaml").write_text(catalogue, "utf-8")
        server = stack.enter_context(
            servers.gateway(
                config=folder / "gateway.yaml",
                events_file=folder / "events.yaml",
                message_rate=100_000,
                **settings,
            )
        )
        yield server, receiver


def _emit(load: LoadGenerator, count: int) -> None:
    answer = load.emit_events("save", count, per_room=1, relayed=False, window=WINDOW)
    if answer["missing"]:
        raise RuntimeError(f"{answer['missing']} acknowledgements are missing")


def _wait_until_arrived(receiver: Server, count: int) -> None:
    deadline = time.monotonic() + ARRIVE_SECONDS
    while (arrived := _arrived(receiver)) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{count - arrived} notifications are missing")
        time.sleep(0.01)
    if arrived > count:
        raise RuntimeError(f"{arrived - count} notifications arrived twice")


def _arrived(receiver: Server) -> int:
    with urllib.request.urlopen(f"{receiver.url}/events") as answer:
        return int(answer.read())


def _median(rounds: Any) -> Figures:
    found: list[Figures] = list(rounds)
    return {row: statistics.median(each[row] for each in found) for row in found[0]}
