"""Which handshakes are let in: there is room, they do not come too fast, the gateway is not leaving."""

from __future__ import annotations

import math
from collections.abc import Callable

from gateway.ports import Clock
from gateway.transport.errors import HandshakeError, unavailable


class Admission:
    """Decides on each new session before anything is kept of it. A limit of None is off."""

    def __init__(
        self,
        clock: Clock,
        *,
        max_connections: int | None,
        connects_per_second: float | None,
        open_now: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._max_connections = max_connections
        self._rate = connects_per_second
        self._open_now = open_now
        self._tokens = max(1.0, connects_per_second or 0.0)
        self._refilled_at = clock.monotonic()
        self.draining = False

    def decide(self) -> HandshakeError | None:
        """The refusal, or None: come in."""
        if self.draining:
            return unavailable("this replica is shutting down", 1)
        if self._max_connections is not None and self._open_now() >= self._max_connections:
            return unavailable("this replica is full", 5)
        if self._rate is not None and not self._take(self._rate):
            return unavailable("too many clients connect at once", math.ceil(1 / self._rate))
        return None

    def _take(self, rate: float) -> bool:
        now = self._clock.monotonic()
        self._tokens = min(max(1.0, rate), self._tokens + (now - self._refilled_at) * rate)
        self._refilled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
