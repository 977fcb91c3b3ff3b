"""Connections that may come back."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from gateway.domain.errors import NotRecovered
from gateway.domain.sessions import Adopted, Session
from gateway.ports import Clock
from gateway.state.memory.expiring import Expiring


class MemorySessions:
    """``gateway.ports.Sessions``. A session is either in use, as long as its connection is, or left behind.

    Of those left behind the ``max_left`` newest are kept, each for ``recovery_seconds``, and for as long again to tell
    who comes too late from who was never here.
    """

    def __init__(self, *, clock: Clock, recovery_seconds: float, max_left: int) -> None:
        self._in_use: dict[str, Session] = {}
        self._left: Expiring[str, _Left] = Expiring(
            clock=clock, seconds=2 * recovery_seconds, max_items=max_left
        )
        self._clock = clock
        self._recovery_seconds = recovery_seconds

    def __len__(self) -> int:
        return len(self._in_use) + len(self._left)

    async def save(self, session: Session) -> None:
        if session.pid not in self._in_use and self._left.get(session.pid) is None:
            self._in_use[session.pid] = session

    async def change(self, session: Session) -> None:
        if self._is_of(session.pid, session.owner):
            self._in_use[session.pid] = session

    async def adopt(self, pid: str, *, user: str, namespace: str, owner: str) -> Adopted:
        left = self._left.get(pid)
        session = self._in_use.get(pid) if left is None else left.session
        if session is None or session.namespace != namespace:
            raise NotRecovered("unknown_session")
        if session.user != user:
            raise NotRecovered("other_user")
        if left is not None and self._clock.monotonic() >= left.ends_at:
            raise NotRecovered("session_expired")
        self._left.pop(pid)
        self._in_use[pid] = replace(session, owner=owner)
        return Adopted(session, in_use=left is None)

    async def leave(self, pid: str, *, owner: str) -> None:
        if self._is_of(pid, owner):
            ends_at = self._clock.monotonic() + self._recovery_seconds
            self._left.put(pid, _Left(self._in_use.pop(pid), ends_at))

    async def delete(self, pid: str, *, owner: str) -> None:
        left = self._left.get(pid)
        if self._is_of(pid, owner):
            del self._in_use[pid]
        elif left is not None and left.session.owner == owner:
            self._left.pop(pid)

    def _is_of(self, pid: str, owner: str) -> bool:
        session = self._in_use.get(pid)
        return session is not None and session.owner == owner


class _Left(NamedTuple):
    session: Session
    ends_at: float
