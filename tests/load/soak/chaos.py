"""Kill or roll replicas, one after the other."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.gateway_process import GatewayProcess

Choose = Callable[[Sequence[GatewayProcess]], None]
"""Called with the replicas that clients and backends choose from."""

KILL, KILL_FOR_LONG, ROLL = "kill -9", "kill -9, down past its lease", "SIGTERM"


@dataclass(frozen=True)
class Blow:
    """One fault: the replica, when (Unix seconds), and for how many seconds it was down."""

    kind: str
    replica: str
    at: float
    away_seconds: float


class Breaking:
    """Breaks one replica at a time. Clients and backends stop choosing it only once it has ended."""

    def __init__(self, replicas: Sequence[GatewayProcess], choose: Choose, *, lease_seconds: float) -> None:
        self.blows: list[Blow] = []
        self.complaints: list[str] = []
        """Errors of replicas: an exit status that is not 0, an error in the log."""
        self.lives: list[tuple[str, list[dict[str, Any]]]] = []
        """The log of each process that ended: replica, lines."""
        self._replicas = list(replicas)
        self._choose = choose
        self._lease_seconds = lease_seconds
        self._pace = threading.Event()

    def go_on(self, kinds: Sequence[str], *, every: float, seconds: float) -> None:
        """Break a replica in the middle of each ``every`` seconds; return after ``seconds``."""
        began = time.monotonic()
        order = itertools.chain.from_iterable(self._shuffled() for _ in itertools.count())
        for number, replica in zip(range(round(seconds / every)), order, strict=False):
            self._until(began + (number + 0.5) * every)
            self.strike(kinds[number % len(kinds)], replica)
        self._until(began + seconds)

    def roll_all(self, *, pause: float) -> None:
        """Roll each replica once, with ``pause`` seconds in between."""
        for replica in self._replicas:
            self.rest(pause)
            self.strike(ROLL, replica)
        self.rest(pause)

    def rest(self, seconds: float) -> None:
        """Wait while the load continues."""
        self._until(time.monotonic() + seconds)

    def strike(self, kind: str, replica: GatewayProcess) -> None:
        """Stop or kill a replica and start it again; return once it listens."""
        at, began = time.time(), time.monotonic()
        if kind == ROLL:
            status = replica.stop()
            if status != 0:
                self.complaints.append(f"{replica.replica_id} ended with {status} when it was rolled")
        else:
            replica.kill()
        self._choose([each for each in self._replicas if each is not replica])
        self._bury(replica)
        if kind == KILL_FOR_LONG:
            self.rest(self._lease_seconds + 2.0)
        replica.start()
        self._choose(self._replicas)
        self.blows.append(Blow(kind, replica.replica_id, at, time.monotonic() - began))

    def end(self) -> None:
        """Stop all replicas with SIGTERM, as an orchestrator does."""
        for replica in self._replicas:
            status = replica.stop()
            if status != 0:
                self.complaints.append(f"{replica.replica_id} ended with {status}")
            self._bury(replica)

    def _bury(self, replica: GatewayProcess) -> None:
        self.lives.append((replica.replica_id, replica.log.entries))
        self.complaints += [f"{replica.replica_id}: {line}" for line in replica.failures()]

    def _shuffled(self) -> Iterable[GatewayProcess]:
        return random.sample(self._replicas, len(self._replicas))

    def _until(self, moment: float) -> None:
        # The schedule of the faults; no event is waited for.
        self._pace.wait(max(0.0, moment - time.monotonic()))
