"""Replicas that are killed or rolled, one after the other."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.process import GatewayProcess

Choose = Callable[[Sequence[GatewayProcess]], None]
"""Is told which replicas clients and backends are to choose from."""

KILL, KILL_FOR_LONG, ROLL = "kill -9", "kill -9, away past its lease", "SIGTERM"


@dataclass(frozen=True)
class Blow:
    """What was done to a replica, when (Unix seconds), and for how long it was not there."""

    kind: str
    replica: str
    at: float
    away_seconds: float


class Breaking:
    """Breaks one replica at a time. Whoever chooses a replica hears of it only once it has ended."""

    def __init__(self, replicas: Sequence[GatewayProcess], choose: Choose, *, lease_seconds: float) -> None:
        self.blows: list[Blow] = []
        self.complaints: list[str] = []
        """What a replica should not have done: an exit status that is not 0, an error in its log."""
        self.lives: list[tuple[str, list[dict[str, Any]]]] = []
        """The log of each life that ended: replica, lines."""
        self._replicas = list(replicas)
        self._choose = choose
        self._lease_seconds = lease_seconds
        self._pace = threading.Event()

    def go_on(self, kinds: Sequence[str], *, every: float, seconds: float) -> None:
        """One blow after the other, at the middle of each ``every`` seconds; returns when the time is up."""
        began = time.monotonic()
        order = itertools.chain.from_iterable(self._shuffled() for _ in itertools.count())
        for number, replica in zip(range(round(seconds / every)), order, strict=False):
            self._until(began + (number + 0.5) * every)
            self.strike(kinds[number % len(kinds)], replica)
        self._until(began + seconds)

    def roll_all(self, *, pause: float) -> None:
        """Each is rolled once, with so many seconds between them."""
        for replica in self._replicas:
            self.rest(pause)
            self.strike(ROLL, replica)
        self.rest(pause)

    def rest(self, seconds: float) -> None:
        """The load goes on, and nothing else happens."""
        self._until(time.monotonic() + seconds)

    def strike(self, kind: str, replica: GatewayProcess) -> None:
        """Take a replica away and bring it back; returns once it listens again."""
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
        """All stop, as when an orchestrator asks them to."""
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
        # The pace of the blows; nothing is waited for.
        self._pace.wait(max(0.0, moment - time.monotonic()))
