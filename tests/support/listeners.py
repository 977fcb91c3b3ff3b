"""Stock clients on several replicas in known rooms: which messages each must receive, and which it received."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.journal import Entry

NEWS = "news"
ROOMS = 7
SPREAD = ("websocket", "websocket", "polling")


@dataclass(frozen=True, eq=False)
class Member:
    """One client. It keeps its sid while it is connected and when it recovers its session."""

    client: StockClient
    replica: GatewayProcess
    user: str
    rooms: frozenset[str]

    @cached_property
    def sid(self) -> str:
        return self.client.sid

    def is_in(self, names: Collection[str]) -> bool:
        """Whether one of these rooms or sids addresses the client."""
        return self.sid in names or not self.rooms.isdisjoint(names)


@dataclass
class Received:
    """What one client received: numbers of news in order, codes of ``recovery:failed``, reasons of disconnects."""

    news: list[int] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class ClientGroup:
    """Two clients of each user, on different replicas; two rooms for each client."""

    def __init__(self, node: NodeClients, transports: Sequence[str] = SPREAD) -> None:
        self._node = node
        self._transports = transports
        self.members: list[Member] = []

    def fill(self, replicas: Sequence[GatewayProcess], count: int) -> None:
        """Connect ``count`` more clients."""
        start = len(self.members)
        come = [self._open(replicas, number) for number in range(start, start + count)]
        for member in come:
            member.client.connected()
        self.members += come

    def _open(self, replicas: Sequence[GatewayProcess], number: int) -> Member:
        user = f"user-{number // 2}"
        rooms = [f"room-{number % ROOMS}", f"room-{(number * 3 + 1) % ROOMS}", f"half-{number % 2}"]
        replica = replicas[number % len(replicas)]
        client = self._node.open(
            replica.url,
            token=replica.token(user, rooms=rooms),
            transports=[self._transports[number // len(replicas) % len(self._transports)]],
        )
        return Member(client, replica, user, frozenset([f"user:{user}", *rooms]))

    def at(self, replicas: Collection[GatewayProcess]) -> list[Member]:
        """The clients of these replicas."""
        return [member for member in self.members if member.replica in replicas]

    def entitled(self, rooms: Collection[str] | None, exclude: Collection[str]) -> frozenset[str]:
        """The ids of the clients that must receive a push to these rooms (None: a broadcast)."""
        return frozenset(
            member.client.id
            for member in self.members
            if (rooms is None or member.is_in(rooms)) and not member.is_in(exclude)
        )

    def received(self) -> dict[str, Received]:
        """What each client has received so far, by its id."""
        found = {member.client.id: Received() for member in self.members}
        for entry in self._node.journal.entries:
            received = found.get(entry["id"])
            if received is not None:
                _record(received, entry)
        return found

    def wait_for_event(self, mark: str, members: Iterable[Member], *, seconds: float) -> None:
        """Wait until each of these clients received an event of that name."""
        missing = {member.client.id for member in members}

        def was_last(entry: Entry) -> bool:
            if entry["type"] == "event" and entry["event"] == mark:
                missing.discard(entry["id"])
            return not missing

        try:
            self._node.journal.wait(was_last, timeout=seconds)
        except AssertionError as late:
            raise AssertionError(
                f"{len(missing)} clients did not receive the last push in {seconds} s"
            ) from late

    def leave(self) -> None:
        """Disconnect every client."""
        for member in self.members:
            member.client.disconnect()


def _record(received: Received, entry: Entry) -> None:
    if entry["type"] == "disconnect":
        received.left.append(entry["reason"])
    elif entry["type"] == "event" and entry["event"] == NEWS:
        received.news.append(entry["args"][0]["n"])
    elif entry["type"] == "event" and entry["event"] == "recovery:failed":
        received.gaps.append(entry["args"][0]["code"])
