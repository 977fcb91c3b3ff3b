"""Recovery sessions in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from gateway.domain.errors import RecoveryFailed
from gateway.domain.presence import ClosedConnection
from gateway.domain.sessions import RecoverySession, ResumedSession
from gateway.interfaces import Clock, Presence
from gateway.state.memory.ttl_map import TtlMap


class MemorySessions:
    """Satisfies ``gateway.interfaces.Sessions``. A session is in use while its connection is, and parked afterwards.

    The ``max_parked`` newest parked sessions are kept, each for ``recovery_seconds`` and for as long again: then a
    client that comes too late gets ``session_expired`` and not ``unknown_session``.
    """

    def __init__(self, *, clock: Clock, recovery_seconds: float, max_parked: int) -> None:
        self._in_use: dict[str, RecoverySession] = {}
        self._parked: TtlMap[str, _ParkedSession] = TtlMap(
            clock=clock, seconds=2 * recovery_seconds, max_items=max_parked
        )
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
        self._parked.pop(pid)
        self._in_use[pid] = replace(session, owner=owner)
        return ResumedSession(session, in_use=parked is None)

    async def park(self, pid: str, *, owner: str) -> None:
        if self._is_owner(pid, owner):
            ends_at = self._clock.monotonic() + self._recovery_seconds
            self._parked.put(pid, _ParkedSession(self._in_use.pop(pid), ends_at))

    async def delete(self, pid: str, *, owner: str) -> None:
        parked = self._parked.get(pid)
        if self._is_owner(pid, owner):
            del self._in_use[pid]
        elif parked is not None and parked.session.owner == owner:
            self._parked.pop(pid)

    def _is_owner(self, pid: str, owner: str) -> bool:
        session = self._in_use.get(pid)
        return session is not None and session.owner == owner


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


class _ParkedSession(NamedTuple):
    session: RecoverySession
    ends_at: float
