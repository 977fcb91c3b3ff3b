"""Backends that push at a given rate through any replica, and repeat each push until it is accepted."""

from __future__ import annotations

import http.client
import itertools
import random
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from tests.load.soak.clients import Member, SoakClients
from tests.support.backend import Backend
from tests.support.traffic import ACCEPTED, NO_ANSWER, Push

BACKENDS = 12
ANSWER_TIMEOUT_SECONDS = 4.0
RETRY_DELAY_SECONDS = 0.1
REPEAT_SECONDS = 60.0
"""For how long a push is repeated until it is accepted."""
REPEATED_STATUSES = frozenset({409, 502, 503, 504})
"""Statuses of a gateway, or of a proxy that got no answer from one, after which a push is repeated."""
LARGE_BYTES = 70_000
"""Size of one of a hundred pushes to a user."""
KINDS = {"user": 80, "room": 10, "rooms": 6, "broadcast": 2, "volatile": 2}
"""Kinds of pushes: how many of a hundred."""


class PushTarget(Protocol):
    """Anything that accepts pushes: a replica, or a proxy in front of several."""

    @property
    def backend(self) -> Backend: ...


class PushLoad:
    """Backends that push while the context is open.

    ``with_sids``: some pushes except a client by its sid. ``gives_up``: the share of the pushes that are not repeated
    when they are first answered ``broker_unavailable``.
    """

    def __init__(
        self,
        clients: SoakClients,
        targets: Sequence[PushTarget],
        *,
        per_second: float,
        with_sids: bool = True,
        gives_up: float = 0.0,
    ) -> None:
        self.pushes: list[Push] = []
        self._clients = clients
        self._targets = list(targets)
        self._with_sids = with_sids
        self._gives_up = gives_up
        self._pause = BACKENDS / per_second
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run_backend, daemon=True) for _ in range(BACKENDS)]

    def __enter__(self) -> PushLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def choose(self, targets: Sequence[PushTarget]) -> None:
        """Push through ``targets`` from now on."""
        self._targets = list(targets)

    def stop(self) -> None:
        """Push nothing more; return once every push was accepted or given up."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def push_last(self) -> None:
        """Broadcast the event ``last``; no push may follow."""
        push = self._push("/broadcast", {}, frozenset(), "last")
        deadline = time.monotonic() + REPEAT_SECONDS
        while not push.answers or (not push.accepted and time.monotonic() < deadline):
            self._push_until_accepted(push, random.Random())
        assert push.accepted, push.answers

    def _run_backend(self) -> None:
        rng = random.Random()
        # At random intervals, so that backends do not push at the same moments. A late backend sends its next push
        # sooner, which keeps the rate.
        due = time.monotonic() + rng.uniform(0.0, self._pause)
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            due += rng.uniform(0.2, 1.8) * self._pause
            push = self._make(rng)
            self.pushes.append(push)
            self._push_until_accepted(push, rng)

    def _make(self, rng: random.Random) -> Push:
        (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
        one, other = rng.sample(self._clients.members, 2)
        if kind == "user":
            pad = "x" * LARGE_BYTES if rng.random() < 0.01 else ""
            return self._to({f"user:{one.user}"}, f"/emit/user/{one.user}", {}, [], pad)
        if kind == "broadcast":
            return self._to(None, "/broadcast", {}, rng.choice([[], self._excluded(one, rng)]))
        rooms = sorted(room for room in one.rooms | other.rooms if room.startswith("room-"))
        if kind == "rooms":
            return self._to(set(rooms), "/emit/room", {"rooms": rooms}, self._excluded(other, rng))
        room = rng.choice(rooms)
        volatile = {"volatile": True} if kind == "volatile" else {}
        return self._to({room}, "/emit/room", {"room": room} | volatile, [])

    def _excluded(self, member: Member, rng: random.Random) -> list[str]:
        choices = [[room] for room in sorted(member.rooms)]
        return rng.choice([*choices, [member.sid]] if self._with_sids else choices)

    def _to(
        self, rooms: set[str] | None, target: str, fields: dict[str, Any], exclude: list[str], pad: str = ""
    ) -> Push:
        body = fields | ({"except": exclude} if exclude else {})
        return self._push(target, body, self._clients.entitled(rooms, exclude), "news", pad)

    def _push(
        self, target: str, fields: dict[str, Any], entitled: frozenset[str], event: str, pad: str = ""
    ) -> Push:
        number = next(self._numbers)
        return Push(number, target, fields | {"event": event, "data": {"n": number, "pad": pad}}, entitled)

    def _push_until_accepted(self, push: Push, rng: random.Random) -> None:
        deadline = push.started_at + REPEAT_SECONDS
        while self._push_once(push, rng) and time.monotonic() < deadline:
            if push.answers == ["broker_unavailable"] and rng.random() < self._gives_up:
                return
            time.sleep(RETRY_DELAY_SECONDS)

    def _push_once(self, push: Push, rng: random.Random) -> bool:
        """Push once; return whether the REST contract requires a repeat with the same Idempotency-Key."""
        backend = replace(rng.choice(self._targets).backend, timeout=ANSWER_TIMEOUT_SECONDS)
        status = 503
        try:
            answer = backend.post(push.target, push.body, idempotency_key=f"{self._run}-{push.number}")
            status = answer.status
            is_from_gateway = "json" in answer.headers.get("content-type", "")
            outcome = (
                ACCEPTED if status == 200 else answer.body["code"] if is_from_gateway else f"proxy {status}"
            )
        except (OSError, http.client.HTTPException):
            outcome = NO_ANSWER
        push.answers.append(outcome)
        push.answered_at = time.monotonic()
        return status in REPEATED_STATUSES
