"""Connections that may come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from gateway.domain.errors import NotRecovered
from gateway.domain.sessions import Adopted, Session
from gateway.state.redis.commands import Commands
from gateway.state.redis.registered import decode_session, encode_session

_AT_ONCE: Final = 50


class RedisSessions:
    """``gateway.ports.Sessions``. A session in use stands in the hash of its replica, which that keeps alive as a
    whole; one that was left has a key of its own, which ends by its age.

    What is in use here is kept here too, so that it can be saved again when Redis has lost it. ``_unsaved`` are pids
    that Redis may know otherwise or not at all, ``_ended`` what is still to be said of those that are no longer here.
    """

    def __init__(self, commands: Commands, *, replica: str) -> None:
        self._commands = commands
        self._replica = replica
        self._in_use: dict[str, Session] = {}
        self._pids: dict[str, str] = {}
        self._unsaved: set[str] = set()
        self._ended: dict[str, tuple[str, str]] = {}
        self._being_saved: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._in_use)

    def pid_of(self, sid: str) -> str | None:
        """The session in use here that a sid belongs to."""
        return self._pids.get(sid)

    async def save(self, session: Session) -> None:
        if session.pid not in self._in_use:
            self._keep(session)
        await self._save([session])

    async def change(self, session: Session) -> None:
        known = self._in_use.get(session.pid)
        if known is not None and known.owner == session.owner:
            self._keep(session)
            await self._tell([session], "change_session", session.pid, session.owner, encode_session(session))

    async def adopt(self, pid: str, *, user: str, namespace: str, owner: str) -> Adopted:
        try:
            status, *found = await self._commands.call(
                "adopt_session", self._replica, pid, user, namespace, owner
            )
        except BaseException:
            # It may be this owner's, who is about to go away.
            self._ended[pid] = ("leave_session", owner)
            raise
        if not found:
            raise NotRecovered(status.decode())
        session = decode_session(pid, found[0])
        if session is None:
            self._ended[pid] = ("leave_session", owner)
            raise NotRecovered("unknown_session")
        self._ended.pop(pid, None)
        self._keep(replace(session, owner=owner))
        return Adopted(session, in_use=status == b"in_use")

    async def leave(self, pid: str, *, owner: str) -> None:
        await self._end("leave_session", pid, owner)

    async def delete(self, pid: str, *, owner: str) -> None:
        await self._end("delete_session", pid, owner)

    def _keep(self, session: Session) -> None:
        self._in_use[session.pid] = session
        self._pids[session.sid] = session.pid

    async def _end(self, script: str, pid: str, owner: str) -> None:
        known = self._in_use.get(pid)
        if known is not None and known.owner == owner:
            del self._in_use[pid]
            self._pids.pop(known.sid, None)
        end = self._ended[pid] = (script, owner)
        await self._commands.call(script, self._replica, pid, owner)
        # A saving that had to be told twice may come to Redis after this.
        if self._ended.get(pid) is end and not self._being_saved[pid] and pid not in self._unsaved:
            del self._ended[pid]

    async def _save(self, sessions: Sequence[Session]) -> None:
        pids = [session.pid for session in sessions]
        self._being_saved.update(pids)
        try:
            arguments = [text for each in sessions for text in (each.pid, encode_session(each))]
            await self._tell(sessions, "save_session", *arguments)
        finally:
            for pid in pids:
                self._being_saved[pid] -= 1
                if not self._being_saved[pid]:
                    del self._being_saved[pid]

    async def _tell(self, sessions: Sequence[Session], script: str, *arguments: str) -> None:
        try:
            await self._commands.call(script, self._replica, *arguments)
        except BaseException:
            self._unsaved.update(session.pid for session in sessions)
            raise
        # What was told meanwhile may have come to Redis first, if this had to be told twice.
        self._unsaved.update(each.pid for each in sessions if self._in_use.get(each.pid) is not each)

    # what leases do

    def owe_all(self) -> None:
        """Redis has lost the sessions in use here. What another replica has taken over will stay as it is."""
        self._unsaved.update(self._in_use)

    async def settle(self) -> None:
        """Save again what is owed."""
        while unsaved := list(islice(self._unsaved, _AT_ONCE)):
            self._unsaved.difference_update(unsaved)
            await self._save([self._in_use[pid] for pid in unsaved if pid in self._in_use])

    async def end(self) -> None:
        """Tell again of sessions that ended while Redis could not be told. It takes this at its memory limit, too."""
        for pid, end in list(self._ended.items()):
            script, owner = end
            await self._commands.call(script, self._replica, pid, owner)
            if self._ended.get(pid) is end:
                del self._ended[pid]
