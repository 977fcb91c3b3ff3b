"""The rooms of connections: one script changes those of many, in presence and in their recovery sessions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from gateway.domain.messages import Address, RoomChange, batches_by_rooms
from gateway.domain.positions import Position
from gateway.domain.presence import ChangedRooms
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.log_reader import LogReader
from gateway.state.redis.presence import BATCH, RedisPresence
from gateway.state.redis.redis_keys import RedisKeys, address_name
from gateway.state.redis.sessions import RedisSessions, encode_session
from gateway.state.redis.subscriber import Subscriber

BATCH_ROOMS: Final = 500
"""Rooms of the connections of one script, at most, so that no other script waits for long."""
PARKED_ROOMS: Final = 250
"""The same for recoverable connections and the rooms that change, each of which costs as much as two of the others."""


class RedisConnectionRooms:
    """Satisfies ``gateway.interfaces.ConnectionRooms``.

    What a failed script did not write is kept by presence and sessions, which write it after the next heartbeat.
    """

    def __init__(
        self,
        commands: Commands,
        keys: RedisKeys,
        *,
        presence: RedisPresence,
        sessions: RedisSessions,
        subscriber: Subscriber,
        log_reader: LogReader,
    ) -> None:
        self._commands = commands
        self._keys = keys
        self._presence = presence
        self._sessions = sessions
        self._subscriber = subscriber
        self._log_reader = log_reader

    async def subscribe(self, addresses: Collection[Address]) -> None:
        channels = [self._keys.channel(address) for address in addresses]
        self._log_reader.watch_from_newest(channels)
        await self._subscriber.subscribe(channels)

    async def wait_delivered(self) -> None:
        await self._log_reader.is_complete.wait()

    async def record(self, changed: Sequence[ChangedRooms]) -> None:
        for batch in batches_by_rooms(changed, max_items=BATCH, max_rooms=BATCH_ROOMS):
            arguments: list[Argument] = []
            sids, sessions = [], []
            for each in batch:
                counted = self._presence.moved(each)
                if counted is not None:
                    sids.append(each.sid)
                arguments += ("" if counted is None else each.sid, counted or "")
                session = each.session
                if session is not None and self._sessions.replace(session):
                    sessions.append(session)
                    arguments += (session.pid, session.owner, encode_session(session))
                else:
                    arguments += ("", "", "")
            with self._sessions.writing(sessions):
                await self._presence.write(sids, "change_memberships", *arguments, has_rules=True)

    async def change_recoverable(self, change: RoomChange, at: Position, *, max_rooms: int | None) -> None:
        excluded = [address_name(Address(change.namespace, name)) for name in change.exclude]
        fixed: list[Argument] = [int(change.is_join), at, change.namespace, max_rooms or 0, len(excluded)]
        fixed += [*excluded, *change.changed]
        number = max(1, PARKED_ROOMS // (len(change.changed) + len(excluded) + 10))
        for address in change.addresses:
            place: list[Argument] = [0, 0]
            while place:
                place = await self._commands.call(
                    "change_parked", address_name(address), number, *place, *fixed
                )
