"""A WebSocket that wants to take over from polling (§Upgrade), until that is decided."""

from __future__ import annotations

from typing import Final

from gateway.ports import Schedule, Timer
from gateway.transport.session import Session
from gateway.transport.wire import SocketWire

_NUDGE_SECONDS: Final = 0.1
"""How often a poll is let go while a client tries the WebSocket, as the reference server does it."""


class Trial:
    """A WebSocket on trial: it has some time, and meanwhile polls of its client are let go (one may have been on its
    way when the probe was answered)."""

    __slots__ = ("_deadline", "_nudge", "_schedule", "_session", "probed")

    def __init__(
        self, schedule: Schedule, session: Session, timeout_seconds: float, wire: SocketWire
    ) -> None:
        self.probed = False
        self._schedule = schedule
        self._session = session
        self._deadline = schedule.after(timeout_seconds, wire.abort)
        self._nudge: Timer | None = None

    def answer(self) -> None:
        """The probe is answered."""
        self.probed = True
        self._later()

    def end(self) -> None:
        """It is decided."""
        self._deadline.cancel()
        if self._nudge is not None:
            self._nudge.cancel()

    def _later(self) -> None:
        self._nudge = self._schedule.after(_NUDGE_SECONDS, self._release)

    def _release(self) -> None:
        self._session.release_poll()
        self._later()
