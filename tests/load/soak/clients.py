"""Stock clients that lose their connection again and again, and which of them a push is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.gateway_process import GatewayProcess
from tests.support.journal import Entry, Journal
from tests.support.node_script import NodeScript

SCRIPT = Path(__file__).with_name("soak.mjs")
ROOMS = 20
CONNECT_SECONDS = 60.0
HEAR_SECONDS = 60.0

AWAY_TWO_SECONDS = {"reconnectionDelay": 2000, "reconnectionDelayMax": 2000, "randomizationFactor": 0}
"""Options of ``io()``: reconnect after 2 s, and every 2 s."""
CARRIERS = (("polling",), ("websocket",))
WAYS = (*["closed"] * 7, *["torn"] * 2, "silent")
"""How connections break, of ten: the client closes its engine; the network breaks so that the client notices and the
server does not; the network drops all packets, so that neither notices."""


@dataclass(frozen=True)
class Manner:
    """How the clients behave. ``up_seconds``: shortest and longest time for which a client stays connected; None: no
    client is dropped. ``transports``: those of each client, in turn."""

    options: dict[str, Any] = field(default_factory=lambda: dict(AWAY_TWO_SECONDS))
    auth: dict[str, Any] = field(default_factory=dict)
    transports: Sequence[Sequence[str]] = CARRIERS
    ways: Sequence[str] = WAYS
    up_seconds: tuple[float, float] | None = (3.0, 7.0)


@dataclass(frozen=True)
class Member:
    """One client; its sid stays the same as long as it is recovered."""

    id: str
    user: str
    transports: tuple[str, ...]
    rooms: frozenset[str]
    sid: str

    def is_in(self, names: Collection[str]) -> bool:
        """Whether one of ``names``, rooms or sids, addresses this client."""
        return self.sid in names or not self.rooms.isdisjoint(names)


@dataclass
class Told:
    """The result that one client reports at the end."""

    got: list[tuple[int, str | None]]
    """Number (-1: an event of the gateway) and position of each event, in the order of delivery."""
    connects: list[tuple[float, bool, float]]
    """When (Unix seconds), whether recovered, seconds without a connection before it; the first is no reconnect."""
    failed: list[str]
    """Codes of ``recovery:failed``."""
    left: Counter[str]
    errors: Counter[str]
    dropped: Counter[str]
    replicas: list[str] = field(default_factory=list)
    """The replica of each connect."""
    upgrades: int = 0
    answered: int = 0
    """How many of its events with an acknowledgement were answered."""
    carrier: str = ""
    """Its transport at the end."""

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Told:
        return cls(
            [(number, position) for number, position in entry["got"]],
            [(at / 1000, recovered, away / 1000) for at, recovered, away in entry["connects"]],
            entry["failed"],
            Counter(entry["left"]),
            Counter(entry["errors"]),
            Counter(entry["dropped"]),
            replicas=entry["replicas"],
            upgrades=entry["upgrades"],
            answered=entry["answered"],
            carrier=entry["carrier"],
        )


class Crowd:
    """Two clients of each user, spread over ``processes`` Node processes; used as a context."""

    def __init__(self, count: int, manner: Manner, *, processes: int = 1) -> None:
        self._count = count
        self._manner = manner
        self._processes = processes
        self._scripts: list[NodeScript] = []
        self.members: list[Member] = []

    def __enter__(self) -> Crowd:
        for number in range(self._processes):
            self._scripts.append(NodeScript(SCRIPT, Journal(f"the clients of the crowd, process {number}")))
        ready = [script.ready() for script in self._scripts]
        self.versions = ready[0]
        return self

    def __exit__(self, *_: object) -> None:
        for script in self._scripts:
            script.stop()

    def come(self, replicas: Sequence[GatewayProcess], url: str | None = None) -> None:
        """Connect all clients, each to one of ``replicas``, or all to ``url``; return once all are connected."""
        self.choose(replicas)
        plans = [self._plan(number) for number in range(self._count)]
        clients = [
            {"token": replicas[0].token(user, rooms=rooms), "transports": transports}
            for user, transports, rooms in plans
        ]
        manner = self._manner
        plan = {"options": manner.options, "auth": manner.auth, "ways": manner.ways, "url": url}
        for number, script in enumerate(self._scripts):
            share = clients[number :: self._processes]
            script.send({"do": "begin", "clients": share, "upSeconds": manner.up_seconds} | plan)
        sids = self._in_order([entry["sids"] for entry in self._expect("connected", CONNECT_SECONDS)])
        self.members = [
            Member(str(number), user, transports, frozenset([f"user:{user}", *rooms]), sid)
            for number, ((user, transports, rooms), sid) in enumerate(zip(plans, sids, strict=True))
        ]
        if manner.up_seconds is not None:
            self._tell("drop")

    def choose(self, replicas: Sequence[GatewayProcess]) -> None:
        """Let clients reconnect to one of ``replicas`` from now on."""
        self._tell("choose", ports=[replica.ports[0] for replica in replicas])

    def entitled(self, rooms: Collection[str] | None, exclude: Collection[str]) -> frozenset[str]:
        """Return the ids of the clients that a push to these rooms (None: to everyone) is for."""
        return frozenset(
            member.id
            for member in self.members
            if (rooms is None or member.is_in(rooms)) and not member.is_in(exclude)
        )

    def settle(self, *, seconds: float = CONNECT_SECONDS) -> None:
        """Wait until every client is connected, and upgraded where it can be."""
        self._ask("settle", "settled", seconds)

    def ask(self) -> None:
        """Let every client send an event; return once each was acknowledged."""
        self._ask("ask", "answered", CONNECT_SECONDS)

    def calm(self) -> None:
        """Drop no client any more."""
        self._tell("calm")

    def hears_last(self) -> bool:
        """Wait until every client received the event ``last``; return whether all did."""
        try:
            self._expect("heard", HEAR_SECONDS)
        except AssertionError:
            return False
        return True

    def tell(self) -> dict[str, Told]:
        """Return the result of each client, by id."""
        self._ask("tell", "told", CONNECT_SECONDS)
        found = [
            [entry for entry in script.journal.entries if entry["type"] == "result"]
            for script in self._scripts
        ]
        results = self._in_order(found)
        return {member.id: Told.of(result) for member, result in zip(self.members, results, strict=True)}

    def _plan(self, number: int) -> tuple[str, tuple[str, ...], list[str]]:
        """Return user, transports and rooms of a client."""
        rooms = dict.fromkeys(
            [f"room-{number % ROOMS}", f"room-{(number * 7 + 3) % ROOMS}", f"half-{number % 4 // 2}"]
        )
        kinds = self._manner.transports
        return f"user-{number // 2}", tuple(kinds[number % len(kinds)]), list(rooms)

    def _in_order(self, shares: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the items of all clients in order, from those of each process."""
        return [shares[number % self._processes][number // self._processes] for number in range(self._count)]

    def _tell(self, do: str, **command: Any) -> None:
        for script in self._scripts:
            script.send({"do": do} | command)

    def _ask(self, do: str, answer: str, seconds: float) -> None:
        """Have something done that may have been done before; returns once it was done now."""
        seen = [len(script.journal.entries) for script in self._scripts]
        self._tell(do)
        for script, after in zip(self._scripts, seen, strict=True):
            script.expect(answer, seconds=seconds, after=after)

    def _expect(self, kind: str, seconds: float) -> list[Entry]:
        return [script.expect(kind, seconds=seconds) for script in self._scripts]
