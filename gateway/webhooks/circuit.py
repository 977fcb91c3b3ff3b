"""A circuit breaker: after failures in a row, requests are rejected for a while without being sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.interfaces import Clock

MAX_FAILURES: Final = 5
FIRST_OPEN_SECONDS: Final = 1.0
MAX_OPEN_SECONDS: Final = 30.0


class CircuitOpen(Exception):
    """The request must not be sent; it may be repeated after ``retry_after_seconds``."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("the circuit is open")
        self.retry_after_seconds = retry_after_seconds


class CircuitBreaker:
    """Opens after MAX_FAILURES failures in a row, for FIRST_OPEN_SECONDS, doubling to MAX_OPEN_SECONDS.

    After each of these times one request passes as a probe. Its success closes the circuit, its failure opens it for
    twice as long. Results of requests that began before the circuit opened never open it for longer.
    """

    def __init__(self, clock: Clock, on_change: Callable[[bool], None] = lambda _is_open: None) -> None:
        """``on_change`` is called when the circuit opens or closes; it must not wait."""
        self._clock = clock
        self._on_change = on_change
        self._failures = 0
        self._open_seconds = 0.0
        self._opened_until = 0.0
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Whether the last probe failed, or there was none since the circuit opened."""
        return self._open_seconds > 0

    def check(self) -> None:
        """Raise CircuitOpen if a request would be rejected now."""
        if not self.is_open:
            return
        left = self._opened_until - self._clock.monotonic()
        if left > 0 or self._is_probing:
            raise CircuitOpen(max(left, FIRST_OPEN_SECONDS))

    def enter(self) -> bool:
        """Begin a request; return whether it is the probe. Every request ends with one of the other three methods.

        Raises: CircuitOpen.
        """
        self.check()
        self._is_probing = self.is_open
        return self._is_probing

    def succeeded(self) -> None:
        """Record that the endpoint works: the circuit is closed."""
        was_open = self.is_open
        self._failures = 0
        self._open_seconds = 0.0
        self._is_probing = False
        if was_open:
            self._on_change(False)

    def failed(self, *, probe: bool) -> None:
        """Record a failure."""
        self._failures += 1
        if probe and self.is_open:
            self._open(min(2 * self._open_seconds, MAX_OPEN_SECONDS))
        elif not self.is_open and self._failures >= MAX_FAILURES:
            self._open(FIRST_OPEN_SECONDS)
            self._on_change(True)

    def abandoned(self, *, probe: bool) -> None:
        """Record that a request ended without a result, so that another one can be the probe."""
        if probe:
            self._is_probing = False

    def _open(self, seconds: float) -> None:
        self._open_seconds = seconds
        self._opened_until = self._clock.monotonic() + seconds
        self._is_probing = False
