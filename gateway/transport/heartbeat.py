"""Ping and pong of every session (§Heartbeat), on the timer heap of the process: a session has no task of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.interfaces import Schedule
from gateway.transport.session import EngineSession, Phase


class Heartbeat:
    """Pings each session every ``interval_seconds`` and aborts it if no pong arrives within ``timeout_seconds``.

    Where the timeout is longer than the interval, a late pong only delays the next ping.
    """

    def __init__(self, schedule: Schedule, *, interval_seconds: float, timeout_seconds: float) -> None:
        self._schedule = schedule
        self.interval_seconds = interval_seconds
        self.timeout_seconds = timeout_seconds

    def watch(self, session: EngineSession) -> None:
        """Ping the session from now on, first after one interval."""
        self._schedule_step(session, self.interval_seconds, self._ping)

    def unwatch(self, session: EngineSession) -> None:
        """Stop pinging a session that is closed, and drop its timer."""
        if session.heartbeat_timer is not None:
            session.heartbeat_timer.cancel()
            session.heartbeat_timer = None

    def _ping(self, session: EngineSession) -> None:
        if session.phase is Phase.CLOSING:
            # The session is closing, and its client has not read the rest by the time of the next ping.
            session.abort(session.end_reason)
            return
        session.ping()
        self._schedule_step(session, min(self.interval_seconds, self.timeout_seconds), self._check)

    def _check(self, session: EngineSession) -> None:
        """Act on the pong, or its absence, after the shorter one of interval and timeout."""
        if not session.awaits_pong:
            self._schedule_step(session, max(0.0, self.interval_seconds - self.timeout_seconds), self._ping)
        elif self.timeout_seconds <= self.interval_seconds:
            session.abort("ping_timeout")
        else:
            self._schedule_step(session, self.timeout_seconds - self.interval_seconds, self._expect_pong)

    def _expect_pong(self, session: EngineSession) -> None:
        if session.awaits_pong:
            session.abort("ping_timeout")
        else:
            self._ping(session)

    def _schedule_step(
        self, session: EngineSession, delay_seconds: float, step: Callable[[EngineSession], None]
    ) -> None:
        if not session.is_closed:
            session.heartbeat_timer = self._schedule.after(delay_seconds, partial(step, session))
