"""Kill replicas, or restart them with SIGTERM, one after the other."""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.gateway_process import GatewayProcess

Choose = Callable[[Sequence[GatewayProcess]], None]
"""Called with the replicas that clients and backends choose from."""

KILL, KILL_PAST_LEASE, ROLL, SUSPEND = "kill -9", "kill -9, down past its lease", "SIGTERM", "SIGSTOP"


@dataclass(frozen=True)
class Fault:
    """One fault: the replica, when (Unix seconds), and for how many seconds it was down."""

    kind: str
    replica: str
    at: float
    down_seconds: float


class FaultInjector:
    """Stops one replica at a time. Clients and backends continue to choose it until its process has ended."""

    def __init__(self, replicas: Sequence[GatewayProcess], choose: Choose, *, lease_seconds: float) -> None:
        self.faults: list[Fault] = []
        self.errors: list[str] = []
        """Errors of replicas: an exit status that is not 0, an error in the log."""
        self.logs: list[tuple[str, list[dict[str, Any]]]] = []
        """The log of each process that ended: replica id, lines."""
        self._replicas = list(replicas)
        self._choose = choose
        self._lease_seconds = lease_seconds
        self._timer = threading.Event()

    def inject_every(self, interval: float, kinds: Sequence[str], *, seconds: float) -> None:
        """Inject a fault in the middle of each ``interval`` seconds, each kind in turn; return after ``seconds``."""
        started = time.monotonic()
        order = itertools.chain.from_iterable(self._shuffled() for _ in itertools.count())
        for number, replica in zip(range(round(seconds / interval)), order, strict=False):
            self._wait_until(started + (number + 0.5) * interval)
            self.inject(kinds[number % len(kinds)], replica)
        self._wait_until(started + seconds)

    def roll_all(self, *, pause: float) -> None:
        """Restart each replica once, with ``pause`` seconds in between."""
        for replica in self._replicas:
            self.wait(pause)
            self.inject(ROLL, replica)
        self.wait(pause)

    def wait(self, seconds: float) -> None:
        """Wait while the load continues."""
        self._wait_until(time.monotonic() + seconds)

    def inject(self, kind: str, replica: GatewayProcess) -> None:
        """Stop or kill a replica and start it again; return once it listens.

        ``kind``: KILL, KILL_PAST_LEASE or ROLL.
        """
        at, started = time.time(), time.monotonic()
        if kind == ROLL:
            status = replica.stop()
            if status != 0:
                self.errors.append(f"{replica.replica_id} ended with {status} when it was rolled")
        else:
            replica.kill()
        self._choose([each for each in self._replicas if each is not replica])
        self._collect_log(replica)
        if kind == KILL_PAST_LEASE:
            self.wait(self._lease_seconds + 2.0)
        replica.start()
        self._choose(self._replicas)
        self.faults.append(Fault(kind, replica.replica_id, at, time.monotonic() - started))

    def suspend(self, replica: GatewayProcess, seconds: float) -> None:
        """Suspend a replica (SIGSTOP) for some seconds; clients and backends choose others meanwhile."""
        at = time.time()
        replica.signal(signal.SIGSTOP)
        self._choose([each for each in self._replicas if each is not replica])
        self.wait(seconds)
        replica.signal(signal.SIGCONT)
        self._choose(self._replicas)
        self.faults.append(Fault(SUSPEND, replica.replica_id, at, seconds))

    def stop_all(self) -> None:
        """Stop all replicas with SIGTERM, as an orchestrator does."""
        for replica in self._replicas:
            status = replica.stop()
            if status != 0:
                self.errors.append(f"{replica.replica_id} ended with {status}")
            self._collect_log(replica)

    def _collect_log(self, replica: GatewayProcess) -> None:
        self.logs.append((replica.replica_id, replica.log.entries))
        self.errors += [f"{replica.replica_id}: {line}" for line in replica.failures()]

    def _shuffled(self) -> Iterable[GatewayProcess]:
        return random.sample(self._replicas, len(self._replicas))

    def _wait_until(self, moment: float) -> None:
        # Not a sleep until something has happened: this is the schedule of the faults.
        self._timer.wait(max(0.0, moment - time.monotonic()))
