"""Replicas under traffic, and the checks that must pass once a fault is over."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from tests.support.assertions import delivery_errors
from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.health import readiness_status
from tests.support.listeners import SPREAD, ClientGroup
from tests.support.metrics import read_metrics
from tests.support.traffic import Traffic
from tests.support.waiter import TIMEOUT_SECONDS, wait_until

LEASE_SECONDS = 5.0
SUBSCRIPTION_TIMEOUT_SECONDS = 3.0
SLACK_SECONDS = 15.0
"""The time beyond the lease in which replicas must reach Redis again. 2 s are enough on an idle machine."""
GROWTH_BYTES = 16 * 1024 * 1024
"""How much more memory than before the fault a process may hold after it. 2 MB were measured."""


class Cluster:
    """Replicas r0, r1, …, each with its own URL of one Redis, with clients and traffic on all; a context manager."""

    def __init__(
        self,
        node: NodeClients,
        urls: Sequence[str],
        *,
        clients: int = 18,
        per_second: float = 60,
        transports: Sequence[str] = SPREAD,
        **settings: Any,
    ) -> None:
        common = {
            "lease_seconds": LEASE_SECONDS,
            "subscription_timeout_seconds": SUBSCRIPTION_TIMEOUT_SECONDS,
        } | settings

        def start(number: int) -> GatewayProcess:
            return GatewayProcess(redis_url=urls[number], replica_id=f"r{number}", **common)

        with ThreadPoolExecutor() as together:
            starting = [together.submit(start, number) for number in range(len(urls))]
        self.replicas = [each.result() for each in starting if each.exception() is None]
        if failed := [error for each in starting if (error := each.exception()) is not None]:
            self._kill()
            raise failed[0]
        self.running = list(self.replicas)
        self.clients = ClientGroup(node, transports)
        self._client_count = clients
        self._per_second = per_second

    def __enter__(self) -> Cluster:
        try:
            self.clients.fill(self.replicas, self._client_count)
            run = secrets.token_hex(4)
            self.traffic = Traffic(self.replicas, self.clients, per_second=self._per_second, run=run)
            self.traffic.__enter__()
            self.traffic.wait_for_answers(120)
            self._before = [resident_bytes(replica) for replica in self.replicas]
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.traffic.stop()
        self._kill()

    def remove_killed(self, replica: GatewayProcess) -> None:
        """Leave a killed replica out of the traffic and of all checks."""
        self.running.remove(replica)
        self.traffic.without(replica)

    def wait_until_consistent(
        self, *, since: float, seconds: float = LEASE_SECONDS, slack_seconds: float = SLACK_SECONDS
    ) -> None:
        """Wait until each running replica is ready and presence is correct.

        The deadline is ``seconds`` after ``since`` (monotonic clock), plus ``slack_seconds`` to reach Redis again.
        """
        deadline = since + seconds + slack_seconds
        for holds, description in (
            (self._all_are_ready, "every replica is ready"),
            (self._presence_is_correct, "presence is correct"),
        ):
            wait_until(holds, description, seconds=deadline - time.monotonic())

    def verify_deliveries(self, *, lost: tuple[float, float] | None = None) -> None:
        """End the traffic, repeat pushes with an unknown outcome, wait for the last message, check each delivery."""
        self.traffic.wait_for_answers(120)
        self.traffic.stop()
        self.traffic.repeat()
        mark = f"last:{secrets.token_hex(4)}"
        members = self.clients.at(self.running)
        assert self.running[0].backend.broadcast(mark).status == 200
        self.clients.wait_for_event(mark, members, seconds=TIMEOUT_SECONDS)
        received = self.clients.received()
        wrong = delivery_errors(self.traffic.pushes, received, members, lost=lost)
        wrong += [
            f"{m.client.id} was disconnected: {received[m.client.id].left}"
            for m in members
            if received[m.client.id].left
        ]
        assert wrong[:12] == [], (
            f"{len(wrong)} errors; {self.traffic.first_answers}; seed {self.traffic.seed}"
        )

    def verify_and_stop(self) -> None:
        """Check the memory of each running replica, its exit status after SIGTERM, and that its log has no failure."""
        for replica, before in zip(self.replicas, self._before, strict=True):
            if replica in self.running:
                assert resident_bytes(replica) - before < GROWTH_BYTES
        self.clients.leave()
        with ThreadPoolExecutor() as together:
            statuses = list(together.map(GatewayProcess.stop, self.running))
        assert statuses == [0] * len(self.running)
        assert [line for replica in self.running for line in replica.failures()] == []

    def presence_of(self, user: str, replica: GatewayProcess) -> set[tuple[str, str]]:
        """Replica and sid of each connection of the user, as that replica reports it."""
        answer = replica.backend.send("GET", f"/presence/{user}")
        return (
            {(c["replica"], c["sid"]) for c in answer.body["connections"]} if answer.status == 200 else set()
        )

    def _all_are_ready(self) -> bool:
        return all(readiness_status(replica) == (200, "ready") for replica in self.running)

    def _presence_is_correct(self) -> bool:
        expected: dict[str, set[tuple[str, str]]] = {member.user: set() for member in self.clients.members}
        for member in self.clients.at(self.running):
            expected[member.user].add((member.replica.replica_id, member.sid))
        return all(
            self.presence_of(user, replica) == connections
            for replica in self.running
            for user, connections in expected.items()
        )

    def _kill(self) -> None:
        for replica in self.replicas:
            replica.kill()


def metric(replica: GatewayProcess, name: str) -> float:
    """The value of one series; ``name`` includes its labels as they are written, if it has any."""
    lines = read_metrics(replica.url).splitlines()
    (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")]
    return float(value)


def resident_bytes(replica: GatewayProcess) -> float:
    """The resident memory of the process."""
    return metric(replica, "process_resident_memory_bytes")
