"""Connections that begin and end: one script for a new one, and one for many that are gone.

Each writes presence and the recovery sessions together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from typing import Any

from gateway.domain import positions
from gateway.domain.errors import TokenRejected, TooManyConnections
from gateway.domain.identity import Identity
from gateway.domain.messages import Address
from gateway.domain.names import user_room
from gateway.domain.positions import Position
from gateway.domain.presence import ClosedConnection, PresentConnection
from gateway.domain.sessions import RecoverySession
from gateway.interfaces import DataSource
from gateway.state.redis.broker import RedisBroker
from gateway.state.redis.commands import Argument
from gateway.state.redis.presence import RedisPresence, Registration
from gateway.state.redis.redis_keys import address_name
from gateway.state.redis.sessions import RedisSessions, encode_session


class RedisConnects:
    """``gateway.interfaces.Connects``.

    What a failed script did not write is kept by presence and sessions, which write it after the next heartbeat.
    """

    def __init__(self, *, broker: RedisBroker, presence: RedisPresence, sessions: RedisSessions) -> None:
        self._broker = broker
        self._presence = presence
        self._sessions = sessions

    async def connect(
        self,
        connection: PresentConnection,
        rooms: Collection[str],
        identity: Identity,
        *,
        session: RecoverySession | None = None,
        max_of_user: int | None = None,
        listed: str | None = None,
        data: DataSource | None = None,
    ) -> Position | None:
        channels = await self._broker.subscribe_channels(
            [Address(connection.namespace, room) for room in (None, *rooms)]
        )
        registration = Registration(connection, frozenset(rooms), session, listed, data)
        try:
            answer = await self._write(registration, identity, max_of_user or 0)
        except (TooManyConnections, TokenRejected):
            self._drop(registration)
            raise
        if answer == b"KEPT":
            self._drop(registration)
            return None
        generation, newest, may_hold_kept = answer
        position = Position(newest.decode())
        self._broker.begin_channels(
            channels, generation.decode(), position, may_hold_kept=bool(may_hold_kept)
        )
        if session is not None:
            begun = session.begun_at(position)
            self._presence.begin_session(registration, begun)
            self._sessions.begin(session, begun)
        return position

    def _drop(self, registration: Registration) -> None:
        """Forget a connection and its session. Nothing of them was written, so nothing is to be removed."""
        self._presence.drop(registration.connection.sid)
        if registration.session is not None:
            self._sessions.drop(registration.session)

    async def _write(self, registration: Registration, identity: Identity, limit: int) -> Any:
        """Run connect.lua; return its answer."""
        session, connection = registration.session, registration.connection
        address = Address(connection.namespace, user_room(connection.user))
        if session is not None:
            self._sessions.keep(session)
        arguments = self._presence.keep(registration)
        with nullcontext() if session is None else self._sessions.saving(session):
            return await self._presence.run(
                [connection.sid],
                "connect",
                limit,
                *arguments,
                "" if session is None else encode_session(session),
                identity.token_id,
                "" if identity.issued_at is None else repr(float(identity.issued_at)),
                positions.END,
                address_name(address),
                has_rules=True,
            )


class RedisDisconnects:
    """``gateway.interfaces.Disconnects``.

    What a failed script did not write is kept by presence and sessions, which write it after the next heartbeat.
    """

    def __init__(self, presence: RedisPresence, sessions: RedisSessions) -> None:
        self._presence = presence
        self._sessions = sessions

    async def record(self, disconnects: Sequence[ClosedConnection]) -> None:
        # Nothing waits before the script is queued: what is registered from now on is executed after it.
        arguments: list[Argument] = []
        sids, ends = [], []
        for each in disconnects:
            if not each.keeps_sid and self._presence.leave(each.sid, is_parked=each.is_parked):
                sids.append(each.sid)
                arguments += (each.sid, int(each.is_parked))
            else:
                arguments += ("", 0)
            if each.pid:
                ends.append(self._sessions.leave(each.pid, each.owner, is_parked=each.is_parked))
                arguments += ends[-1]
            else:
                arguments += ("", "", "")
        await self._presence.write(sids, "disconnect", *arguments, has_rules=True)
        self._presence.left(sids)
        self._sessions.left(ends)
