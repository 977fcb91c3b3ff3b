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

from tests.load.soak.clients import Crowd, Member
from tests.support.backend import Backend
from tests.support.traffic import ACCEPTED, NO_ANSWER, Push

BACKENDS = 12
ANSWER_SECONDS = 4.0
AGAIN_SECONDS = 0.1
PATIENCE_SECONDS = 60.0
REPEATED = frozenset({409, 502, 503, 504})
"""Statuses of a gateway, or of a proxy that got no answer from one, after which a push is repeated."""
LARGE_BYTES = 70_000
"""Size of one of a hundred pushes to a user."""
KINDS = {"user": 80, "room": 10, "rooms": 6, "broadcast": 2, "volatile": 2}
"""Of a hundred pushes."""


class Door(Protocol):
    """Anything that accepts pushes: a replica, or a proxy in front of several."""

    @property
    def backend(self) -> Backend: ...


class Pushing:
    """Pushes while its context is open. ``with_sids``: some pushes except a client by its sid."""

    def __init__(
        self, crowd: Crowd, doors: Sequence[Door], *, per_second: float, with_sids: bool = True
    ) -> None:
        self.pushes: list[Push] = []
        self._crowd = crowd
        self._living = list(doors)
        self._with_sids = with_sids
        self._pause = BACKENDS / per_second
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._push_on, daemon=True) for _ in range(BACKENDS)]

    def __enter__(self) -> Pushing:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def choose(self, doors: Sequence[Door]) -> None:
        """Push through ``doors`` from now on."""
        self._living = list(doors)

    def stop(self) -> None:
        """Push nothing more; return once every push was accepted or given up."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def last(self) -> None:
        """Broadcast the event ``last``, after all other pushes."""
        push = self._push("/broadcast", {}, frozenset(), "last")
        self._until_accepted(push, random.Random())
        assert push.accepted, push.answers

    def _push_on(self) -> None:
        dice = random.Random()
        # At uneven times, or all would push at the same moments. A late backend sends its next push sooner: the rate
        # is kept.
        due = time.monotonic() + dice.uniform(0.0, self._pause)
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += dice.uniform(0.2, 1.8) * self._pause
            push = self._make(dice)
            self.pushes.append(push)
            self._until_accepted(push, dice)

    def _make(self, dice: random.Random) -> Push:
        (kind,) = dice.choices(list(KINDS), list(KINDS.values()))
        one, other = dice.sample(self._crowd.members, 2)
        if kind == "user":
            pad = "x" * LARGE_BYTES if dice.random() < 0.01 else ""
            return self._to({f"user:{one.user}"}, f"/emit/user/{one.user}", {}, [], pad)
        if kind == "broadcast":
            return self._to(None, "/broadcast", {}, dice.choice([[], self._spared(one, dice)]))
        rooms = sorted(room for room in one.rooms | other.rooms if room.startswith("room-"))
        if kind == "rooms":
            return self._to(set(rooms), "/emit/room", {"rooms": rooms}, self._spared(other, dice))
        room = dice.choice(rooms)
        volatile = {"volatile": True} if kind == "volatile" else {}
        return self._to({room}, "/emit/room", {"room": room} | volatile, [])

    def _spared(self, member: Member, dice: random.Random) -> list[str]:
        choices = [[room] for room in sorted(member.rooms)]
        return dice.choice([*choices, [member.sid]] if self._with_sids else choices)

    def _to(
        self, rooms: set[str] | None, target: str, fields: dict[str, Any], exclude: list[str], pad: str = ""
    ) -> Push:
        named = fields | ({"except": exclude} if exclude else {})
        return self._push(target, named, self._crowd.entitled(rooms, exclude), "news", pad)

    def _push(
        self, target: str, fields: dict[str, Any], entitled: frozenset[str], event: str, pad: str = ""
    ) -> Push:
        number = next(self._numbers)
        return Push(number, target, fields | {"event": event, "data": {"n": number, "pad": pad}}, entitled)

    def _until_accepted(self, push: Push, dice: random.Random) -> None:
        deadline = push.started_at + PATIENCE_SECONDS
        while self._again(push, dice) and time.monotonic() < deadline:
            time.sleep(AGAIN_SECONDS)

    def _again(self, push: Push, dice: random.Random) -> bool:
        """Push once; return whether it must be repeated with the same Idempotency-Key, as the REST contract says."""
        backend = replace(dice.choice(self._living).backend, timeout=ANSWER_SECONDS)
        status = 503
        try:
            answer = backend.post(push.target, push.body, idempotency_key=f"{self._run}-{push.number}")
            status = answer.status
            is_of_a_gateway = "json" in answer.headers.get("content-type", "")
            said = (
                ACCEPTED if status == 200 else answer.body["code"] if is_of_a_gateway else f"proxy {status}"
            )
        except (OSError, http.client.HTTPException):
            said = NO_ANSWER
        push.answers.append(said)
        push.answered_at = time.monotonic()
        return status in REPEATED
