"""Ping and pong of every session (§Heartbeat), in the one schedule of the process: no task, no timer of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.ports import Schedule
from gateway.transport.session import Phase, Session


class Heartbeat:
    """Pings each session every ``interval_seconds`` and lets it go when no pong came within ``timeout_seconds``.

    Where the timeout is the longer one, a late pong puts off the next ping and nothing else.
    """

    def __init__(self, schedule: Schedule, *, interval_seconds: float, timeout_seconds: float) -> None:
        self._schedule = schedule
        self.interval_seconds = interval_seconds
        self.timeout_seconds = timeout_seconds

    def watch(self, session: Session) -> None:
        """Start with a ping in one interval."""
        self._later(session, self.interval_seconds, self._ping)

    def forget(self, session: Session) -> None:
        """It is closed: nothing of it is kept any longer."""
        if session.beat is not None:
            session.beat.cancel()
            session.beat = None

    def _ping(self, session: Session) -> None:
        if session.phase is Phase.ENDING:
            # It was told to go and does not read what is left.
            session.abort(session.end_reason)
            return
        session.ping()
        self._later(session, min(self.interval_seconds, self.timeout_seconds), self._look)

    def _look(self, session: Session) -> None:
        """The interval or the timeout is over, whichever is shorter."""
        if not session.awaits_pong:
            self._later(session, max(0.0, self.interval_seconds - self.timeout_seconds), self._ping)
        elif self.timeout_seconds <= self.interval_seconds:
            session.abort("ping_timeout")
        else:
            self._later(session, self.timeout_seconds - self.interval_seconds, self._expect_pong)

    def _expect_pong(self, session: Session) -> None:
        if session.awaits_pong:
            session.abort("ping_timeout")
        else:
            self._ping(session)

    def _later(self, session: Session, delay_seconds: float, step: Callable[[Session], None]) -> None:
        if not session.closed:
            session.beat = self._schedule.after(delay_seconds, partial(step, session))
