"""Who is connected."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from gateway.domain.messages import Address
from gateway.domain.presence import PresentConnection, UserPresence
from gateway.interfaces import Clock
from gateway.state.memory.ttl_map import TtlMap


class MemoryPresence:
    """``gateway.interfaces.Presence`` of one replica. Costs depend on the rooms of the connection alone.

    ``last_seen`` is kept for ``last_seen_seconds`` and for the ``max_last_seen`` users who left last.
    """

    def __init__(self, *, clock: Clock, replica: str, last_seen_seconds: float, max_last_seen: int) -> None:
        self._clock = clock
        self._replica = replica
        self._connections: dict[str, PresentConnection] = {}
        self._rooms: dict[str, frozenset[str]] = {}
        self._of_user: dict[str, dict[str, None]] = {}
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
        self._forget(sid)
        self._connections[sid] = connection
        self._of_user.setdefault(connection.user, {})[sid] = None
        self._rooms[sid] = frozenset(rooms)
        self._count(_addresses(connection, self._rooms[sid]), 1)

    async def change_rooms(self, sid: str, rooms: Collection[str]) -> None:
        connection = self._connections.get(sid)
        if connection is None:
            return
        former, self._rooms[sid] = self._rooms[sid], frozenset(rooms)
        self._count(_addresses(connection, self._rooms[sid]), 1)
        self._count(_addresses(connection, former), -1)

    async def change_transport(self, sid: str, transport: str) -> None:
        connection = self._connections.get(sid)
        if connection is not None:
            self._connections[sid] = replace(connection, transport=transport)

    async def unregister(self, sid: str) -> None:
        self._forget(sid)

    async def of_user(self, user: str) -> UserPresence:
        return self._seen(user)

    async def of_users(self, users: Collection[str]) -> dict[str, UserPresence]:
        return {user: self._seen(user) for user in users}

    def connections_at(self, addresses: Collection[Address]) -> int:
        """Return the connections at each address, added up."""
        return sum([self._counts.get(address, 0) for address in addresses])

    def _seen(self, user: str) -> UserPresence:
        sids = self._of_user.get(user)
        if sids is None:
            return UserPresence(user, last_seen=self.last_seen.get(user))
        connections = [self._connections[sid] for sid in sids]
        connections.sort(key=lambda connection: (connection.connected_at, connection.sid))
        return UserPresence(user, tuple(connections))

    def _forget(self, sid: str) -> None:
        connection = self._connections.pop(sid, None)
        if connection is None:
            return
        self._count(_addresses(connection, self._rooms.pop(sid)), -1)
        sids = self._of_user[connection.user]
        del sids[sid]
        if not sids:
            del self._of_user[connection.user]
            self.last_seen.put(connection.user, self._clock.now())

    def _count(self, addresses: Collection[Address], change: int) -> None:
        for address in addresses:
            count = self._counts.get(address, 0) + change
            if count:
                self._counts[address] = count
            else:
                del self._counts[address]


def _addresses(connection: PresentConnection, rooms: frozenset[str]) -> list[Address]:
    """Everywhere that the connection is, each once: everyone in its namespace, the room of its sid, its rooms."""
    return [Address(connection.namespace, room) for room in (None, *(rooms | {connection.sid}))]
