"""One run: replicas, clients, pushes, faults, and the result."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.load.soak.backends import Pushing
from tests.load.soak.chaos import Blow, Breaking
from tests.load.soak.clients import Crowd, Manner, Member, Told
from tests.load.soak.verdict import Verdict, judge
from tests.support.cluster import until
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.traffic import Push

NAMES = ("r0", "r1", "r2")
LEASE_SECONDS = 5.0
PING_SECONDS = 3.0
"""Interval and timeout, each: a connection that breaks without a close is closed within twice that."""
RECOVERY_SECONDS = 120.0
SETTLE_SECONDS = 2 * PING_SECONDS + LEASE_SECONDS + 5.0
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
    """How many clients and pushes a second, and how the clients behave."""

    clients: int
    per_second: float
    manner: Manner = field(default_factory=Manner)
    with_sids: bool = True


@dataclass
class Run:
    """The result of one run."""

    plan: Plan
    began_at: float
    """When the first push was sent, in Unix seconds."""
    seconds: float
    pushes: list[Push]
    told: dict[str, Told]
    blows: list[Blow]
    verdict: Verdict
    lives: list[tuple[str, list[dict[str, Any]]]]
    versions: dict[str, str]

    def keep(self, folder: Path) -> None:
        """Write the deliveries of each client, the pushes and the log of each replica to files."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "wrong").write_text("\n".join(self.verdict.wrong))
        (folder / "pushes").write_text("\n".join(f"{push.number} {push}" for push in self.pushes))
        (folder / "blows").write_text("\n".join(map(str, self.blows)))
        for client, told in self.told.items():
            (folder / f"client-{client}").write_text(f"{told}\n")
        for number, (replica, lines) in enumerate(self.lives):
            (folder / f"log-{number:02}-{replica}").write_text("\n".join(map(str, lines)))


Trouble = Callable[[Breaking], None]


def run(plan: Plan, trouble: Trouble) -> Run:
    """Run the load as long as ``trouble`` runs; then wait for the last message and compare."""
    server = RedisServer()
    with replicas_on(server, **SETTINGS) as replicas, Crowd(plan.clients, plan.manner) as crowd:
        crowd.come(replicas)
        pushing = Pushing(crowd, replicas, per_second=plan.per_second, with_sids=plan.with_sids)

        def choose(living: Sequence[GatewayProcess]) -> None:
            crowd.choose(living)
            pushing.choose(living)

        breaking = Breaking(replicas, choose, lease_seconds=LEASE_SECONDS)
        began_at = time.time()
        with pushing:
            trouble(breaking)
        seconds = time.time() - began_at
        crowd.calm()
        pushing.last()
        complaints = [] if crowd.hears_last() else ["a client did not get the last message"]
        told = crowd.tell()
        if plan.with_sids:  # without recovery a client has another sid after each reconnect
            complaints += _presence(replicas, crowd.members)
        versions = {name: crowd.versions[name] for name in ("node", "client")} | {"redis": _version(server)}
        breaking.end()
    verdict = judge(pushing.pushes, told)
    verdict.wrong = complaints + breaking.complaints + verdict.wrong
    return Run(
        plan, began_at, seconds, pushing.pushes, told, breaking.blows, verdict, breaking.lives, versions
    )


@contextmanager
def replicas_on(
    server: RedisServer, names: Sequence[str] = NAMES, **settings: Any
) -> Iterator[list[GatewayProcess]]:
    """Run one replica for each name; at the end kill those still running, and the server. Each has an ingest port."""
    replicas: list[GatewayProcess] = []

    def start(name: str) -> GatewayProcess:
        port, ingest_port = _free_fixed_port(), _free_fixed_port()
        return GatewayProcess(
            redis_url=server.url, port=port, ingest_port=ingest_port, replica_id=name, **settings
        )

    try:
        with ThreadPoolExecutor() as together:
            starting = [together.submit(start, name) for name in names]
        replicas += [each.result() for each in starting]
        yield replicas
    finally:
        for replica in replicas:
            replica.kill()
        server.stop()


def _version(server: RedisServer) -> str:
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
    want: dict[str, list[str]] = {}
    for member in members:
        want.setdefault(member.user, []).append(member.sid)
    lacking = dict.fromkeys(want)

    def is_true() -> bool:
        for user in list(lacking):
            found = random.choice(replicas).backend.presence(user)["connections"]
            if sorted(each["sid"] for each in found) == sorted(want[user]):
                del lacking[user]
        return not lacking

    try:
        until(is_true, "presence is exact", time.monotonic() + SETTLE_SECONDS)
    except AssertionError:
        return [f"presence of {user} is not {want[user]}" for user in lacking]
    return []
