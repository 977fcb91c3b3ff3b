"""Connections that may come back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from gateway.domain.sessions import Session
from gateway.ports import Clock
from gateway.state.memory.expiring import Expiring


class MemorySessions:
    """``gateway.ports.Sessions``. A session is either in use, as long as its connection is, or left behind.

    Of those left behind the ``max_left`` newest are kept, each for ``recovery_seconds``.
    """

    def __init__(self, *, clock: Clock, recovery_seconds: float, max_left: int) -> None:
        self._in_use: dict[str, Session] = {}
        self._left: Expiring[str, Session] = Expiring(
            clock=clock, seconds=recovery_seconds, max_items=max_left
        )

    def __len__(self) -> int:
        return len(self._in_use) + len(self._left)

    async def save(self, session: Session) -> None:
        known = self._in_use.get(session.pid) or self._left.get(session.pid)
        if known is None:
            self._in_use[session.pid] = session

    async def change_rooms(self, pid: str, rooms: Collection[str], *, owner: str) -> None:
        session = self._in_use.get(pid)
        if session is not None and session.owner == owner:
            self._in_use[pid] = replace(session, rooms=frozenset(rooms))

    async def adopt(self, pid: str, *, user: str, owner: str) -> Session | None:
        session = self._in_use.get(pid) or self._left.get(pid)
        if session is None or session.user != user:
            return None
        self._left.pop(pid)
        self._in_use[pid] = replace(session, owner=owner)
        return session

    async def leave(self, pid: str, *, owner: str) -> None:
        session = self._in_use.get(pid)
        if session is not None and session.owner == owner:
            self._left.put(pid, self._in_use.pop(pid))

    async def delete(self, pid: str, *, owner: str) -> None:
        session = self._in_use.get(pid) or self._left.get(pid)
        if session is not None and session.owner == owner:
            self._in_use.pop(pid, None)
            self._left.pop(pid)
