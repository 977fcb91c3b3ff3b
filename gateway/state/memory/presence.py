"""Presence in memory."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeVar

from gateway.domain.errors import TooManyConnections
from gateway.domain.messages import Address, RoomChange
from gateway.domain.positions import Position
from gateway.domain.presence import PresentConnection, UserPresence
from gateway.domain.sessions import RecoverySession, VisibleRooms, earliest
from gateway.interfaces import Clock, DataSource
from gateway.state.memory.listings import MemoryListings, SortedNames
from gateway.state.memory.presence_events import MemoryPresenceEvents, MemoryUserLists
from gateway.state.memory.ttl_map import TtlMap

K = TypeVar("K")


class MemoryPresence:
    """Satisfies ``gateway.interfaces.Presence`` for one replica. Costs depend only on the rooms of the connection.

    ``last_seen`` is kept for ``last_seen_seconds``, and for the ``max_last_seen`` users that disconnected last. A
    connection that is gone and has a parked session counts as recoverable for ``recovery_seconds``; at most
    ``max_recoverable`` do, the last ones. ``events``, ``lists`` and ``listings`` follow from the
    connections.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        replica: str,
        last_seen_seconds: float,
        max_last_seen: int,
        recovery_seconds: float,
        max_recoverable: int,
        max_offline_states: int,
        release_version: str = "",
    ) -> None:
        self._clock = clock
        self._replica = replica
        self._connections: dict[str, PresentConnection] = {}
        self._rooms: dict[str, frozenset[str]] = {}
        self._sessions: dict[str, RecoverySession | None] = {}
        self._sids: dict[str, SortedNames] = {}
        self._counts: Counter[Address] = Counter()
        self.events = MemoryPresenceEvents(
            clock=clock,
            sids=self._sids,
            addresses_of=self._addresses_of,
            max_offline=max_offline_states,
        )
        self.lists = MemoryUserLists()
        self.listings = MemoryListings(
            clock=clock,
            replica=replica,
            release_version=release_version,
            connections=self._connections,
            rooms_of=self._rooms,
            sids=self._sids,
            counts=self._counts,
            recoverable_at=self.recoverable_at,
        )
        self._recovery_seconds = recovery_seconds
        self._max_recoverable = max_recoverable
        self._parked: OrderedDict[str, _Parked] = OrderedDict()
        """Recoverable connections by sid, the one whose window ends first in front."""
        self._parked_at: dict[Address, dict[str, None]] = {}
        """Recoverable connections by address."""
        self._parked_sids: dict[str, dict[str, None]] = {}
        """Recoverable connections by user."""
        self.last_seen: TtlMap[str, float] = TtlMap(
            clock=clock, seconds=last_seen_seconds, max_items=max_last_seen
        )

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def addresses(self) -> int:
        """The number of addresses with a connection."""
        return len(self._counts)

    async def register(
        self,
        connection: PresentConnection,
        rooms: Collection[str],
        *,
        session: RecoverySession | None = None,
        max_of_user: int | None = None,
        listed: str | None = None,
        data: DataSource | None = None,  # noqa: ARG002  # nothing is lost here that would be written again
    ) -> None:
        if connection.replica != self._replica:
            raise ValueError(f"{connection.replica!r} is another replica than this one, {self._replica!r}")
        sid = connection.sid
        others: Collection[str] = self._sids.get(connection.user, ())
        if max_of_user is not None and len(others) - (sid in others) >= max_of_user:
            raise TooManyConnections(f"this user has {max_of_user} connections already")
        former = self._connections.get(sid)
        if former is not None:
            keeps_list = listed is not None and former.namespace == connection.namespace
            self._remove(sid, keeps_list=keeps_list, keeps_data=True)
        if self._parked:
            self._sweep_parked()  # first: data that has expired is not taken over
        self._forget_parked(sid, keeps_data=True)
        self._connections[sid] = connection
        self._add_sid(connection.user, sid)
        self._rooms[sid] = frozenset(rooms)
        self._sessions[sid] = session
        addresses = _addresses(connection, self._rooms[sid])
        self._add_addresses(addresses, sid)
        self.listings.list_member(connection, self._rooms[sid])
        if listed is not None:
            self.lists.put(connection.namespace, sid, listed)
        if self.events.rules is not None:
            self.events.connected(connection.user, _without_sid(addresses, sid))

    async def register_again(self, listed: Mapping[str, str | None]) -> None:
        for sid, entry in listed.items():
            connection = self._connections.get(sid)
            if connection is not None:
                rooms, session = self._rooms[sid], self._sessions[sid]
                await self.register(connection, rooms, session=session, listed=entry)

    async def change_rooms(
        self, sid: str, rooms: Collection[str], *, session: RecoverySession | None = None
    ) -> None:
        connection = self._connections.get(sid)
        if connection is None:
            return
        before, self._rooms[sid] = self._rooms[sid], frozenset(rooms)
        self._sessions[sid] = session
        addresses = _addresses(connection, self._rooms[sid])
        self._add_addresses(addresses, sid)
        self._remove_addresses(_addresses(connection, before))
        self.listings.list_member(connection, self._rooms[sid])
        if self.events.rules is not None:
            self.events.connected(connection.user, _without_sid(addresses, sid))

    async def change_transport(self, sid: str, transport: str) -> None:
        connection = self._connections.get(sid)
        if connection is not None:
            self._connections[sid] = replace(connection, transport=transport)

    async def unregister(self, sid: str, *, is_parked: bool = False) -> None:
        connection = self._connections.get(sid)
        addresses = () if connection is None else tuple(_addresses(connection, self._rooms[sid]))
        session = self._sessions.get(sid)
        keeps_data = is_parked and connection is not None and self._recovery_seconds > 0
        self._remove(sid, keeps_data=keeps_data)
        if not is_parked:
            self._forget_parked(sid)
        elif connection is not None and self._recovery_seconds > 0:
            ends_at = self._clock.monotonic() + self._recovery_seconds
            self._parked[sid] = _Parked(ends_at, connection.user, addresses, session)
            self._index_parked(sid, addresses)
            self._parked_sids.setdefault(connection.user, {})[sid] = None
            self._sweep_parked()

    async def of_user(self, user: str) -> UserPresence:
        return self._read(user)

    async def of_users(self, users: Collection[str]) -> dict[str, UserPresence]:
        return {user: self._read(user) for user in users}

    async def has_sid(self, sid: str) -> bool:
        self._sweep_parked()
        return sid in self._connections or sid in self._parked

    async def visible_rooms(self, user: str, namespace: str) -> VisibleRooms:
        self._sweep_parked()
        here = [self._sessions[sid] for sid in self._sids.get(user, ())]
        parked = [self._parked[sid].session for sid in self._parked_sids.get(user, ())]
        return earliest(
            [
                each.visible_rooms
                for each in [*here, *parked]
                if each is not None and each.namespace == namespace
            ]
        )

    def connections_at(self, addresses: Collection[Address]) -> int:
        """Return the connections at each address, added up."""
        counts, connections = self._counts, 0
        for address in addresses:
            connections += counts.get(address, 0)
        return connections

    def recoverable_at(self, addresses: Collection[Address]) -> int:
        """Return the recoverable connections at each address, added up."""
        if not self._parked:
            return 0
        self._sweep_parked()
        return sum([len(self._parked_at.get(address, ())) for address in addresses])

    def counts_at(self, address: Address) -> tuple[int, int]:
        """Return the connections and the recoverable connections at one address."""
        recoverable = self.recoverable_at((address,)) if self._parked else 0
        return self._counts.get(address, 0), recoverable

    def forget_recoverable(self, sid: str) -> None:
        """Count a connection as recoverable no more: its session was removed."""
        self._forget_parked(sid)

    def change_recoverable(self, change: RoomChange, at: Position, *, max_rooms: int | None) -> None:
        """See ``gateway.interfaces.ConnectionRooms``."""
        self._sweep_parked()
        excluded = {Address(change.namespace, name) for name in change.exclude}
        sids = {sid for address in change.addresses for sid in self._parked_at.get(address, ())}
        for sid in sids:
            parked = self._parked[sid]
            if parked.session is not None and excluded.isdisjoint(parked.addresses):
                self._change_parked(sid, parked, parked.session.changed_by(change, at), max_rooms)

    def _change_parked(
        self, sid: str, parked: _Parked, session: RecoverySession, max_rooms: int | None
    ) -> None:
        if session == parked.session or (max_rooms is not None and len(session.rooms) - 1 > max_rooms):
            return
        self._unindex_parked(sid, parked.addresses)
        names = (None, *(session.rooms | {sid}))
        addresses = tuple([Address(session.namespace, room) for room in names])
        self._parked[sid] = parked._replace(addresses=addresses, session=session)
        self._index_parked(sid, addresses)

    def _index_parked(self, sid: str, addresses: Iterable[Address]) -> None:
        for address in addresses:
            self._parked_at.setdefault(address, {})[sid] = None

    def _unindex_parked(self, sid: str, addresses: Iterable[Address]) -> None:
        for address in addresses:
            sids = self._parked_at[address]
            del sids[sid]
            if not sids:
                del self._parked_at[address]

    def _sweep_parked(self) -> None:
        now = self._clock.monotonic()
        while self._parked:
            sid, parked = next(iter(self._parked.items()))
            if parked.ends_at > now and len(self._parked) <= self._max_recoverable:
                return
            self._forget_parked(sid)

    def _forget_parked(self, sid: str, *, keeps_data: bool = False) -> None:
        parked = self._parked.pop(sid, None)
        if parked is not None:
            if not keeps_data and self.listings.data and sid not in self._connections:
                self.listings.data.pop(sid, None)
            self._unindex_parked(sid, parked.addresses)
            sids = self._parked_sids[parked.user]
            del sids[sid]
            if not sids:
                del self._parked_sids[parked.user]

    def _read(self, user: str) -> UserPresence:
        self._sweep_parked()
        recoverable = len(self._parked_sids.get(user, ()))
        sids = self._sids.get(user)
        if sids is None:
            return UserPresence(
                user,
                last_seen=self.last_seen.get(user),
                recoverable=recoverable,
                version=self.events.version_of(user),
            )
        connections = [self._connections[sid] for sid in sids]
        connections.sort(key=lambda connection: (connection.connected_at, connection.sid))
        return UserPresence(
            user, tuple(connections), recoverable=recoverable, version=self.events.version_of(user)
        )

    def _addresses_of(self, user: str) -> list[Address]:
        """Return the addresses of all connections of a user, without the rooms of their sids."""
        return [
            address
            for sid in self._sids.get(user, ())
            for address in _without_sid(_addresses(self._connections[sid], self._rooms[sid]), sid)
        ]

    def _add_sid(self, user: str, sid: str) -> None:
        sids = self._sids.get(user)
        if sids is None:
            sids = self._sids[user] = SortedNames()
            self.listings.user_added(user)
        sids.add(sid)

    def _add_addresses(self, addresses: Iterable[Address], sid: str) -> None:
        for address in addresses:
            count = self._counts[address] = self._counts[address] + 1
            if count == 1:
                self.listings.address_added(address, sid)

    def _remove_addresses(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            count = self._counts[address] - 1
            if count:
                self._counts[address] = count
            else:
                del self._counts[address]
                self.listings.address_removed(address)

    def _remove(self, sid: str, *, keeps_list: bool = False, keeps_data: bool = False) -> None:
        connection = self._connections.pop(sid, None)
        if connection is None:
            return
        if self.lists and not keeps_list:
            self.lists.remove(connection.namespace, sid)
        self._remove_addresses(_addresses(connection, self._rooms.pop(sid)))
        self.listings.unlist_member(sid, connection.user)
        if not keeps_data and self.listings.data:
            self.listings.data.pop(sid, None)
        del self._sessions[sid]
        sids = self._sids[connection.user]
        sids.remove(sid)
        if not sids:
            del self._sids[connection.user]
            self.listings.user_removed(connection.user)
            self.last_seen.put(connection.user, self._clock.now())
            if self.events.rules is not None:
                self.events.disconnected(connection.user)


class _Parked(NamedTuple):
    ends_at: float
    user: str
    addresses: tuple[Address, ...]
    session: RecoverySession | None


def _count(counts: Counter[K], keys: Iterable[K], change: int) -> None:
    """Change each count; none of 0 is kept."""
    for key in keys:
        count = counts[key] + change
        if count:
            counts[key] = count
        else:
            del counts[key]


def _addresses(connection: PresentConnection, rooms: frozenset[str]) -> list[Address]:
    """Return the addresses of a connection, each once: everyone in its namespace, the room of its sid, its rooms."""
    return [Address(connection.namespace, room) for room in (None, *(rooms | {connection.sid}))]


def _without_sid(addresses: Iterable[Address], sid: str) -> list[Address]:
    """Return the addresses but the room of the sid, in their order."""
    return [address for address in addresses if address[1] != sid]
