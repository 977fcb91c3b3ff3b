"""The rooms of connections in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.domain.messages import Address, RoomChange
from gateway.domain.positions import Position
from gateway.domain.presence import ChangedRooms
from gateway.state.memory.broker import MemoryBroker
from gateway.state.memory.presence import MemoryPresence
from gateway.state.memory.sessions import MemorySessions


class MemoryConnectionRooms:
    """Satisfies ``gateway.interfaces.ConnectionRooms``."""

    def __init__(self, broker: MemoryBroker, presence: MemoryPresence, sessions: MemorySessions) -> None:
        self._broker = broker
        self._presence = presence
        self._sessions = sessions

    async def subscribe(self, addresses: Collection[Address]) -> None:
        # The broker has queued what was accepted for them since the entry that is delivered now.
        await self._broker.subscribe(addresses)

    async def wait_delivered(self) -> None:
        # Whatever is accepted from now on is in the queue behind what the broker has queued.
        pass

    async def record(self, changed: Sequence[ChangedRooms]) -> None:
        for each in changed:
            await self._presence.change_rooms(each.sid, each.rooms, session=each.session)
            if each.session is not None:
                await self._sessions.change(each.session)

    async def change_recoverable(self, change: RoomChange, at: Position, *, max_rooms: int | None) -> None:
        self._presence.change_recoverable(change, at, max_rooms=max_rooms)
