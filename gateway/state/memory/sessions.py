"""Connections that may come back."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from gateway.domain.errors import RecoveryFailed
from gateway.domain.sessions import RecoverySession, ResumedSession
from gateway.interfaces import Clock
from gateway.state.memory.ttl_map import TtlMap


class MemorySessions:
    """``gateway.interfaces.Sessions``. A session is either in use, as long as its connection is, or left behind.

    Of those left behind the ``max_left`` newest are kept, each for ``recovery_seconds``, and for as long again to tell
    who comes too late from who was never here.
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
        if self._is_of(session.pid, session.owner):
            self._in_use[session.pid] = session

    async def resume(self, pid: str, *, user: str, namespace: str, owner: str) -> ResumedSession:
        left = self._parked.get(pid)
        session = self._in_use.get(pid) if left is None else left.session
        if session is None or session.namespace != namespace:
            raise RecoveryFailed("unknown_session")
        if session.user != user:
            raise RecoveryFailed("other_user")
        if left is not None and self._clock.monotonic() >= left.ends_at:
            raise RecoveryFailed("session_expired")
        self._parked.pop(pid)
        self._in_use[pid] = replace(session, owner=owner)
        return ResumedSession(session, in_use=left is None)

    async def park(self, pid: str, *, owner: str) -> None:
        if self._is_of(pid, owner):
            ends_at = self._clock.monotonic() + self._recovery_seconds
            self._parked.put(pid, _ParkedSession(self._in_use.pop(pid), ends_at))

    async def delete(self, pid: str, *, owner: str) -> None:
        left = self._parked.get(pid)
        if self._is_of(pid, owner):
            del self._in_use[pid]
        elif left is not None and left.session.owner == owner:
            self._parked.pop(pid)

    def _is_of(self, pid: str, owner: str) -> bool:
        session = self._in_use.get(pid)
        return session is not None and session.owner == owner


class _ParkedSession(NamedTuple):
    session: RecoverySession
    ends_at: float
