"""What lists show of the shared state: users, rooms, connections and replicas, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.domain.event_catalogue import EventCatalogue, RoomRule
from gateway.domain.presence import PresentConnection
from gateway.domain.socket_data import StoredData

MAX_PAGE_BYTES: Final = 256 * 1024
"""A page of connections ends once its rooms and its socket data take so many bytes."""


class Slice(NamedTuple):
    """Which part of a list is asked for: at most ``limit`` items behind ``after``; empty means from the beginning."""

    limit: int
    after: str = ""


class ListedName(NamedTuple):
    """A user or a room, and how many connections there are."""

    name: str
    connections: int


@dataclass(frozen=True, slots=True)
class NamePage:
    """Users or rooms, ordered by code points. ``next``: what to read the next page after; empty at the end.

    ``is_complete``: false while a replica of a former release lives, whose users and rooms may be missing.
    """

    names: tuple[ListedName, ...]
    next: str = ""
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class ConnectionDetails:
    """A connection with its rooms, without the room of its sid, in their order, and with its socket data."""

    connection: PresentConnection
    rooms: tuple[str, ...] = ()
    stored: StoredData = field(default_factory=StoredData)


@dataclass(frozen=True, slots=True)
class ConnectionPage:
    """Connections in the order of their sids; the rest as in NamePage."""

    connections: tuple[ConnectionDetails, ...]
    next: str = ""
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class RoomSummary:
    """What is in a room. ``users``: how many different users its members are; None if its rule does not list them.

    ``recoverable``: how many further connections were lost and may still be resumed.
    """

    connections: int
    recoverable: int = 0
    users: int | None = None
    is_complete: bool = True


class NamespaceSummary(NamedTuple):
    """How many connections, rooms and users a namespace has. Rooms of sids do not count."""

    connections: int
    rooms: int
    users: int


class ReplicaSummary(NamedTuple):
    """A living replica. ``version`` of its release, None for a former release that does not name it.

    ``since``: when its process started, in seconds since 1970; of a former release, when it took its lease.
    """

    id: str
    connections: int
    version: str | None
    since: float


@dataclass(frozen=True, slots=True)
class StateSummary:
    """How much there is in the shared state. ``users`` are those of all namespaces, each counted once."""

    users: int
    namespaces: Mapping[str, NamespaceSummary]
    replicas: tuple[ReplicaSummary, ...]
    is_complete: bool = True

    @property
    def connections(self) -> int:
        """The connections of all namespaces."""
        return sum(each.connections for each in self.namespaces.values())

    @property
    def rooms(self) -> int:
        """The rooms of all namespaces."""
        return sum(each.rooms for each in self.namespaces.values())


@dataclass(frozen=True, slots=True)
class MemberRules:
    """Which rooms have a list of their members. ``rules`` are those of the namespaces where a rule lists members."""

    rules: Mapping[str, tuple[RoomRule, ...]] = field(default_factory=dict)

    def lists(self, namespace: str, room: str) -> bool:
        """Whether the first rule that matches the room lists its members."""
        for rule in self.rules.get(namespace, ()):
            if rule.match.matches(room):
                return rule.list_members
        return False


def member_rules_of(catalogue: EventCatalogue) -> MemberRules:
    """Return the rules of a catalogue."""
    return MemberRules(
        {
            name: each.rooms
            for name, each in catalogue.namespaces.items()
            if any(rule.list_members for rule in each.rooms)
        }
    )
