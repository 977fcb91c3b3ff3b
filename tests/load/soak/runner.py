"""One run: replicas, clients, pushes, faults, and the result."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.load.soak.backends import PushLoad
from tests.load.soak.chaos import Fault, FaultInjector
from tests.load.soak.clients import RECEIVE_SECONDS, ClientBehaviour, ClientResult, Member, SoakClients
from tests.load.soak.comparison import Comparison, compare
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.traffic import Push
from tests.support.waiter import wait_until

NAMES = ("r0", "r1", "r2")
LEASE_SECONDS = 5.0
PING_SECONDS = 3.0
"""Interval and timeout, each: a connection that breaks without a close is closed within twice that."""
RECOVERY_SECONDS = 120.0
LAST_ATTEMPTS, LAST_SECONDS = 8, 2 * PING_SECONDS + 2.0
PRESENCE_SECONDS = 2 * PING_SECONDS + LEASE_SECONDS + 20.0
SETTINGS: dict[str, Any] = {
    "lease_seconds": LEASE_SECONDS,
    "ping_interval_seconds": PING_SECONDS,
    "ping_timeout_seconds": PING_SECONDS,
    "recovery_seconds": RECOVERY_SECONDS,
}
FIXED_PORTS = range(20_000, 32_000)
"""Below the range from which a system takes ports for outgoing connections: such a connection, opened while a replica
is down, might take the replica's port and keep it from starting again."""


@dataclass(frozen=True)
class Plan:
    """The load of a run: number of clients, pushes a second, and behaviour of the clients."""

    clients: int
    per_second: float
    behaviour: ClientBehaviour = field(default_factory=ClientBehaviour)
    with_sids: bool = True
    processes: int = 1
    """Node processes of the clients."""
    gives_up: float = 0.0
    """Share of the pushes that are given up when they are first answered ``broker_unavailable``."""
    lossy: bool = False
    """Whether messages may be lost, if the clients get ``recovery:failed``."""
    rejected: frozenset[str] = frozenset()
    """Last answers of pushes that need not be accepted."""


