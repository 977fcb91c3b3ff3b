"""Recovery sessions and their records.

    sessions:<r>  pid → owner, LF, user, LF, namespace, LF, {"v", "s", "p", "r", "e", "j", "c", "l"}
                  format, sid, first position, rooms, {room: position at which it was joined} for rooms joined later,
                  rooms that no token granted, position up to which changes of rooms took effect,
                  [room, after, upto] of each that was left

There is "j" only if a room was joined, "c" only after a change, and "l" only if a room was left. Former releases know
one or none of them: a connection that is resumed there leaves the rooms of "j", or has the changes applied again.

A parked record also has "n", as its last field: the generation of the log, a blank, and the newest position that the
replica had read when the connection was lost. A log that does not hold it any more has lost data (resume_session.lua).

A release reads its own format and the previous one. A record that it cannot read counts as absent.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, Final, NamedTuple

from gateway.domain import positions
from gateway.domain.errors import MalformedPosition, RecoveryFailed
from gateway.domain.sessions import RecoverySession, ResumedSession, Stay
from gateway.state.redis.commands import Commands
from gateway.state.redis.errors import NotExecuted
from gateway.state.redis.presence import BATCH, batches

_FORMAT: Final = 1
_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode


def encode_session(session: RecoverySession) -> str:
    """Encode the record of a session."""
    rest: dict[str, object] = {
        "v": _FORMAT,
        "s": session.sid,
        "p": session.first_position,
        "r": sorted(session.rooms),
        "e": dict(session.joined_at),
    }
    if session.joined_rooms:
        rest["j"] = sorted(session.joined_rooms)
    if session.changed_at is not None:
        rest["c"] = session.changed_at
    if session.left:
        rest["l"] = session.left
    return f"{session.owner}\n{session.user}\n{session.namespace}\n{_ENCODE(rest)}"


def decode_session(pid: str, value: bytes) -> RecoverySession | None:
    """Decode the record of a session; None for data that this release does not read."""
    try:
        owner, user, namespace, text = value.decode().split("\n", 3)
        rest: Any = json.loads(text)
        if rest["v"] != _FORMAT:
            return None
        rooms = frozenset(map(_text, _list(rest["r"])))
        return RecoverySession(
            pid=pid,
            sid=_text(rest["s"]),
            user=user,
            namespace=namespace,
            owner=owner,
            rooms=rooms,
            first_position=positions.parse(rest["p"]),
            joined_at={room: positions.parse(position) for room, position in rest["e"].items()},
            joined_rooms=rooms.intersection(map(_text, _list(rest.get("j", [])))),
            changed_at=positions.parse(rest["c"]) if "c" in rest else None,
            left=tuple(
                [
                    Stay(_text(room), positions.parse(after), positions.parse(upto))
                    for room, after, upto in rest.get("l", [])
                ]
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MalformedPosition):
        return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _list(value: object) -> Collection[object]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


class End(NamedTuple):
    """A session that ended here, as disconnect.lua takes it.

    ``lost``: when it was lost (ms), and what was read of the log then; empty if it is deleted.
    """

    pid: str
    owner: str
    lost: str


class RedisSessions:
    """``gateway.interfaces.Sessions``.

    A session in use is in the hash of its replica, which renews the TTL of the whole hash. A parked session has a key
    of its own with a TTL.

    Sessions in use here are kept here, too, to save them again when Redis has lost them. ``_unsaved`` are pids whose
    record in Redis may be missing or different, ``_ended`` the ends of sessions that are not certainly written.

    The recorded time of a loss is when the session was parked here, but never later than the end of the lease: a
    suspended replica notices nothing. After an expired lease ``_suspected`` are the sessions whose connections may have
    been lost then, for as long as a lost connection may look alive.
    """

    def __init__(
        self, commands: Commands, *, replica: str, suspect_seconds: float, log_position: Callable[[], str]
    ) -> None:
        """``suspect_seconds`` is how long a connection may look alive after its network has failed.

        ``log_position`` returns the generation of the log and the newest position that was read here, or nothing.
        """
        self._log_position = log_position
        self._commands = commands
        self._replica = replica
        self._in_use: dict[str, RecoverySession] = {}
        self._pids: dict[str, str] = {}
        self._unsaved: set[str] = set()
        self._ended: dict[str, End] = {}
        self._being_saved: Counter[str] = Counter()
        self._suspect_ms = int(suspect_seconds * 1000)
        self._lease_ends_ms: int | None = None
        self._suspected: set[str] = set()
        self._suspected_lost_ms = 0
        """When the connections of suspected sessions were lost at the latest, if they were lost."""
        self._suspected_until_ms = 0

    def __len__(self) -> int:
        return len(self._in_use)

    @property
    def unwritten(self) -> int:
        """The sessions whose record or end is not certainly written."""
        return len(self._unsaved) + len(self._ended)

    def pid_of(self, sid: str) -> str | None:
        """Return the pid of the session in use here for a sid, or None."""
        return self._pids.get(sid)

    async def save(self, session: RecoverySession) -> None:
        if session.pid not in self._in_use:
            self._keep(session)
        await self._save([session])

    async def change(self, session: RecoverySession) -> None:
        if self.replace(session):
            await self._write(
                [session], "change_session", session.pid, session.owner, encode_session(session)
            )

    async def resume(self, pid: str, *, user: str, namespace: str, owner: str) -> ResumedSession:
        try:
            status, *found = await self._commands.call(
                "resume_session", self._replica, pid, user, namespace, owner
            )
        except NotExecuted:
            raise
        except BaseException:
            # The session may belong to this owner now, whose connection is about to be closed.
            self._ended[pid] = self._parking(pid, owner)
            raise
        if not found:
            raise RecoveryFailed(status.decode())
        session = decode_session(pid, found[0])
        if session is None:
            self._ended[pid] = self._parking(pid, owner)
            raise RecoveryFailed("unknown_session")
        self._ended.pop(pid, None)
        self._suspected.discard(pid)
        self._keep(replace(session, owner=owner))
        return ResumedSession(session, in_use=status == b"in_use")

    async def park(self, pid: str, *, owner: str) -> None:
        await self._end(self.leave(pid, owner, is_parked=True))

    async def delete(self, pid: str, *, owner: str) -> None:
        await self._end(self.leave(pid, owner, is_parked=False))

    async def _end(self, *ends: End) -> None:
        arguments = [argument for each in ends for argument in ("", 0, *each)]
        await self._commands.call("disconnect", self._replica, "", *arguments)
        self.left(ends)

    def _parking(self, pid: str, owner: str) -> End:
        return End(pid, owner, f"{self._lost_ms(pid)} {self._log_position()}")

    def _lost_ms(self, pid: str) -> int:
        """Return when the connection of a session that is parked now was lost, by the clock of Redis."""
        now = self._commands.redis_ms()
        if pid in self._suspected and now < self._suspected_until_ms:
            return self._suspected_lost_ms
        return now if self._lease_ends_ms is None else min(now, self._lease_ends_ms)

    def _keep(self, session: RecoverySession) -> None:
        self._in_use[session.pid] = session
        self._pids[session.sid] = session.pid

    async def _save(self, sessions: Sequence[RecoverySession]) -> None:
        arguments = [text for each in sessions for text in (each.pid, encode_session(each))]
        with self.saving(*sessions):
            await self._commands.call("save_session", self._replica, *arguments)

    async def _write(self, sessions: Sequence[RecoverySession], script: str, *arguments: str) -> None:
        with self.writing(sessions):
            await self._commands.call(script, self._replica, *arguments)

    # called by RedisConnects

    def keep(self, session: RecoverySession) -> None:
        """Keep a new session here."""
        self._keep(session)

    @contextmanager
    def saving(self, *sessions: RecoverySession) -> Iterator[None]:
        """As ``writing``, for a script that saves the sessions even after they have ended."""
        pids = [session.pid for session in sessions]
        self._being_saved.update(pids)
        try:
            with self.writing(sessions):
                yield
        finally:
            for pid in pids:
                self._being_saved[pid] -= 1
                if not self._being_saved[pid]:
                    del self._being_saved[pid]

    def drop(self, session: RecoverySession) -> None:
        """Forget a session that was certainly not saved."""
        self._in_use.pop(session.pid, None)
        self._pids.pop(session.sid, None)
        self._unsaved.discard(session.pid)

    def begin(self, session: RecoverySession, begun: RecoverySession) -> None:
        """Replace a session by what was saved of it, unless it was changed meanwhile."""
        if self._in_use.get(session.pid) is session:
            self._keep(begun)

    # called by RedisConnectionRooms and RedisDisconnects

    def replace(self, session: RecoverySession) -> bool:
        """Keep a session instead of the former one. Return whether it is in use here, by the same owner."""
        known = self._in_use.get(session.pid)
        if known is None or known.owner != session.owner:
            return False
        self._keep(session)
        return True

    @contextmanager
    def writing(self, sessions: Sequence[RecoverySession]) -> Iterator[None]:
        """Record whether sessions are certainly written: Redis has them when the block ends without an error."""
        try:
            yield
        except BaseException:
            self._unsaved.update(session.pid for session in sessions)
            raise
        # If this write had to be repeated, a newer one may have been executed before it.
        self._unsaved.update(each.pid for each in sessions if self._in_use.get(each.pid) is not each)

    def leave(self, pid: str, owner: str, *, is_parked: bool) -> End:
        """Forget a session that is no longer in use here; return its end, which is kept until ``left``."""
        known = self._in_use.get(pid)
        if known is not None and known.owner == owner:
            del self._in_use[pid]
            self._pids.pop(known.sid, None)
        end = self._ended[pid] = self._parking(pid, owner) if is_parked else End(pid, owner, "")
        return end

    def left(self, ends: Iterable[End]) -> None:
        """Record that the ends of sessions are certainly written."""
        for end in ends:
            # If saving the session had to be repeated, the repetition may be executed after this.
            if (
                self._ended.get(end.pid) is end
                and not self._being_saved[end.pid]
                and end.pid not in self._unsaved
            ):
                del self._ended[end.pid]

    # called by Membership

    def lease_renewed(self, now_ms: int, ends_ms: int) -> None:
        """Record a heartbeat and the end of the lease, by the clock of Redis."""
        if self._lease_ends_ms is not None and now_ms >= self._lease_ends_ms:
            self._suspected = set(self._in_use)
            self._suspected_lost_ms, self._suspected_until_ms = self._lease_ends_ms, now_ms + self._suspect_ms
        elif now_ms >= self._suspected_until_ms:
            self._suspected.clear()
        self._lease_ends_ms = ends_ms

    def in_use(self) -> list[str]:
        """Return the pids of the sessions in use here."""
        return list(self._in_use)

    def forget(self, pids: Collection[str]) -> None:
        """Drop sessions that have ended, because the lease here had expired for longer than they are kept."""
        for pid in pids:
            session = self._in_use.pop(pid, None)
            if session is not None:
                self._pids.pop(session.sid, None)
        self._unsaved.difference_update(pids)

    def mark_all_dirty(self) -> None:
        """Mark every session in use here unsaved: Redis has lost them. Saving leaves those taken over as they are."""
        self._unsaved.update(self._in_use)

    async def flush(self) -> None:
        """Save the unsaved sessions again."""
        while unsaved := list(islice(self._unsaved, BATCH)):
            self._unsaved.difference_update(unsaved)
            await self._save([self._in_use[pid] for pid in unsaved if pid in self._in_use])

    async def end(self) -> None:
        """Write again the ends of sessions that failed to be written. Redis executes this at its memory limit, too."""
        for batch in batches(list(self._ended.values())):
            arguments = [argument for each in batch for argument in ("", 0, *each)]
            await self._commands.call("disconnect", self._replica, "", *arguments)
            for end in batch:
                if self._ended.get(end.pid) is end:
                    del self._ended[end.pid]
