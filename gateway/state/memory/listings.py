"""Lists of users, rooms and connections in memory, and the socket data of connections."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Final, TypeGuard

from gateway.domain.listings import (
    MAX_PAGE_BYTES,
    ConnectionDetails,
    ConnectionPage,
    ListedName,
    MemberRules,
    NamePage,
    NamespaceSummary,
    ReplicaSummary,
    RoomSummary,
    Slice,
    StateSummary,
)
from gateway.domain.messages import Address
from gateway.domain.names import SID_PREFIX, USER_PREFIX, user_room
from gateway.domain.presence import PresentConnection
from gateway.domain.socket_data import StoredData
from gateway.interfaces import Clock

_PART: Final = 1_000
"""Names that one part of SortedNames holds at most, so that a change moves few of them."""


class SortedNames:
    """A set of names, ordered by code points. Changes and the start of an iteration cost little at a million names."""

    __slots__ = ("_last", "_number", "_parts")

    def __init__(self) -> None:
        self._parts: list[list[str]] = []
        self._last: list[str] = []
        """The last name of each part."""
        self._number = 0

    def __len__(self) -> int:
        return self._number

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and next(self.behind(name, includes=True), None) == name

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._parts)

    def add(self, name: str) -> None:
        """Add a name; one that is held changes nothing."""
        if not self._parts:
            self._parts, self._last, self._number = [[name]], [name], 1
            return
        at = min(bisect_left(self._last, name), len(self._parts) - 1)
        part = self._parts[at]
        place = bisect_left(part, name)
        if place < len(part) and part[place] == name:
            return
        part.insert(place, name)
        self._number += 1
        if len(part) > _PART:
            half = len(part) // 2
            self._parts.insert(at + 1, part[half:])
            del part[half:]
            self._last.insert(at, part[-1])
        self._last[at] = part[-1]
        if at + 1 < len(self._parts):
            self._last[at + 1] = self._parts[at + 1][-1]

    def remove(self, name: str) -> None:
        """Remove a name; one that is not held changes nothing."""
        at = bisect_left(self._last, name)
        if at == len(self._parts):
            return
        part = self._parts[at]
        place = bisect_left(part, name)
        if part[place] != name:
            return
        del part[place]
        self._number -= 1
        if part:
            self._last[at] = part[-1]
        else:
            del self._parts[at], self._last[at]

    def behind(self, name: str, *, includes: bool = False) -> Iterator[str]:
        """Yield the names behind a name, with ``includes`` this one first if it is held. Change nothing meanwhile."""
        at = bisect_left(self._last, name)
        if at < len(self._parts):
            part = self._parts[at]
            yield from part[(bisect_left if includes else bisect_right)(part, name) :]
            for further in self._parts[at + 1 :]:
                yield from further

    def count(self, prefix: str) -> int:
        """Return how many names begin with a prefix that ends in an ASCII character."""
        return self._rank(prefix[:-1] + chr(ord(prefix[-1]) + 1)) - self._rank(prefix)

    def _rank(self, name: str) -> int:
        """Return how many names are before a name."""
        at = bisect_left(self._last, name)
        before = sum(map(len, self._parts[:at]))
        return before + (bisect_left(self._parts[at], name) if at < len(self._parts) else 0)


class MemoryListings:
    """Satisfies ``gateway.interfaces.Listings``. MemoryPresence reports what changes.

    ``connections``, ``rooms_of``, ``sids`` (by user) and ``counts`` are those of MemoryPresence.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        replica: str,
        release_version: str,
        connections: Mapping[str, PresentConnection],
        rooms_of: Mapping[str, frozenset[str]],
        sids: Mapping[str, SortedNames],
        counts: Mapping[Address, int],
        recoverable_at: Callable[[Collection[Address]], int],
    ) -> None:
        self.rules = MemberRules()
        self.data: dict[str, StoredData] = {}
        """The socket data of connections that have some, and of recoverable ones."""
        self._replica = replica
        self._release_version = release_version
        self._since = clock.now()
        self._connections = connections
        self._rooms_of = rooms_of
        self._sids = sids
        self._counts = counts
        self._recoverable_at = recoverable_at
        self._rooms: dict[str, SortedNames] = {}
        self._users = SortedNames()
        self._members: dict[Address, SortedNames] = {}
        self._room_users: dict[Address, Counter[str]] = {}
        self._listed: dict[str, list[Address]] = {}
        """The addresses whose lists of members have a sid."""

    # called by MemoryPresence

    def address_added(self, address: Address, sid: str) -> None:
        """Record that an address has its first connection."""
        namespace, room = address
        if _is_listed(room, sid):
            self._rooms.setdefault(namespace, SortedNames()).add(room)

    def address_removed(self, address: Address) -> None:
        """Record that an address has no connection any more."""
        namespace, room = address
        if room is None or room.startswith(SID_PREFIX):
            return
        rooms = self._rooms.get(namespace)
        # The room is not there if its first connection had its name as sid.
        if rooms is not None and room in rooms:
            rooms.remove(room)
            if not rooms:
                del self._rooms[namespace]

    def user_added(self, user: str) -> None:
        """Record that a user has the first connection."""
        self._users.add(user)

    def user_removed(self, user: str) -> None:
        """Record that a user has no connection any more."""
        self._users.remove(user)

    def list_member(self, connection: PresentConnection, rooms: Iterable[str]) -> None:
        """List a connection as a member of its rooms, where the rules say so."""
        namespace, sid = connection.namespace, connection.sid
        self.unlist_member(sid, connection.user)
        if namespace not in self.rules.rules:
            return
        listed = [Address(namespace, room) for room in rooms if self.rules.lists(namespace, room)]
        for address in listed:
            self._members.setdefault(address, SortedNames()).add(sid)
            self._room_users.setdefault(address, Counter())[connection.user] += 1
        if listed:
            self._listed[sid] = listed

    def unlist_member(self, sid: str, user: str) -> None:
        """Remove a connection from all lists of members."""
        for address in self._listed.pop(sid, ()):
            members, users = self._members[address], self._room_users[address]
            members.remove(sid)
            users[user] -= 1
            if not users[user]:
                del users[user]
            if not members:
                del self._members[address], self._room_users[address]

    # the interface

    def configure(self, rules: MemberRules) -> bool:
        is_changed = rules != self.rules
        self.rules = rules
        return is_changed

    async def stats(self, namespaces: Collection[str]) -> StateSummary:
        return StateSummary(
            len(self._users),
            {name: self._summary(name) for name in namespaces},
            (
                ReplicaSummary(
                    self._replica, len(self._connections), self._release_version or None, self._since
                ),
            ),
        )

    def _summary(self, namespace: str) -> NamespaceSummary:
        rooms = self._rooms.get(namespace, SortedNames())
        connections = self._counts.get(Address(namespace, None), 0)
        return NamespaceSummary(connections, len(rooms), rooms.count(USER_PREFIX))

    async def users(self, namespaces: Collection[str], prefix: str, part: Slice) -> NamePage:
        if len(namespaces) == 1:
            (namespace,) = namespaces
            after = user_room(part.after) if part.after else ""
            page = await self.rooms(namespace, USER_PREFIX + prefix, Slice(part.limit, after))
            return NamePage(
                tuple([each._replace(name=each.name.removeprefix(USER_PREFIX)) for each in page.names]),
                page.next.removeprefix(USER_PREFIX),
            )
        return _names(
            self._users,
            prefix,
            part,
            lambda user: sum([self._count(namespace, user_room(user)) for namespace in namespaces]),
        )

    async def rooms(self, namespace: str, prefix: str, part: Slice) -> NamePage:
        rooms = self._rooms.get(namespace, SortedNames())
        return _names(rooms, prefix, part, lambda room: self._count(namespace, room))

    def _count(self, namespace: str, room: str) -> int:
        return self._counts.get(Address(namespace, room), 0)

    async def room(self, namespace: str, room: str) -> RoomSummary:
        address = Address(namespace, room)
        users = len(self._room_users.get(address, ())) if self.rules.lists(namespace, room) else None
        return RoomSummary(self._count(namespace, room), self._recoverable_at((address,)), users)

    async def connections_of(self, user: str, namespace: str | None, part: Slice) -> ConnectionPage:
        sids = self._sids.get(user, SortedNames()).behind(part.after)
        return self._page(sids, part.limit, namespace)

    async def members(self, namespace: str, room: str, part: Slice) -> ConnectionPage:
        members = self._members.get(Address(namespace, room), SortedNames())
        return self._page(members.behind(part.after), part.limit)

    def _page(self, sids: Iterator[str], limit: int, namespace: str | None = None) -> ConnectionPage:
        """Examine at most ``limit`` connections; those of another namespace are left out."""
        found: list[ConnectionDetails] = []
        size, last = 0, ""
        for number, sid in enumerate(sids):
            if number == limit or size >= MAX_PAGE_BYTES:
                return ConnectionPage(tuple(found), last)
            last = sid
            if namespace not in {None, self._connections[sid].namespace}:
                continue
            details = self._details(sid)
            found.append(details)
            size += sum(map(len, details.rooms)) + len(details.stored.text)
        return ConnectionPage(tuple(found))

    async def connection(self, sid: str) -> ConnectionDetails | None:
        return self._details(sid) if sid in self._connections else None

    def _details(self, sid: str) -> ConnectionDetails:
        rooms = sorted(self._rooms_of[sid] - {sid})
        return ConnectionDetails(self._connections[sid], tuple(rooms), self.data.get(sid, StoredData()))


