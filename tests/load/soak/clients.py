"""Stock clients whose connections break repeatedly, and which of them a push is addressed to."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.gateway_process import GatewayProcess
from tests.support.journal import Entry, Journal
from tests.support.node_script import NodeScript

SCRIPT = Path(__file__).with_name("soak.mjs")
ROOMS = 20
CONNECT_SECONDS = 60.0
NOT_RECOVERED, RECOVERY_FAILED = -2, -3
"""Instead of the number of an event: the client connected and was not recovered; it got ``recovery:failed``."""
RECEIVE_SECONDS = 60.0

RECONNECT_AFTER_TWO_SECONDS = {
    "reconnectionDelay": 2000,
    "reconnectionDelayMax": 2000,
    "randomizationFactor": 0,
}
"""Options of ``io()``: reconnect after 2 s, and every 2 s."""
TRANSPORTS = (("polling",), ("websocket",))
BREAKS = (*["closed"] * 7, *["torn"] * 2, "silent")
"""How connections break, of ten: the client closes its engine; the network breaks so that the client notices and the
server does not; the network drops all packets, so that neither notices."""


@dataclass(frozen=True)
class ClientBehaviour:
    """How clients connect, and how their connections break.

    ``up_seconds``: shortest and longest time for which a client stays connected; None: no client is dropped.
    ``transports``: those of each client, in turn. ``claims``: further ones of the tokens.
    ``address``: their own, if they connect without relays.
    """

    options: dict[str, Any] = field(default_factory=lambda: dict(RECONNECT_AFTER_TWO_SECONDS))
    auth: dict[str, Any] = field(default_factory=dict)
    transports: Sequence[Sequence[str]] = TRANSPORTS
    breaks: Sequence[str] = BREAKS
    claims: dict[str, Any] = field(default_factory=dict)
    address: str = ""
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
        """Whether one of ``names`` (rooms or sids) addresses this client."""
        return self.sid in names or not self.rooms.isdisjoint(names)


@dataclass
class ClientResult:
    """The result that one client reports at the end."""

    got: list[tuple[int, str | None]]
    """Number and position of each event, in the order of delivery. -1: an event of the gateway; NOT_RECOVERED;
    RECOVERY_FAILED."""
    connects: list[tuple[float, bool, float]]
    """When (Unix seconds), whether recovered, seconds without a connection before it; the first is no reconnect."""
    failed: list[str]
    """Codes of ``recovery:failed``."""
    disconnects: Counter[str]
    """Reasons of ``disconnect``."""
    errors: Counter[str]
    """Errors of ``connect_error``."""
    dropped: Counter[str]
    """How its connections were broken, by the names in BREAKS."""
    replicas: list[str] = field(default_factory=list)
    """The replica of each connect."""
    upgrades: int = 0
    acknowledged: int = 0
    """How many of its events were acknowledged."""
    transport: str = ""
    """Its transport at the end."""
    failed_at: list[float] = field(default_factory=list)
    """When each ``recovery:failed`` arrived, on the monotonic clock of this process."""

    @classmethod
    def from_entry(cls, entry: dict[str, Any]) -> ClientResult:
        wall_ahead = time.time() - time.monotonic()
        return cls(
            [(number, position) for number, position in entry["got"]],
            [(at / 1000, recovered, offline / 1000) for at, recovered, offline in entry["connects"]],
            entry["failed"],
            Counter(entry["disconnects"]),
            Counter(entry["errors"]),
            Counter(entry["dropped"]),
            replicas=entry["replicas"],
            upgrades=entry["upgrades"],
            acknowledged=entry["acknowledged"],
            transport=entry["transport"],
            failed_at=[at / 1000 - wall_ahead for at in entry["failedAt"]],
        )


class SoakClients:
    """Two clients of each user, spread over ``processes`` Node processes; used as a context."""

    def __init__(self, count: int, behaviour: ClientBehaviour, *, processes: int = 1) -> None:
        self._count = count
        self._behaviour = behaviour
        self._processes = processes
        self._scripts: list[NodeScript] = []
        self.members: list[Member] = []

    def __enter__(self) -> SoakClients:
        for number in range(self._processes):
            self._scripts.append(NodeScript(SCRIPT, Journal(f"the soak clients, process {number}")))
        ready = [script.ready() for script in self._scripts]
        self.versions = ready[0]
        return self

    def __exit__(self, *_: object) -> None:
        for script in self._scripts:
            script.stop()

    def connect(self, replicas: Sequence[GatewayProcess], url: str | None = None) -> None:
        """Connect all clients, each to one of ``replicas``, or all to ``url``; return once all are connected."""
        self.choose(replicas)
        behaviour = self._behaviour
        plans = [self._plan(number) for number in range(self._count)]
        clients = [
            {"token": replicas[0].token(user, rooms=rooms, **behaviour.claims), "transports": transports}
            for user, transports, rooms in plans
        ]
        plan = {"options": behaviour.options, "auth": behaviour.auth, "breaks": behaviour.breaks, "url": url}
        plan["localAddress"] = behaviour.address
        for number, script in enumerate(self._scripts):
            share = clients[number :: self._processes]
            script.send({"do": "connect", "clients": share, "upSeconds": behaviour.up_seconds} | plan)
        sids = self._in_order([entry["sids"] for entry in self._expect("connected", CONNECT_SECONDS)])
        self.members = [
            Member(str(number), user, transports, frozenset([f"user:{user}", *rooms]), sid)
            for number, ((user, transports, rooms), sid) in enumerate(zip(plans, sids, strict=True))
        ]
        if behaviour.up_seconds is not None:
            self._send("drop")

    def choose(self, replicas: Sequence[GatewayProcess]) -> None:
        """From now on let clients reconnect to one of ``replicas``."""
        self._send("choose", ports=[replica.ports[0] for replica in replicas])

    def entitled(self, rooms: Collection[str] | None, exclude: Collection[str]) -> frozenset[str]:
        """Return the ids of the clients that a push to these rooms (None: a broadcast) is addressed to."""
        return frozenset(
            member.id
            for member in self.members
            if (rooms is None or member.is_in(rooms)) and not member.is_in(exclude)
        )

    @contextmanager
    def paused(self, process: int) -> Iterator[None]:
        """Suspend one of the Node processes while the context is open: its clients read nothing."""
        self._scripts[process].signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._scripts[process].signal(signal.SIGCONT)

    def wait_until_connected(self, *, seconds: float = CONNECT_SECONDS) -> None:
        """Wait until every client is connected, and upgraded where it can be."""
        self._execute("awaitConnected", "allConnected", seconds)

    def count_disconnects(self) -> int:
        """Return how often clients were disconnected until now."""
        found = self._execute("countDisconnects", "disconnectsCounted", CONNECT_SECONDS)
        return sum(entry["count"] for entry in found)

    def emit_with_ack(self) -> None:
        """Emit an event from every client; return once each was acknowledged."""
        self._execute("emitWithAck", "acknowledged", CONNECT_SECONDS)

    def stop_dropping(self) -> None:
        """Break no more connections."""
        self._send("stopDropping")

    def wait_for_last(self, *, seconds: float = RECEIVE_SECONDS) -> bool:
        """Wait until every client received the event ``last``; return whether all did."""
        self._send("awaitLast")
        try:
            self._expect("receivedLast", seconds)
        except AssertionError:
            return False
        return True

    def results(self) -> dict[str, ClientResult]:
        """Return the result of each client, by id."""
        self._execute("reportResults", "reported", CONNECT_SECONDS)
        found = [
            [entry for entry in script.journal.entries if entry["type"] == "result"]
            for script in self._scripts
        ]
        results = self._in_order(found)
        return {
            member.id: ClientResult.from_entry(result)
            for member, result in zip(self.members, results, strict=True)
        }

    def _plan(self, number: int) -> tuple[str, tuple[str, ...], list[str]]:
        """Return user, transports and rooms of a client."""
        rooms = dict.fromkeys(
            [f"room-{number % ROOMS}", f"room-{(number * 7 + 3) % ROOMS}", f"half-{number % 4 // 2}"]
        )
        kinds = self._behaviour.transports
        return f"user-{number // 2}", tuple(kinds[number % len(kinds)]), list(rooms)

    def _in_order(self, shares: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the items of all clients in order, from those of each process."""
        return [shares[number % self._processes][number // self._processes] for number in range(self._count)]

    def _send(self, do: str, **command: Any) -> None:
        for script in self._scripts:
            script.send({"do": do} | command)

    def _execute(self, do: str, answer: str, seconds: float) -> list[Entry]:
        """Send a command to every process; return the entry ``answer`` that each has reported after it."""
        before = [len(script.journal.entries) for script in self._scripts]
        self._send(do)
        return [
            script.expect(answer, seconds=seconds, after=after)
            for script, after in zip(self._scripts, before, strict=True)
        ]

    def _expect(self, kind: str, seconds: float) -> list[Entry]:
        return [script.expect(kind, seconds=seconds) for script in self._scripts]
