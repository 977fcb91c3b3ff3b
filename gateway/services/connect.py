"""Connect a verified client: make a new connection, or resume a former one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, TypeVar

import structlog

from gateway.domain import positions
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
from gateway.domain.names import SID_PREFIX, user_room
from gateway.domain.positions import Position
from gateway.domain.presence import PresentConnection
from gateway.domain.sessions import RecoveryRequest, RecoverySession, ResumedSession
from gateway.hub import ClientTransport, Connection, ConnectionState, Hub
from gateway.interfaces import (
    Broker,
    Clock,
    Connects,
    OfflineQueue,
    Presence,
    Revocations,
    Sessions,
    SocketDataStore,
)
from gateway.services.disconnect import Disconnector
from gateway.services.memberships import Memberships
from gateway.services.recovery import ConnectResult, Recovery, new_session

_CLOSED_SECONDS: Final = 1.0
"""How long a connect waits until closed connections do not count any more."""
_SID_BYTES: Final = 15

X = TypeVar("X")

log = structlog.get_logger(__name__)


class Connector:
    """Registers connections: first in the hub, then in the shared state.

    Every message appended after a client was accepted reaches it. The limits count connections of a user on all
    replicas, and rooms of a token; None means off.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        broker: Broker,
        presence: Presence,
        connects: Connects,
        offline_queue: OfflineQueue,
        sessions: Sessions,
        revocations: Revocations,
        socket_data: SocketDataStore,
        memberships: Memberships,
        recovery: Recovery,
        disconnector: Disconnector,
        listed: Callable[[Connection], str | None] = lambda _: None,
        clock: Clock,
        replica: str,
        max_connections_per_user: int | None,
        max_rooms_per_connection: int | None,
    ) -> None:
        """``listed`` returns the entry of a connection in the list of its namespace, None without a list."""
        self._hub = hub
        self._broker = broker
        self._presence = presence
        self._connects = connects
        self._offline_queue = offline_queue
        self._sessions = sessions
        self._revocations = revocations
        self._socket_data = socket_data
        self._memberships = memberships
        self._recovery = recovery
        self._disconnector = disconnector
        self._listed = listed
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
        """Register a connection everywhere; it stays CONNECTING until ``Replayer.start`` accepts it.

        Raises: TooManyConnections, TokenRejected, BrokerUnavailable, BrokerTimeout; nothing stays registered then.
        """
        self._disconnector.check_waiting(identity.user)
        failure = None
        try:
            if isinstance(recovery_request.pid, str) and self._disconnector.is_ending(recovery_request.pid):
                raise RecoveryFailed("unknown_session")
            resumed = await self._recovery.resume_session(recovery_request, identity.user, namespace)
            if resumed is not None:
                return await self._resume(resumed, identity, transport, recovery_request)
        except RecoveryFailed as reason:
            failure = reason.code
        return await self._begin(identity, namespace, transport, recovery_request, failure)

    async def refresh(self, connection: Connection, identity: Identity) -> None:
        """Apply a refreshed token: the connection gets the rooms of that token, and stays in those that it joined.

        Raises: TokenRejected, BrokerUnavailable, BrokerTimeout; the connection keeps its former rooms then.
        """
        if identity.user != connection.user:
            raise TokenRejected("token_invalid", "the token is another user's")
        rooms = self._rooms(connection.sid, identity)
        async with self._memberships.changing(connection):
            if connection.state is ConnectionState.CLOSED:
                # It was closed meanwhile: a connection that left the hub must not join rooms again.
                return
            # Before the revocations are read: a later one is a disconnect command that ends this connection.
            self._hub.add_token(connection, identity.token_id)
            unused = identity
            try:
                await self._reject_revoked(identity)
                await self._memberships.change(connection, rooms | connection.joined_rooms, identity.rooms)
                if not _is_closed(connection):
                    unused, connection.identity = connection.identity, identity
            finally:
                if unused.token_id != connection.identity.token_id:
                    self._hub.remove_token(connection, unused.token_id)

    # new or resumed

    async def _resume(
        self,
        resumed: ResumedSession,
        identity: Identity,
        transport: ClientTransport,
        recovery_request: RecoveryRequest,
    ) -> ConnectResult:
        """Raises: RecoveryFailed when the history does not hold everything that was missed."""
        session = replace(resumed.session, owner=recovery_request.owner)
        former = self._hub.connections.get(session.sid)
        if former is not None:
            former.transport.disconnect(RESUMED_ELSEWHERE)
            self._disconnector.disconnect(former)  # also while it is CONNECTING
        connection = Connection(
            session.sid, session.namespace, identity, transport, self._clock.now(), session=session
        )
        async with self._rollback(connection):
            self._check_user_limit(identity.user)
            self._hub.add(connection, self._rooms(connection.sid, identity) | session.joined_rooms)
            position = await self._subscribe(connection)
            changed = session.with_rooms(connection.rooms, position, joined=connection.joined_rooms)
            connection.attach_session(changed)
            first_page = await self._recovery.first_page(connection, changed, recovery_request)
            if changed != session:
                await self._sessions.change(changed)
            await self._register(connection)
            # After the registration: a later change is delivered to this connection.
            connection.change_data(await self._socket_data.read(session.sid))
        if resumed.in_use and former is None:
            self._disconnector.queue_takeover(
                SessionTakeover(new_id(), session.namespace, session.sid, resumed.session.owner)
            )
        return ConnectResult(
            connection, connection.first_position or position, first_page.last_position, first_page
        )

    async def _begin(
        self,
        identity: Identity,
        namespace: str,
        transport: ClientTransport,
        recovery_request: RecoveryRequest,
        failure: str | None,
    ) -> ConnectResult:
        self._check_user_limit(identity.user)
        sid = SID_PREFIX + secrets.token_urlsafe(_SID_BYTES)
        connection = Connection(sid, namespace, identity, transport, self._clock.now())
        connection.wants_offsets = self._recovery.is_enabled(recovery_request)
        first_page, position = None, None
        async with self._rollback(connection):
            self._hub.add(connection, self._rooms(connection.sid, connection.identity))
            resume = recovery_request.resume if connection.wants_offsets else None
            if resume is None:
                position = await self._begin_now(connection, recovery_request.owner)
            if position is None:
                position = await self._subscribe(connection)
                session = new_session(connection, recovery_request.owner, position)
                connection.attach_session(session)
                if resume is not None:
                    first_page, failure = await self._recovery.from_position(connection, session, resume)
                position = await self._append_kept(connection, session, is_new=first_page is None)
                if connection.session is not None:
                    await self._sessions.save(connection.session)
                await self._register(connection)
        if first_page is None or connection.session is None:
            return ConnectResult(connection, position, position, failure=failure)
        return ConnectResult(
            connection,
            connection.session.first_position,
            first_page.last_position,
            first_page,
            capped_rooms=frozenset(connection.session.joined_at),
        )

    async def _begin_now(self, connection: Connection, owner: str) -> Position | None:
        """Register a connection that begins now; return where it begins, or None if messages are kept for its user.

        These have to be appended before the connection is registered: they begin before everything that is accepted
        while it is, and what is accepted before its first position is not for it.

        Until its position is known, its session begins at ``positions.END``: what is written of it meanwhile shows
        nothing. A change of rooms that comes meanwhile is applied when it has skipped that (``RoomChangeListener``).
        """
        if connection.wants_offsets:
            connection.attach_session(new_session(connection, owner, positions.END))
        session = connection.session
        position = await self._within_limit(
            lambda: self._connects.connect(
                self._present(connection),
                connection.rooms,
                connection.identity,
                session=session,
                max_of_user=self._max_connections_per_user,
                listed=self._listed(connection),
                data=connection,
            )
        )
        if position is None:
            return None
        connection.first_position = position
        self._reject_ended(connection)
        if session is not None:
            connection.attach_session(session.begun_at(position))
        return position

    async def _append_kept(
        self, connection: Connection, session: RecoverySession, *, is_new: bool
    ) -> Position:
        """Append what is kept for the user while offline, for this connection; return where the connection begins.

        A new one begins before the first of these messages, and so gets nothing that is newer before them. One that
        begins at a kept position gets them behind what it missed, without those that it missed.
        """
        upto = None if is_new or connection.session is None else connection.session.first_position
        start = await self._offline_queue.append_copies(_user_address(connection), connection.sid, upto=upto)
        position = session.first_position
        if start is not None and is_new:
            position = connection.first_position = start
            connection.attach_session(session.begun_at(start))
        return position

    async def append_kept_live(self, connection: Connection) -> None:
        """Append what is kept for the user of a new LIVE connection without a recovery session, for the connection.

        Such a connection gets no history. So what came while it was CONNECTING is appended for it, too. A failure is
        logged: the messages stay in the queue.
        """
        skipped, first = connection.last_skipped, connection.first_position
        upto = first if skipped is None or first is None else max(skipped, first, key=positions.order)
        try:
            await self._offline_queue.append_copies(_user_address(connection), connection.sid, upto=upto)
        except (BrokerUnavailable, BrokerTimeout) as error:
            log.warning("offline_queue.not_sent", sid=connection.sid, code=error.code)

    @asynccontextmanager
    async def _rollback(self, connection: Connection) -> AsyncIterator[None]:
        """Undo a failed connect. The recovery session is kept unless the client was disconnected for good."""
        try:
            yield
        except BaseException as reason:
            ended_for_good = isinstance(reason, RecoveryFailed) or connection.was_disconnected
            self._disconnector.disconnect(connection, keeps_session=not ended_for_good)
            raise

    def _check_user_limit(self, user: str) -> None:
        """Reject a connection over the limit early, by the connections on this replica, those that connect included.

        Presence counts those of all replicas.

        Raises: TooManyConnections.
        """
        limit = self._max_connections_per_user
        if limit is not None and self._hub.connections_of(user) >= limit:
            raise TooManyConnections(f"this user has {limit} connections already")

    async def _subscribe(self, connection: Connection) -> Position:
        """Subscribe the rooms of a connection; return the position after which everything arrives."""
        # Also for rooms with connections here: those may still wait for the same subscription.
        position = await self._broker.subscribe(
            [Address(connection.namespace, room) for room in (None, *connection.rooms)]
        )
        connection.first_position = position
        return position

    async def _register(self, connection: Connection) -> None:
        # After the subscription: so a revocation is read here, or delivered to this connection, or both.
        await self._reject_revoked(connection.identity)

        # A backend may change the rooms meanwhile.
        def register() -> Awaitable[None]:
            return self._presence.register(
                self._present(connection),
                connection.rooms,
                session=connection.session,
                max_of_user=self._max_connections_per_user,
                listed=self._listed(connection),
                data=connection,
            )

        await self._within_limit(register)
        self._reject_ended(connection)

    def _present(self, connection: Connection) -> PresentConnection:
        return PresentConnection(
            sid=connection.sid,
            user=connection.user,
            namespace=connection.namespace,
            replica=self._replica,
            transport=connection.transport.name,
            connected_at=connection.connected_at,
        )

    async def _within_limit(self, register: Callable[[], Awaitable[X]]) -> X:
        """Register a connection, again after those that were closed here count no more if its user has too many.

        So a page that is loaded again is not rejected.
        """
        try:
            return await register()
        except TooManyConnections:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSED_SECONDS):
                    await self._disconnector.flush()
            return await register()

    def _reject_ended(self, connection: Connection) -> None:
        """Raises: TokenRejected, BrokerUnavailable when the connection was ended while it was being registered."""
        if connection.was_disconnected:
            raise TokenRejected("token_revoked", "a backend ended this connection")
        if connection.taken_over:
            raise BrokerUnavailable("the connection was resumed elsewhere meanwhile")

    def _rooms(self, sid: str, identity: Identity) -> frozenset[str]:
        """Return the rooms that the token grants and the room of the sid.

        Raises: TokenRejected when the token grants more rooms than the limit.
        """
        limit = self._max_rooms_per_connection
        if limit is not None and len(identity.rooms) > limit:
            raise TokenRejected("token_invalid", f"the token grants more than {limit} rooms")
        return identity.rooms | {sid}

    async def _reject_revoked(self, identity: Identity) -> None:
        """Raises: TokenRejected when the token was revoked, by its id or with the older tokens of its user."""
        revocation = await self._revocations.read(identity.user, identity.token_id)
        if revocation.covers(identity):
            raise TokenRejected.revoked()


def _is_closed(connection: Connection) -> bool:
    return connection.state is ConnectionState.CLOSED


def _user_address(connection: Connection) -> Address:
    return Address(connection.namespace, user_room(connection.user))
