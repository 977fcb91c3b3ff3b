"""Connections that are gone: one script unregisters many, and parks or deletes their recovery sessions."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.domain.presence import ClosedConnection
from gateway.state.redis.commands import Argument
from gateway.state.redis.presence import RedisPresence
from gateway.state.redis.sessions import RedisSessions


class RedisDisconnects:
    """``gateway.interfaces.Disconnects``.

    What a failed script did not write is kept by presence and sessions, which write it after the next heartbeat.
    """

    def __init__(self, presence: RedisPresence, sessions: RedisSessions) -> None:
        self._presence = presence
        self._sessions = sessions

    async def record(self, disconnects: Sequence[ClosedConnection]) -> None:
        # Nothing waits before the script is queued: what is registered from now on is executed after it.
        arguments: list[Argument] = []
        sids, ends = [], []
        for each in disconnects:
            if not each.keeps_sid and self._presence.leave(each.sid, is_parked=each.is_parked):
                sids.append(each.sid)
                arguments += (each.sid, int(each.is_parked))
            else:
                arguments += ("", 0)
            if each.pid:
                ends.append(self._sessions.leave(each.pid, each.owner, is_parked=each.is_parked))
                arguments += ends[-1]
            else:
                arguments += ("", "", "")
        await self._presence.write(sids, "disconnect", *arguments, has_rules=True)
        self._presence.left(sids)
        self._sessions.left(ends)