class MemorySocketData:
    """Satisfies ``gateway.interfaces.SocketDataStore``."""

    def __init__(self, listings: MemoryListings, *, clock: Clock) -> None:
        self._listings = listings
        self._clock = clock

    async def read(self, sid: str) -> StoredData:
        found = await self._listings.connection(sid)
        return StoredData() if found is None else found.stored

    async def replace(
        self,
        sid: str,
        text: str,
        *,
        expected: int,
        is_here: bool = False,  # noqa: ARG002  # every connection is here
    ) -> tuple[bool, StoredData] | None:
        found = await self._listings.connection(sid)
        if found is None:
            return None
        if found.stored.version != expected:
            return False, found.stored
        version = max(int(self._clock.now() * 1000), found.stored.version + 1)
        stored = self._listings.data[sid] = StoredData(version, text)
        return True, stored


def _is_listed(room: str | None, sid: str) -> TypeGuard[str]:
    """Whether lists show a room: no sid has its name."""
    return room is not None and room != sid and not room.startswith(SID_PREFIX)


def _names(names: SortedNames, prefix: str, part: Slice, count: Callable[[str], int]) -> NamePage:
    start = names.behind(part.after) if part.after else names.behind(prefix, includes=True)
    found: list[ListedName] = []
    for name in start:
        if not name.startswith(prefix):
            break
        if len(found) == part.limit:
            return NamePage(tuple(found), found[-1].name)
        found.append(ListedName(name, count(name)))
    return NamePage(tuple(found))
