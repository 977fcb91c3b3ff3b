"""Who is connected."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from gateway.domain.messages import Address
from gateway.domain.presence import PresentConnection, UserPresence
from gateway.ports import Clock
from gateway.state.memory.expiring import Expiring


class MemoryPresence:
    """``gateway.ports.Presence`` of one replica. Costs depend on the rooms of the connection alone.

    ``last_seen`` is kept for ``last_seen_seconds`` and for the ``max_last_seen`` users who left last.
    """

    def __init__(self, *, clock: Clock, replica: str, last_seen_seconds: float, max_last_seen: int) -> None:
        self._clock = clock
        self._replica = replica
        self._connections: dict[str, PresentConnection] = {}
        self._addresses: dict[str, frozenset[Address]] = {}
        self._of_user: dict[str, dict[str, None]] = {}
        self._counts: dict[Address, int] = {}
        self.last_seen: Expiring[str, float] = Expiring(
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
        self._count_at(sid, _addresses(connection, rooms))

    async def change_rooms(self, sid: str, rooms: Collection[str]) -> None:
        connection = self._connections.get(sid)
        if connection is not None:
            self._count_at(sid, _addresses(connection, rooms))

    async def change_transport(self, sid: str, transport: str) -> None:
        connection = self._connections.get(sid)
        if connection is not None:
            self._connections[sid] = replace(connection, transport=transport)

    async def unregister(self, sid: str) -> None:
        self._forget(sid)

    async def of_user(self, user: str) -> UserPresence:
        sids = self._of_user.get(user)
        if sids is None:
            return UserPresence(user, last_seen=self.last_seen.get(user))
        connections = [self._connections[sid] for sid in sids]
        connections.sort(key=lambda connection: (connection.connected_at, connection.sid))
        return UserPresence(user, tuple(connections))

    async def count(self, addresses: Collection[Address]) -> int:
        return self.connections_at(addresses)

    def connections_at(self, addresses: Collection[Address]) -> int:
        """``count``, for the broker that publishes in the same step."""
        return sum([self._counts.get(address, 0) for address in addresses])

    def _forget(self, sid: str) -> None:
        connection = self._connections.pop(sid, None)
        if connection is None:
            return
        self._count_at(sid, frozenset())
        del self._addresses[sid]
        sids = self._of_user[connection.user]
        del sids[sid]
        if not sids:
            del self._of_user[connection.user]
            self.last_seen.put(connection.user, self._clock.now())

    def _count_at(self, sid: str, addresses: frozenset[Address]) -> None:
        former = self._addresses.get(sid, frozenset())
        self._addresses[sid] = addresses
        for address in addresses - former:
            self._counts[address] = self._counts.get(address, 0) + 1
        for address in former - addresses:
            left = self._counts[address] - 1
            if left:
                self._counts[address] = left
            else:
                del self._counts[address]


def _addresses(connection: PresentConnection, rooms: Collection[str]) -> frozenset[Address]:
    """Everywhere that the connection is: everyone in its namespace, the room of its sid, its rooms."""
    return frozenset(Address(connection.namespace, room) for room in (None, connection.sid, *rooms))
