"""Steady traffic over several replicas: backends that push one message after the other, each through any replica, and
record the answers.
"""

from __future__ import annotations

import http.client
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from tests.support.gateway_process import GatewayProcess
from tests.support.listeners import NEWS, ClientGroup
from tests.support.waiter import TIMEOUT_SECONDS

BACKENDS = 6
ANSWER_SECONDS = 4.0
REST_SECONDS = 1.0
"""How long backends avoid a replica that gave no answer, as a load balancer does."""
NO_ANSWER = "no_answer"
ACCEPTED = "accepted"
UNKNOWN = frozenset({NO_ANSWER, "broker_timeout"})
"""Outcomes after which a backend repeats the push with the same Idempotency-Key."""
LARGE = 70_000


@dataclass(eq=False)
class Push:
    """One push: the clients that must receive it, and its answers from first to last."""

    number: int
    target: str
    body: dict[str, Any]
    entitled: frozenset[str]
    started_at: float = field(default_factory=time.monotonic)
    answered_at: float = float("inf")
    answers: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        return self.answers[-1] == ACCEPTED

    @property
    def first(self) -> str:
        return self.answers[0]


class Traffic:
    """Backends that push while the context is open, or until ``stop``."""

    def __init__(
        self, replicas: Sequence[GatewayProcess], clients: ClientGroup, *, per_second: float, run: str
    ) -> None:
        """``run`` is the prefix of every Idempotency-Key. Each run has a new random seed, which a failure names."""
        self.seed = random.randrange(1_000_000)
        self.replicas = list(replicas)
        self.pushes: list[Push] = []
        self._clients = clients
        self._pause = BACKENDS / per_second
        self._run = run
        self._numbers = itertools.count()
        self._resting: dict[GatewayProcess, float] = {}
        self._over = threading.Event()
        self._answered = threading.Condition()
        self._threads = [
            threading.Thread(target=self._push_on, args=(random.Random(self.seed + number),), daemon=True)
            for number in range(BACKENDS)
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop pushing. Returns when every push has its answer."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def first_answers(self) -> Counter[str]:
        """The number of pushes by their first answer."""
        return Counter(push.first for push in list(self.pushes) if push.answers)

    def wait_for_answers(
        self, count: int, *, answer: str = ACCEPTED, seconds: float = TIMEOUT_SECONDS
    ) -> None:
        """Wait until ``count`` more pushes have that first answer."""
        wanted = self.first_answers[answer] + count
        with self._answered:
            came = self._answered.wait_for(lambda: self.first_answers[answer] >= wanted, timeout=seconds)
        assert came, f"not {count} more {answer} within {seconds} s; until now {self.first_answers}"

    def without(self, replica: GatewayProcess) -> None:
        """Stop pushing through this replica."""
        self.replicas = [each for each in self.replicas if each is not replica]

    def repeat(self, *, seconds: float = TIMEOUT_SECONDS) -> None:
        """Repeat each push with an unknown outcome, with its Idempotency-Key, until the outcome is known."""
        deadline = time.monotonic() + seconds
        for push in self.pushes:
            while push.answers[-1] in UNKNOWN or (len(push.answers) > 1 and not push.accepted):
                assert time.monotonic() < deadline, f"{push.number} could not be repeated: {push.answers}"
                self._send(push, self.replicas[push.number % len(self.replicas)])

    def _push_on(self, dice: random.Random) -> None:
        # Unevenly, or all would push at the same moments and a fault might always fall between two of them.
        due = time.monotonic() + dice.uniform(0.0, self._pause)
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due + dice.uniform(0.2, 1.8) * self._pause, time.monotonic())
            push = self._make(dice)
            self.pushes.append(push)
            self._send(push, self._choose(dice))

    def _choose(self, dice: random.Random) -> GatewayProcess:
        now = time.monotonic()
        replicas = self.replicas
        return dice.choice([each for each in replicas if self._resting.get(each, 0.0) < now] or replicas)

    def _make(self, dice: random.Random) -> Push:
        number = next(self._numbers)
        members = self._clients.members
        one, other = dice.sample(members, 2)
        rooms = sorted(other.rooms)
        kinds: list[tuple[str, dict[str, Any], set[str] | None]] = [
            (f"/emit/user/{quote(one.user, safe='')}", {}, {f"user:{one.user}"}),
            ("/emit/room", {"room": rooms[0]}, {rooms[0]}),
            ("/emit/room", {"rooms": rooms[:2]}, set(rooms[:2])),
            ("/broadcast", {}, None),
        ]
        target, fields, to = dice.choice(kinds)
        exclude = dice.choice([[], [], [one.sid], sorted(one.rooms)[1:2]])
        news = {"n": number, "pad": "x" * (LARGE if to and len(to) == 1 and dice.random() < 0.03 else 20)}
        body = fields | {"event": NEWS, "data": news} | ({"except": exclude} if exclude else {})
        return Push(number, target, body, self._clients.entitled(to, exclude))

    def _send(self, push: Push, replica: GatewayProcess) -> None:
        backend = replace(replica.backend, timeout=ANSWER_SECONDS)
        try:
            answer = backend.post(push.target, push.body, idempotency_key=f"{self._run}-{push.number}")
            outcome = ACCEPTED if answer.status == 200 else answer.body["code"]
        except (OSError, http.client.HTTPException):
            outcome = NO_ANSWER
            self._resting[replica] = time.monotonic() + REST_SECONDS
        with self._answered:
            push.answers.append(outcome)
            push.answered_at = time.monotonic()
            self._answered.notify_all()
