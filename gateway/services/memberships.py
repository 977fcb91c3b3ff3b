"""Change the rooms of a connection: join and leave rooms that its token does not grant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, ClientEventRejected
from gateway.domain.messages import Address, RoomChange
from gateway.domain.names import SID_PREFIX
from gateway.domain.positions import Position
from gateway.hub import Connection, ConnectionState, Hub
from gateway.interfaces import Broker, Presence, Sessions

log = structlog.get_logger(__name__)


class Memberships:
    """The rooms of connections, while they are connected.

    A change is made in the hub, then in the subscriptions, presence and the recovery session: in all of them or in
    none. The changes of one connection are made one after the other. A connection that is closed has no rooms, and
    changing them does nothing.

    ``max_rooms_per_connection`` counts the rooms that a token grants and those that were joined, not the room of the
    sid; None means off. A token that grants more takes no joined room away. ``join_wait_seconds`` is that of the state.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        broker: Broker,
        presence: Presence,
        sessions: Sessions,
        max_rooms_per_connection: int | None,
        join_wait_seconds: Callable[[str], float],
    ) -> None:
        self._hub = hub
        self._broker = broker
        self._presence = presence
        self._sessions = sessions
        self._max_rooms_per_connection = max_rooms_per_connection
        self._join_wait_seconds = join_wait_seconds

    async def join(self, connection: Connection, rooms: Collection[str]) -> tuple[str, ...]:
        """Join rooms, all or none; return those that the connection was not in, each once, in the order given.

        It gets every message to them that is accepted after this returned.

        Raises: ClientEventRejected (``too_many_rooms``; ``not_allowed`` for the room of another sid;
            ``broker_unavailable`` while joins are not possible), BrokerUnavailable, BrokerTimeout; no room is joined
            then.
        """
        async with self.changing(connection):
            joined = tuple(dict.fromkeys(room for room in rooms if room not in connection.rooms))
            if not joined or connection.state is ConnectionState.CLOSED:
                return ()
            self._check_joined(connection, joined)
            await self.change(connection, connection.rooms.union(joined))
            return () if _is_closed(connection) else joined

    async def leave(self, connection: Connection, rooms: Collection[str]) -> tuple[str, ...]:
        """Leave rooms, all or none; return those that were left, each once, in the order given.

        Rooms that the token grants and the room of the sid stay.

        Raises: BrokerUnavailable, BrokerTimeout; no room is left then.
        """
        async with self.changing(connection):
            left = tuple(dict.fromkeys(room for room in rooms if room in connection.joined_rooms))
            if not left or connection.state is ConnectionState.CLOSED:
                return ()
            await self.change(connection, connection.rooms.difference(left))
            return () if _is_closed(connection) else left

    async def undo(
        self, connection: Connection, *, joined: Collection[str] = (), left: Collection[str] = ()
    ) -> None:
        """Take back what ``join`` and ``leave`` returned, because what belongs to it certainly did not happen.

        Joined rooms are left in any case; the state makes up later for what could not be written. Rooms that were left
        are joined again unless that fails, which is logged.
        """
        async with self.changing(connection):
            if connection.state is ConnectionState.CLOSED:
                return
            await self._leave_surely(connection, connection.joined_rooms.intersection(joined))
            try:
                await self.change(connection, connection.rooms.union(left))
            except (BrokerUnavailable, BrokerTimeout) as error:
                log.warning("rooms.undo_failed", sid=connection.sid, rooms=len(left), code=error.code)

    async def apply(self, connection: Connection, change: RoomChange, at: Position) -> None:
        """Apply a change of a backend at its position to a connection that has everything up to there.

        A connection that would be in too many rooms joins none.

        Raises: BrokerUnavailable, BrokerTimeout; nothing is changed then.
        """
        async with self.changing(connection):
            if connection.state is ConnectionState.CLOSED:
                return
            rooms = connection.rooms_after(change, at)
            if self.is_within_limit(connection, rooms):
                await self.change(connection, rooms, at=at)
            else:
                connection.note_changes(at)
                log.info("rooms.too_many", sid=connection.sid, rooms=len(rooms) - 1)

    def is_within_limit(self, connection: Connection, rooms: frozenset[str]) -> bool:
        """Whether a connection may be in these rooms: they are not too many, or no more than it has."""
        limit = self._max_rooms_per_connection
        return limit is None or len(rooms) - 1 <= limit or len(rooms) <= len(connection.rooms)

    @asynccontextmanager
    async def changing(self, connection: Connection) -> AsyncIterator[None]:
        """Wait until no other change of the connection's rooms is in progress, and keep others from beginning."""
        if connection.rooms_lock is None:
            connection.rooms_lock = asyncio.Lock()
        async with connection.rooms_lock:
            yield

    async def change(
        self,
        connection: Connection,
        rooms: frozenset[str],
        granted: Collection[str] | None = None,
        *,
        at: Position | None = None,
    ) -> None:
        """Replace the rooms of a connection within ``changing``; ``granted`` by its token, if that is a new one.

        New rooms are joined at the position ``at``; None is the present one.

        Raises: BrokerUnavailable, BrokerTimeout; the connection keeps its former rooms then.
        """
        before, session = connection.rooms, connection.session
        granted = connection.identity.rooms if granted is None else granted
        joined = rooms.difference(granted, (connection.sid,))
        if rooms == before and (session is None or session.joined_rooms == joined):
            return
        changed = [Address(connection.namespace, room) for room in rooms ^ before]
        try:
            await self._replace(connection, rooms, joined, at)
        finally:
            # Other connections may have joined meanwhile, or this one closed: the hub knows the rooms in use now.
            await self._broker.unsubscribe([each for each in changed if not self._hub.has(each)])

    async def _replace(
        self, connection: Connection, rooms: frozenset[str], joined: frozenset[str], at: Position | None
    ) -> None:
        before, session = connection.rooms, connection.session
        # The lock keeps a page of the history, requested for the former rooms, from being sent meanwhile.
        async with connection.transport.replay_lock:
            position = await self._apply(connection, rooms)
            if connection.state is ConnectionState.CLOSED:
                return
            if session is not None:
                connection.session = session.with_rooms(rooms, at or position, joined=joined)
                if at is not None:
                    connection.note_changes(at)
        try:
            await self.record(connection)
        except BaseException:
            self._hub.change_rooms(connection, before)
            connection.session = session
            # A failed update is made up for later by the state; here the former rooms have to be restored. Another
            # connection may have ended the subscription of a room that was left.
            with suppress(BrokerUnavailable, BrokerTimeout):
                await self._broker.subscribe(
                    [
                        each
                        for room in before - rooms
                        if self._hub.has(each := Address(connection.namespace, room))
                    ]
                )
            with suppress(BrokerUnavailable, BrokerTimeout):
                await self.record(connection)
            raise

    def _check_joined(self, connection: Connection, joined: Collection[str]) -> None:
        """Raises: ClientEventRejected if the rooms cannot be joined now."""
        limit = self._max_rooms_per_connection
        # The room of the sid does not count.
        if limit is not None and len(connection.rooms) - 1 + len(joined) > limit:
            raise ClientEventRejected("too_many_rooms", f"a connection is in at most {limit} rooms")
        if any(room.startswith(SID_PREFIX) for room in joined):
            raise ClientEventRejected("not_allowed", f"a room that begins with {SID_PREFIX} is not joined")
        wait_seconds = max(map(self._join_wait_seconds, joined))
        if wait_seconds > 0:
            raise ClientEventRejected(
                "broker_unavailable",
                "replicas or sids of the previous release still live, so rooms cannot be joined yet",
                retry_after_seconds=wait_seconds,
            )

    async def _leave_surely(self, connection: Connection, rooms: frozenset[str]) -> None:
        if not rooms:
            return
        remaining, session = connection.rooms - rooms, connection.session
        self._hub.change_rooms(connection, remaining)
        if session is not None:
            connection.session = session.with_rooms(
                remaining, session.first_position, joined=connection.joined_rooms
            )
        addresses = [Address(connection.namespace, room) for room in rooms]
        await self._broker.unsubscribe([each for each in addresses if not self._hub.has(each)])
        with suppress(BrokerUnavailable, BrokerTimeout):
            await self.record(connection)

    async def record(self, connection: Connection) -> None:
        """Write the rooms to presence and to the recovery session, within ``changing``.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        try:
            await self._presence.change_rooms(connection.sid, connection.rooms, session=connection.session)
        finally:
            if connection.session is not None:
                await self._sessions.change(connection.session)

    async def _apply(self, connection: Connection, rooms: frozenset[str]) -> Position:
        """Join and leave rooms on this replica, all or none; return the position at which the new ones are joined."""
        before = connection.rooms
        # The hub first: a room without connections may be unsubscribed by the connection that left it last.
        self._hub.change_rooms(connection, rooms)
        try:
            return await self._broker.subscribe(
                [Address(connection.namespace, room) for room in rooms - before]
            )
        except BaseException:
            self._hub.change_rooms(connection, before)
            raise


def _is_closed(connection: Connection) -> bool:
    return connection.state is ConnectionState.CLOSED