@dataclass
class Run:
    """The result of one run."""

    plan: Plan
    began_at: float
    """When the first push was sent, in Unix seconds."""
    seconds: float
    pushes: list[Push]
    results: dict[str, ClientResult]
    faults: list[Fault]
    comparison: Comparison
    logs: list[tuple[str, list[dict[str, Any]]]]
    versions: dict[str, str]

    def keep(self, folder: Path) -> None:
        """Write the deliveries of each client, the pushes and the log of each replica to files."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "wrong").write_text("\n".join(self.comparison.wrong))
        (folder / "pushes").write_text("\n".join(f"{push.number} {push}" for push in self.pushes))
        (folder / "faults").write_text("\n".join(map(str, self.faults)))
        for client, results in self.results.items():
            (folder / f"client-{client}").write_text(f"{results}\n")
        for number, (replica, lines) in enumerate(self.logs):
            (folder / f"log-{number:02}-{replica}").write_text("\n".join(map(str, lines)))


Scenario = Callable[[FaultInjector], None]


def run(plan: Plan, scenario: Scenario) -> Run:
    """Run the load on replicas of its own as long as ``scenario`` runs; then wait for the last message and compare."""
    server = RedisServer()
    with replicas_on(server, **SETTINGS) as replicas:
        return run_on(replicas, version_of(server), plan, lambda injector, _: scenario(injector))


def run_on(
    replicas: Sequence[GatewayProcess],
    redis_version: str,
    plan: Plan,
    scenario: Callable[[FaultInjector, SoakClients], None],
) -> Run:
    """Do as ``run`` on these replicas, which are stopped at the end."""
    with SoakClients(plan.clients, plan.behaviour, processes=plan.processes) as clients:
        clients.connect(replicas)
        load = PushLoad(
            clients,
            replicas,
            per_second=plan.per_second,
            with_sids=plan.with_sids,
            gives_up=plan.gives_up,
        )

        def choose(running: Sequence[GatewayProcess]) -> None:
            clients.choose(running)
            load.choose(running)

        injector = FaultInjector(replicas, choose, lease_seconds=LEASE_SECONDS)
        began_at = time.time()
        with load:
            scenario(injector, clients)
        seconds = time.time() - began_at
        clients.stop_dropping()
        errors = [] if _push_last(load, clients, plan) else ["a client did not get the last message"]
        results = clients.results()
        if plan.with_sids:  # without recovery a client has another sid after each reconnect
            errors += _presence(replicas, clients.members)
        versions = {name: clients.versions[name] for name in ("node", "client")} | {"redis": redis_version}
        injector.stop_all()
    comparison = compare(load.pushes, results, lossy=plan.lossy, rejected=plan.rejected)
    comparison.wrong = errors + injector.errors + comparison.wrong
    return Run(
        plan, began_at, seconds, load.pushes, results, injector.faults, comparison, injector.logs, versions
    )


def _push_last(load: PushLoad, clients: SoakClients, plan: Plan) -> bool:
    """Push the last message; return whether every client got it.

    A client that is away and will not be recovered misses it. So it is pushed again where data is lost.
    """
    for _ in range(LAST_ATTEMPTS if plan.lossy else 1):
        load.push_last()
        if clients.wait_for_last(seconds=LAST_SECONDS if plan.lossy else RECEIVE_SECONDS):
            return True
    return False


@contextmanager
def replicas_on(
    server: RedisServer, names: Sequence[str] = NAMES, **settings: Any
) -> Iterator[list[GatewayProcess]]:
    """Run one replica for each name; at the end kill those still running, and the server. Each has an ingest port."""
    try:
        with replicas_at(dict.fromkeys(names, server.url), **settings) as replicas:
            yield replicas
    finally:
        server.stop()


@contextmanager
def replicas_at(
    urls: Mapping[str, str], *, under: Mapping[str, Sequence[str]] | None = None, **settings: Any
) -> Iterator[list[GatewayProcess]]:
    """Run replicas; at the end kill those still running.

    ``urls``: names, and their URLs of Redis. ``under``: commands that start those replicas.
    """
    replicas: list[GatewayProcess] = []

    def start(name: str) -> GatewayProcess:
        port, ingest_port = _free_fixed_port(), _free_fixed_port()
        return GatewayProcess(
            redis_url=urls[name],
            port=port,
            ingest_port=ingest_port,
            replica_id=name,
            under=(under or {}).get(name, ()),
            **settings,
        )

    try:
        with ThreadPoolExecutor() as pool:
            starting = [pool.submit(start, name) for name in urls]
        replicas += [each.result() for each in starting]
        yield replicas
    finally:
        for replica in replicas:
            replica.kill()


def version_of(server: RedisServer) -> str:
    with server.client() as client:
        info = client.info("server")
    name = "Valkey" if "valkey_version" in info else "Redis"
    return f"{name} {info.get('valkey_version', info['redis_version'])}"


def _free_fixed_port() -> int:
    while True:
        port = random.choice(FIXED_PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def _presence(replicas: Sequence[GatewayProcess], members: Sequence[Member]) -> list[str]:
    """Check that presence shows each client once, under its first sid, and no half-open connection."""
    expected: dict[str, list[str]] = {}
    for member in members:
        expected.setdefault(member.user, []).append(member.sid)
    wrong = dict.fromkeys(expected)

    def is_exact() -> bool:
        for user in list(wrong):
            found = random.choice(replicas).backend.presence(user)["connections"]
            if sorted(each["sid"] for each in found) == sorted(expected[user]):
                del wrong[user]
        return not wrong

    try:
        wait_until(is_exact, "presence is exact", seconds=PRESENCE_SECONDS)
    except AssertionError:
        return [f"presence of {user} is not {expected[user]}" for user in wrong]
    return []
