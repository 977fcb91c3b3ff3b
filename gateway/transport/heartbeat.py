"""Ping and pong of every session (§Heartbeat), in the one schedule of the process: no task, no timer of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.interfaces import Schedule
from gateway.transport.session import EngineSession, Phase


class Heartbeat:
    """Pings each session every ``interval_seconds`` and lets it go when no pong came within ``timeout_seconds``.

    Where the timeout is the longer one, a late pong puts off the next ping and nothing else.
    """

    def __init__(self, schedule: Schedule, *, interval_seconds: float, timeout_seconds: float) -> None:
        self._schedule = schedule
        self.interval_seconds = interval_seconds
        self.timeout_seconds = timeout_seconds

    def watch(self, session: EngineSession) -> None:
        """Start with a ping in one interval."""
        self._later(session, self.interval_seconds, self._ping)

    def unwatch(self, session: EngineSession) -> None:
        """It is closed: nothing of it is kept any longer."""
        if session.heartbeat_timer is not None:
            session.heartbeat_timer.cancel()
            session.heartbeat_timer = None

    def _ping(self, session: EngineSession) -> None:
        if session.phase is Phase.CLOSING:
            # It was told to go and does not read what is left.
            session.abort(session.end_reason)
            return
        session.ping()
        self._later(session, min(self.interval_seconds, self.timeout_seconds), self._check)

    def _check(self, session: EngineSession) -> None:
        """The interval or the timeout is over, whichever is shorter."""
        if not session.awaits_pong:
            self._later(session, max(0.0, self.interval_seconds - self.timeout_seconds), self._ping)
        elif self.timeout_seconds <= self.interval_seconds:
            session.abort("ping_timeout")
        else:
            self._later(session, self.timeout_seconds - self.interval_seconds, self._expect_pong)

    def _expect_pong(self, session: EngineSession) -> None:
        if session.awaits_pong:
            session.abort("ping_timeout")
        else:
            self._ping(session)

    def _later(
        self, session: EngineSession, delay_seconds: float, step: Callable[[EngineSession], None]
    ) -> None:
        if not session.closed:
            session.heartbeat_timer = self._schedule.after(delay_seconds, partial(step, session))
