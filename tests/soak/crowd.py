"""Stock clients that lose their connection again and again, and who of them a push is for."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.harness.journal import Journal
from tests.harness.process import GatewayProcess

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("soak.mjs")
ROOMS = 20
CONNECT_SECONDS = 60.0
HEAR_SECONDS = 60.0

AWAY_TWO_SECONDS = {"reconnectionDelay": 2000, "reconnectionDelayMax": 2000, "randomizationFactor": 0}
"""Options of ``io()``: whoever lost its connection tries again after 2 s, and every 2 s."""
WAYS = (*["closed"] * 7, *["torn"] * 2, "silent")
"""How connections break, out of ten: the client closes its engine; the network tears so that the client knows it and
the server does not; the network falls silent, so that neither knows."""


@dataclass(frozen=True)
class Manner:
    """How the clients behave. ``up_seconds``: for how long they stay, between these two; None: nobody drops them."""

    options: dict[str, Any] = field(default_factory=lambda: dict(AWAY_TWO_SECONDS))
    auth: dict[str, Any] = field(default_factory=dict)
    ways: Sequence[str] = WAYS
    up_seconds: tuple[float, float] | None = (3.0, 7.0)


@dataclass(frozen=True)
class Member:
    """One client; its sid is the same for as long as it is recovered."""

    id: str
    user: str
    transport: str
    rooms: frozenset[str]
    sid: str

    def is_in(self, names: Collection[str]) -> bool:
        """Whether one of these, rooms or sids, means it."""
        return self.sid in names or not self.rooms.isdisjoint(names)


@dataclass
class Told:
    """What one client tells of itself in the end."""

    got: list[tuple[int, str | None]]
    """Number (-1: the gateway's own) and position of each event, in the order in which they came."""
    connects: list[tuple[float, bool, float]]
    """When (Unix seconds), whether recovered, for how many seconds it had been away; the first is no reconnect."""
    failed: list[str]
    """Codes of ``recovery:failed``."""
    left: Counter[str]
    errors: Counter[str]
    dropped: Counter[str]

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Told:
        return cls(
            [(number, position) for number, position in entry["got"]],
            [(at / 1000, recovered, away / 1000) for at, recovered, away in entry["connects"]],
            entry["failed"],
            *(Counter(entry[name]) for name in ("left", "errors", "dropped")),
        )


class Crowd:
    """Two clients of each user, one on polling and one on WebSocket; used as a context."""

    def __init__(self, count: int, manner: Manner) -> None:
        self._count = count
        self._manner = manner
        self._journal = Journal("the clients of the soak")
        self.members: list[Member] = []

    def __enter__(self) -> Crowd:
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tools" / "node.py"), str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.versions = self._wait("ready")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def come(self, replicas: Sequence[GatewayProcess]) -> None:
        """All connect, each to one of these; returns once all are in."""
        self.choose(replicas)
        plans = [_plan(number) for number in range(self._count)]
        clients = [
            {"token": replicas[0].token(user, rooms=rooms), "transports": [transport]}
            for user, transport, rooms in plans
        ]
        manner = self._manner
        up = manner.up_seconds
        self._tell(
            "begin", clients=clients, options=manner.options, auth=manner.auth, ways=manner.ways, upSeconds=up
        )
        sids = self._wait("connected", CONNECT_SECONDS)["sids"]
        self.members = [
            Member(str(number), user, transport, frozenset([f"user:{user}", *rooms]), sid)
            for number, ((user, transport, rooms), sid) in enumerate(zip(plans, sids, strict=True))
        ]
        if up is not None:
            self._tell("drop")

    def choose(self, replicas: Sequence[GatewayProcess]) -> None:
        """Whoever comes back comes to one of these from now on."""
        self._tell("choose", ports=[replica.ports[0] for replica in replicas])

    def entitled(self, rooms: Collection[str] | None, exclude: Collection[str]) -> frozenset[str]:
        """The ids of whom a push to these rooms (None: to everyone) is for."""
        return frozenset(
            member.id
            for member in self.members
            if (rooms is None or member.is_in(rooms)) and not member.is_in(exclude)
        )

    def calm(self) -> None:
        """Nobody is dropped any more."""
        self._tell("calm")

    def hears_last(self) -> bool:
        """Wait until the event ``last`` came to everyone; whether it did."""
        try:
            self._wait("heard", HEAR_SECONDS)
        except AssertionError:
            return False
        return True

    def tell(self) -> dict[str, Told]:
        """What became of each, by id."""
        self._tell("tell")
        self._wait("told", CONNECT_SECONDS)
        results = [entry for entry in self._journal.entries if entry["type"] == "result"]
        return {member.id: Told.of(result) for member, result in zip(self.members, results, strict=True)}

    def _tell(self, do: str, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do} | command) + "\n")
        self._process.stdin.flush()

    def _wait(self, kind: str, seconds: float = 15.0) -> dict[str, Any]:
        found = self._journal.wait(lambda entry: entry["type"] in {kind, "failed"}, timeout=seconds)
        assert found["type"] == kind, found["message"]
        return found

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                # A process that is killed may leave half a line behind.
                if line.endswith("\n"):
                    self._journal.add(json.loads(line))
        self._journal.end()


def _plan(number: int) -> tuple[str, str, list[str]]:
    """User, transport and rooms of a client."""
    rooms = dict.fromkeys(
        [f"room-{number % ROOMS}", f"room-{(number * 7 + 3) % ROOMS}", f"half-{number % 4 // 2}"]
    )
    return f"user-{number // 2}", ("polling", "websocket")[number % 2], list(rooms)
