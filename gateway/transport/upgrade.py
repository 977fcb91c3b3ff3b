"""A WebSocket that wants to take over from polling (§Upgrade), until that is decided."""

from __future__ import annotations

from typing import Final

from gateway.interfaces import Schedule, Timer
from gateway.transport.session import EngineSession
from gateway.transport.websocket_writer import WebSocketWriter

_RELEASE_SECONDS: Final = 0.1
"""How often a poll is let go while a client tries the WebSocket, as the reference server does it."""


class UpgradeProbe:
    """A WebSocket on trial: it has some time, and meanwhile polls of its client are let go (one may have been on its
    way when the probe was answered)."""

    __slots__ = ("_deadline", "_release_timer", "_schedule", "_session", "probed")

    def __init__(
        self, schedule: Schedule, session: EngineSession, timeout_seconds: float, writer: WebSocketWriter
    ) -> None:
        self.probed = False
        self._schedule = schedule
        self._session = session
        self._deadline = schedule.after(timeout_seconds, writer.abort)
        self._release_timer: Timer | None = None

    def answer(self) -> None:
        """The probe is answered."""
        self.probed = True
        self._later()

    def end(self) -> None:
        """It is decided."""
        self._deadline.cancel()
        if self._release_timer is not None:
            self._release_timer.cancel()

    def _later(self) -> None:
        self._release_timer = self._schedule.after(_RELEASE_SECONDS, self._release)

    def _release(self) -> None:
        self._session.release_poll()
        self._later()
