"""A verified client comes in: anew, or back to where it was."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

from gateway.domain.disconnects import RESUMED_ELSEWHERE
from gateway.domain.errors import (
    BrokerTimeout,
    BrokerUnavailable,
    RecoveryFailed,
    TokenRejected,
    TooManyConnections,
)
from gateway.domain.identity import Identity
from gateway.domain.messages import Address, SessionTakeover, new_id
from gateway.domain.positions import Position
from gateway.domain.presence import PresentConnection
from gateway.domain.sessions import RecoveryRequest, RecoverySession, ResumedSession
from gateway.hub import ClientTransport, Connection, ConnectionState, Hub
from gateway.interfaces import Broker, Clock, Presence, Revocations, Sessions
from gateway.services.disconnect import Disconnector
from gateway.services.recovery import ConnectResult, Recovery

_SID_BYTES: Final = 15
_PID_BYTES: Final = 24
"""Bytes of randomness; a pid is a secret."""


class Connector:
    """Registers connections: first here, then for everyone, so that nothing sent after the welcome is missed.

    The limits count connections and rooms; None means off.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        broker: Broker,
        presence: Presence,
        sessions: Sessions,
        revocations: Revocations,
        recovery: Recovery,
        disconnector: Disconnector,
        clock: Clock,
        replica: str,
        max_connections_per_user: int | None,
        max_rooms_per_connection: int | None,
    ) -> None:
        self._hub = hub
        self._broker = broker
        self._presence = presence
        self._sessions = sessions
        self._revocations = revocations
        self._recovery = recovery
        self._disconnector = disconnector
        self._clock = clock
        self._replica = replica
        self._max_connections_per_user = max_connections_per_user
        self._max_rooms_per_connection = max_rooms_per_connection

    async def connect(
        self,
        identity: Identity,
        namespace: str,
        transport: ClientTransport,
        recovery_request: RecoveryRequest,
    ) -> ConnectResult:
        """The connection, registered everywhere and still ARRIVING: it is LIVE once its client was welcomed.

        Raises TooManyConnections, TokenRefused, BrokerUnavailable, BrokerTimeout; nobody is left behind then.
        """
        failed = None
        try:
            if isinstance(recovery_request.pid, str) and self._disconnector.is_ending(recovery_request.pid):
                raise RecoveryFailed("unknown_session")
            resumed = await self._recovery.resume_session(recovery_request, identity.user, namespace)
            if resumed is not None:
                return await self._resume(resumed, identity, transport, recovery_request)
        except RecoveryFailed as reason:
            failed = reason.code
        return await self._begin(identity, namespace, transport, recovery_request, failed)

    async def refresh(self, connection: Connection, identity: Identity) -> None:
        """The client showed a newer token: its rooms are those of that token from now on.

        Raises TokenRefused, BrokerUnavailable, BrokerTimeout.
        """
        if identity.user != connection.user:
            raise TokenRejected("token_invalid", "the token is another user's")
        rooms = self._rooms(connection.sid, identity)
        await self._reject_revoked(identity)
        if connection.state is ConnectionState.CLOSED:
            # It left while its token was looked at: who is not in the hub any more must not get into rooms again.
            return
        if rooms != connection.rooms:
            await self._change_rooms(connection, rooms)
        connection.identity = identity

    # the two ways in

    async def _resume(
        self,
        resumed: ResumedSession,
        identity: Identity,
        transport: ClientTransport,
        recovery_request: RecoveryRequest,
    ) -> ConnectResult:
        """Raises NotRecovered where not everything that was missed is there."""
        session = replace(resumed.session, owner=recovery_request.owner)
        former = self._hub.connections.get(session.sid)
        if former is not None:
            former.transport.disconnect(RESUMED_ELSEWHERE)
            self._disconnector.disconnect(former)  # also where it was only arriving
        connection = Connection(
            session.sid, session.namespace, identity, transport, self._clock.now(), session=session
        )
        async with self._rollback(connection):
            position = await self._subscribe(connection)
            now = session.with_rooms(connection.rooms, position)
            connection.attach_session(now)
            missed = await self._recovery.first_page(connection, now, recovery_request)
            if now != session:
                await self._sessions.change(now)
            await self._register(connection)
        if resumed.in_use and former is None:
            self._disconnector.queue_takeover(
                SessionTakeover(new_id(), session.namespace, session.sid, resumed.session.owner)
            )
        return ConnectResult(connection, connection.first_position or position, missed.last_position, missed)

    async def _begin(
        self,
        identity: Identity,
        namespace: str,
        transport: ClientTransport,
        recovery_request: RecoveryRequest,
        failed: str | None,
    ) -> ConnectResult:
        self._check_user_limit(identity.user)
        sid = secrets.token_urlsafe(_SID_BYTES)
        connection = Connection(sid, namespace, identity, transport, self._clock.now())
        missed = None
        async with self._rollback(connection):
            position = await self._subscribe(connection)
            if self._recovery.is_enabled(recovery_request):
                session = _new_session(connection, recovery_request.owner, position)
                connection.attach_session(session)
                if recovery_request.resume is not None:
                    missed, failed = await self._recovery.from_position(
                        connection, session, recovery_request.resume
                    )
            if connection.session is not None:
                await self._sessions.save(connection.session)
            await self._register(connection)
        if missed is None or connection.session is None:
            return ConnectResult(connection, position, position, failure=failed)
        return ConnectResult(connection, connection.session.first_position, missed.last_position, missed)

    @asynccontextmanager
    async def _rollback(self, connection: Connection) -> AsyncIterator[None]:
        """Whoever is not let in leaves nothing behind, but the session of one who may come again."""
        try:
            yield
        except BaseException as reason:
            gone_for_good = isinstance(reason, RecoveryFailed) or connection.was_disconnected
            self._disconnector.disconnect(connection, keeps_session=not gone_for_good)
            raise

    def _check_user_limit(self, user: str) -> None:
        """Only for a connection that is new: one that goes on was counted where it began, and a refusal is for good.

        When a replica goes, the others get its connections of a user who may have as many on each of them.
        """
        limit = self._max_connections_per_user
        if limit is not None and self._hub.connections_of(user) >= limit:
            raise TooManyConnections(f"this user has {limit} connections here already")

    async def _subscribe(self, connection: Connection) -> Position:
        """Into its rooms here; from the position answered on, everything for them arrives."""
        rooms = self._rooms(connection.sid, connection.identity)
        self._hub.add(connection, rooms)
        # Also where others here are already: they may be waiting for the same subscription.
        position = await self._broker.subscribe(
            [Address(connection.namespace, room) for room in (None, *rooms)]
        )
        connection.first_position = position
        return position

    async def _register(self, connection: Connection) -> None:
        # After the subscription: a kick is either seen here or delivered to this connection, never missed by both.
        await self._reject_revoked(connection.identity)
        present = PresentConnection(
            sid=connection.sid,
            user=connection.user,
            namespace=connection.namespace,
            replica=self._replica,
            transport=connection.transport.name,
            connected_at=connection.connected_at,
        )
        await self._presence.register(present, connection.rooms)
        if connection.was_disconnected:
            raise TokenRejected("token_revoked", "a backend ended this connection")
        if connection.taken_over:
            raise BrokerUnavailable("the connection was resumed elsewhere meanwhile")

    async def _change_rooms(self, connection: Connection, rooms: frozenset[str]) -> None:
        before, session = connection.rooms, connection.session
        # No page of the history is under way meanwhile: it was asked for with the rooms as they were.
        async with connection.transport.replay_lock:
            position = await self._apply_rooms(connection, rooms)
            if session is not None:
                connection.session = session.with_rooms(rooms, position)
        try:
            await self._update_presence(connection)
        except BaseException:
            self._hub.change_rooms(connection, before)
            connection.session = session
            # What cannot be told now is told later (``ports``): what counts is that they are the former ones again.
            with suppress(BrokerUnavailable, BrokerTimeout):
                await self._update_presence(connection)
            raise

    async def _update_presence(self, connection: Connection) -> None:
        try:
            await self._presence.change_rooms(connection.sid, connection.rooms)
        finally:
            if connection.session is not None:
                await self._sessions.change(connection.session)

    async def _apply_rooms(self, connection: Connection, rooms: frozenset[str]) -> Position:
        """Into these rooms here, or into none of them; where it entered those that are new."""
        before = connection.rooms
        touched = [Address(connection.namespace, room) for room in rooms ^ before]
        # In the hub first: a room that nobody is in may be unsubscribed by whoever left it last.
        self._hub.change_rooms(connection, rooms)
        try:
            return await self._broker.subscribe([each for each in touched if each.room in rooms])
        except BaseException:
            self._hub.change_rooms(connection, before)
            raise
        finally:
            # Somebody may have come in since, or this one gone: what counts is who is there now.
            await self._broker.unsubscribe([each for each in touched if not self._hub.has(each)])

    def _rooms(self, sid: str, identity: Identity) -> frozenset[str]:
        """Those that the token grants, and the one of the sid, where every connection is alone."""
        limit = self._max_rooms_per_connection
        if limit is not None and len(identity.rooms) > limit:
            raise TokenRejected("token_invalid", f"the token grants more than {limit} rooms")
        return identity.rooms | {sid}

    async def _reject_revoked(self, identity: Identity) -> None:
        revoked_at = await self._revocations.revoked_at(identity.user)
        if revoked_at is not None and (identity.issued_at is None or identity.issued_at < revoked_at):
            raise TokenRejected("token_revoked", "the token was revoked")


def _new_session(connection: Connection, owner: str, position: Position) -> RecoverySession:
    return RecoverySession(
        pid=secrets.token_urlsafe(_PID_BYTES),
        sid=connection.sid,
        user=connection.user,
        namespace=connection.namespace,
        owner=owner,
        rooms=connection.rooms,
        first_position=position,
    )
