"""Recovery sessions in memory, and connections that begin and end with them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from gateway.domain.errors import RecoveryFailed, TokenRejected
from gateway.domain.identity import Identity
from gateway.domain.messages import Address
from gateway.domain.names import user_room
from gateway.domain.positions import Position
from gateway.domain.presence import ClosedConnection, PresentConnection
from gateway.domain.sessions import RecoverySession, ResumedSession
from gateway.interfaces import Broker, Clock, DataSource, Presence, Revocations, Sessions
from gateway.state.memory.offline_queue import KeptMessages
from gateway.state.memory.ttl_map import TtlMap


class MemorySessions:
    """Satisfies ``gateway.interfaces.Sessions``. A session is in use while its connection is, and parked afterwards.

    The ``max_parked`` newest parked sessions are kept, of one user the ``max_parked_of_user`` newest (None: no limit),
    and as many as take ``max_parked_bytes``. Each is kept for ``recovery_seconds`` and for as long again: then a client
    that comes too late gets ``session_expired`` and not ``unknown_session``. ``on_removed`` gets the sid of a session
    that was removed.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        recovery_seconds: float,
        max_parked: int,
        max_parked_of_user: int | None,
        max_parked_bytes: int,
        on_removed: Callable[[str], None],
    ) -> None:
        self._in_use: dict[str, RecoverySession] = {}
        self._parked: TtlMap[str, _ParkedSession] = TtlMap(
            clock=clock, seconds=2 * recovery_seconds, max_items=max_parked, on_removed=self._removed
        )
        self._max_parked_of_user = max_parked_of_user
        self._max_parked_bytes = max_parked_bytes
        self._on_removed = on_removed
        self._of_user: dict[str, OrderedDict[str, None]] = {}
        """The pids of the parked sessions of each user, the oldest first."""
        self._parked_bytes = 0
        self._clock = clock
        self._recovery_seconds = recovery_seconds

    def __len__(self) -> int:
        return len(self._in_use) + len(self._parked)

    async def save(self, session: RecoverySession) -> None:
        if session.pid not in self._in_use and self._parked.get(session.pid) is None:
            self._in_use[session.pid] = session

    async def change(self, session: RecoverySession) -> None:
        if self._is_owner(session.pid, session.owner):
            self._in_use[session.pid] = session

    async def resume(self, pid: str, *, user: str, namespace: str, owner: str) -> ResumedSession:
        parked = self._parked.get(pid)
        session = self._in_use.get(pid) if parked is None else parked.session
        if session is None or session.namespace != namespace:
            raise RecoveryFailed("unknown_session")
        if session.user != user:
            raise RecoveryFailed("other_user")
        if parked is not None and self._clock.monotonic() >= parked.ends_at:
            raise RecoveryFailed("session_expired")
        self._forget(pid)
        self._in_use[pid] = replace(session, owner=owner)
        return ResumedSession(session, in_use=parked is None)

    async def park(self, pid: str, *, owner: str) -> None:
        if self._is_owner(pid, owner):
            ends_at = self._clock.monotonic() + self._recovery_seconds
            session = self._in_use.pop(pid)
            self._forget(pid)
            of_user = self._of_user.setdefault(session.user, OrderedDict())
            of_user[pid] = None
            self._parked_bytes += _bytes_of(session)
            if self._max_parked_of_user is not None and len(of_user) > self._max_parked_of_user:
                self._forget(next(iter(of_user)), is_removed=True)
            self._parked.put(pid, _ParkedSession(session, ends_at))
            while self._parked_bytes > self._max_parked_bytes and len(self._parked) > 1:
                self._parked.remove_oldest()

    async def delete(self, pid: str, *, owner: str) -> None:
        parked = self._parked.get(pid)
        if self._is_owner(pid, owner):
            del self._in_use[pid]
        elif parked is not None and parked.session.owner == owner:
            self._forget(pid)

    def _forget(self, pid: str, *, is_removed: bool = False) -> None:
        parked = self._parked.remove(pid)
        if parked is not None:
            self._uncount(parked.session)
            if is_removed:
                self._on_removed(parked.session.sid)

    def _removed(self, _pid: str, parked: _ParkedSession) -> None:
        self._uncount(parked.session)
        self._on_removed(parked.session.sid)

    def _uncount(self, session: RecoverySession) -> None:
        self._parked_bytes -= _bytes_of(session)
        of_user = self._of_user[session.user]
        del of_user[session.pid]
        if not of_user:
            del self._of_user[session.user]

    def _is_owner(self, pid: str, owner: str) -> bool:
        session = self._in_use.get(pid)
        return session is not None and session.owner == owner


class MemoryConnects:
    """Satisfies ``gateway.interfaces.Connects``."""

    def __init__(
        self,
        *,
        broker: Broker,
        presence: Presence,
        sessions: Sessions,
        revocations: Revocations,
        kept: KeptMessages,
    ) -> None:
        self._broker = broker
        self._presence = presence
        self._sessions = sessions
        self._revocations = revocations
        self._kept = kept

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
        addresses = [Address(connection.namespace, room) for room in (None, *rooms)]
        position = await self._broker.subscribe(addresses)
        revocation = await self._revocations.read(identity.user, identity.token_id)
        if revocation.covers(identity):
            raise TokenRejected.revoked()
        if session is not None and self._kept.read(Address(connection.namespace, user_room(connection.user))):
            return None
        begun = None if session is None else session.begun_at(position)
        await self._presence.register(
            connection, rooms, session=begun, max_of_user=max_of_user, listed=listed, data=data
        )
        if begun is not None:
            await self._sessions.save(begun)
        return position


class MemoryDisconnects:
    """Satisfies ``gateway.interfaces.Disconnects``."""

    def __init__(self, presence: Presence, sessions: MemorySessions) -> None:
        self._presence = presence
        self._sessions = sessions

    async def record(self, disconnects: Sequence[ClosedConnection]) -> None:
        for each in disconnects:
            if not each.keeps_sid:
                await self._presence.unregister(each.sid, is_parked=each.is_parked)
            if each.pid:
                end = self._sessions.park if each.is_parked else self._sessions.delete
                await end(each.pid, owner=each.owner)


def _bytes_of(session: RecoverySession) -> int:
    """Return what a parked session takes, and its connection that counts as recoverable."""
    return 1_000 + 100 * len(session.rooms) + sum(map(len, session.rooms))


class _ParkedSession(NamedTuple):
    session: RecoverySession
    ends_at: float
