"""Presence in memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from gateway.domain.messages import Address
from gateway.domain.presence import PresentConnection, UserPresence
from gateway.interfaces import Clock
from gateway.state.memory.ttl_map import TtlMap


class MemoryPresence:
    """Satisfies ``gateway.interfaces.Presence`` for one replica. Costs depend only on the rooms of the connection.

    ``last_seen`` is kept for ``last_seen_seconds``, and for the ``max_last_seen`` users that disconnected last.
    """

    def __init__(self, *, clock: Clock, replica: str, last_seen_seconds: float, max_last_seen: int) -> None:
        self._clock = clock
        self._replica = replica
        self._connections: dict[str, PresentConnection] = {}
        self._rooms: dict[str, frozenset[str]] = {}
        self._sids: dict[str, dict[str, None]] = {}
        self._counts: dict[Address, int] = {}
        self.last_seen: TtlMap[str, float] = TtlMap(
            clock=clock, seconds=last_seen_seconds, max_items=max_last_seen
        )

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def addresses(self) -> int:
        """The number of addresses with a connection."""
        return len(self._counts)

    async def register(self, connection: PresentConnection, rooms: Collection[str]) -> None:
        if connection.replica != self._replica:
            raise ValueError(f"{connection.replica!r} is another replica than this one, {self._replica!r}")
        sid = connection.sid
        self._remove(sid)
        self._connections[sid] = connection
        self._sids.setdefault(connection.user, {})[sid] = None
        self._rooms[sid] = frozenset(rooms)
        self._count(_addresses(connection, self._rooms[sid]), 1)

    async def change_rooms(self, sid: str, rooms: Collection[str]) -> None:
        connection = self._connections.get(sid)
        if connection is None:
            return
        before, self._rooms[sid] = self._rooms[sid], frozenset(rooms)
        self._count(_addresses(connection, self._rooms[sid]), 1)
        self._count(_addresses(connection, before), -1)

    async def change_transport(self, sid: str, transport: str) -> None:
        connection = self._connections.get(sid)
        if connection is not None:
            self._connections[sid] = replace(connection, transport=transport)

    async def unregister(self, sid: str) -> None:
        self._remove(sid)

    async def of_user(self, user: str) -> UserPresence:
        return self._read(user)

    async def of_users(self, users: Collection[str]) -> dict[str, UserPresence]:
        return {user: self._read(user) for user in users}

    def connections_at(self, addresses: Collection[Address]) -> int:
        """Return the connections at each address, added up."""
        return sum([self._counts.get(address, 0) for address in addresses])

    def _read(self, user: str) -> UserPresence:
        sids = self._sids.get(user)
        if sids is None:
            return UserPresence(user, last_seen=self.last_seen.get(user))
        connections = [self._connections[sid] for sid in sids]
        connections.sort(key=lambda connection: (connection.connected_at, connection.sid))
        return UserPresence(user, tuple(connections))

    def _remove(self, sid: str) -> None:
        connection = self._connections.pop(sid, None)
        if connection is None:
            return
        self._count(_addresses(connection, self._rooms.pop(sid)), -1)
        sids = self._sids[connection.user]
        del sids[sid]
        if not sids:
            del self._sids[connection.user]
            self.last_seen.put(connection.user, self._clock.now())

    def _count(self, addresses: Collection[Address], change: int) -> None:
        for address in addresses:
            count = self._counts.get(address, 0) + change
            if count:
                self._counts[address] = count
            else:
                del self._counts[address]


def _addresses(connection: PresentConnection, rooms: frozenset[str]) -> list[Address]:
    """Return the addresses of a connection, each once: everyone in its namespace, the room of its sid, its rooms."""
    return [Address(connection.namespace, room) for room in (None, *(rooms | {connection.sid}))]
