"""Connections that may come back."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Final

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, NotRecovered
from gateway.domain.sessions import Adopted, Session
from gateway.state.redis.commands import Commands
from gateway.state.redis.registered import decode_session, encode_session

_AT_ONCE: Final = 50


class RedisSessions:
    """``gateway.ports.Sessions``. A session in use stands in the hash of its replica, which that keeps alive as a
    whole; one that was left has a key of its own, which ends by its age.

    What is in use here is kept here too, so that it can be saved again when Redis has lost it.
    """

    def __init__(self, commands: Commands, *, replica: str) -> None:
        self._commands = commands
        self._replica = replica
        self._in_use: dict[str, Session] = {}
        self._unsaved: set[str] = set()
        self._ended: dict[str, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._in_use)

    async def save(self, session: Session) -> None:
        self._in_use.setdefault(session.pid, session)
        await self._commands.call("save_session", self._replica, session.pid, encode_session(session))
        if session.pid not in self._in_use:
            # It ended meanwhile, and Redis may have heard of that first.
            self._ended[session.pid] = ("leave_session", session.owner)

    async def change(self, session: Session) -> None:
        known = self._in_use.get(session.pid)
        if known is not None and known.owner == session.owner:
            self._in_use[session.pid] = session
            await self._commands.call(
                "change_session", self._replica, session.pid, session.owner, encode_session(session)
            )

    async def adopt(self, pid: str, *, user: str, namespace: str, owner: str) -> Adopted:
        status, *found = await self._commands.call(
            "adopt_session", self._replica, pid, user, namespace, owner
        )
        if not found:
            raise NotRecovered(status.decode())
        session = decode_session(pid, found[0])
        if session is None:
            raise NotRecovered("unknown_session")
        self._in_use[pid] = replace(session, owner=owner)
        return Adopted(session, in_use=status == b"in_use")

    async def leave(self, pid: str, *, owner: str) -> None:
        await self._end("leave_session", pid, owner)

    async def delete(self, pid: str, *, owner: str) -> None:
        await self._end("delete_session", pid, owner)

    async def _end(self, script: str, pid: str, owner: str) -> None:
        known = self._in_use.get(pid)
        if known is not None and known.owner == owner:
            del self._in_use[pid]
        try:
            await self._commands.call(script, self._replica, pid, owner)
        except (BrokerUnavailable, BrokerTimeout):
            self._ended[pid] = (script, owner)
            raise

    # what leases do

    def owe_all(self) -> None:
        """Redis has lost the sessions in use here. What another replica has taken over will stay as it is."""
        self._unsaved.update(self._in_use)

    async def settle(self) -> None:
        """Save again what is owed, and tell again of sessions that ended while Redis could not be told."""
        while unsaved := list(islice(self._unsaved, _AT_ONCE)):
            sessions = [self._in_use[pid] for pid in unsaved if pid in self._in_use]
            arguments = [text for each in sessions for text in (each.pid, encode_session(each))]
            await self._commands.call("save_session", self._replica, *arguments)
            self._unsaved.difference_update(unsaved)
        for pid, (script, owner) in list(self._ended.items()):
            await self._commands.call(script, self._replica, pid, owner)
            del self._ended[pid]
