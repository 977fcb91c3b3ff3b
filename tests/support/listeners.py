"""Stock clients spread over replicas, each in rooms that are known: who is to hear what, and who heard what."""

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
    """One client. Its sid stays while it is connected; who comes back by itself keeps it too."""

    client: StockClient
    replica: GatewayProcess
    user: str
    rooms: frozenset[str]

    @cached_property
    def sid(self) -> str:
        return self.client.sid

    def is_in(self, names: Collection[str]) -> bool:
        """Whether one of these, rooms or sids, means it."""
        return self.sid in names or not self.rooms.isdisjoint(names)


@dataclass
class Heard:
    """What one client heard: the numbers of news in the order in which they came, and what it was told of gaps."""

    news: list[int] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Audience:
    """Two clients of each user, on different replicas; two rooms for each client."""

    def __init__(self, node: NodeClients, transports: Sequence[str] = SPREAD) -> None:
        self._node = node
        self._transports = transports
        self.members: list[Member] = []

    def fill(self, replicas: Sequence[GatewayProcess], count: int) -> None:
        """Let so many more come in."""
        start = len(self.members)
        come = [self._open(replicas, number) for number in range(start, start + count)]
        for member in come:
            member.client.connected(timeout=30)
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
        """The ids of whom a push to these rooms (None: to everyone) is for."""
        return frozenset(
            member.client.id
            for member in self.members
            if (rooms is None or member.is_in(rooms)) and not member.is_in(exclude)
        )

    def heard(self) -> dict[str, Heard]:
        """By id, up to now."""
        found = {member.client.id: Heard() for member in self.members}
        for entry in self._node.journal.entries:
            heard = found.get(entry["id"])
            if heard is not None:
                _note(heard, entry)
        return found

    def hears(self, mark: str, members: Iterable[Member], *, seconds: float) -> None:
        """Wait until an event of that name came to all of them."""
        missing = {member.client.id for member in members}

        def was_last(entry: Entry) -> bool:
            if entry["type"] == "event" and entry["event"] == mark:
                missing.discard(entry["id"])
            return not missing

        try:
            self._node.journal.wait(was_last, timeout=seconds)
        except AssertionError as late:
            raise AssertionError(
                f"{len(missing)} clients did not hear the last push in {seconds} s"
            ) from late

    def leave(self) -> None:
        """All go."""
        for member in self.members:
            member.client.disconnect()


def _note(heard: Heard, entry: Entry) -> None:
    if entry["type"] == "disconnect":
        heard.left.append(entry["reason"])
    elif entry["type"] == "event" and entry["event"] == NEWS:
        heard.news.append(entry["args"][0]["n"])
    elif entry["type"] == "event" and entry["event"] == "recovery:failed":
        heard.gaps.append(entry["args"][0]["code"])
