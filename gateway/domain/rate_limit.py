"""Rate limits by the generic cell rate algorithm (GCRA; ITU-T I.371, virtual scheduling): values in, a decision out.

A bucket holds ``burst`` tokens and gains ``per_second`` tokens a second. Its whole state is one float, the theoretical
arrival time (TAT): when the bucket will be full again, in seconds of any clock that never goes back. The caller keeps
it; a bucket whose TAT has passed is full and need not be kept. Every ``per_second`` and ``burst`` is above 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

FULL: Final = -math.inf
"""The TAT of a bucket that nothing was taken from."""

TOLERANCE_SECONDS: Final = 1e-6
"""How much too early a request may come: what floating point may take away from a token that is exactly due."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``burst`` requests at once, refilled at ``per_second``."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class RateLimitResult:
    """The answer to one request: ``limit`` is the burst, ``remaining`` the whole tokens left after it.

    ``reset_seconds`` is the time until the bucket is full. ``retry_after_seconds`` is the time until there is a token,
    0 when the request was allowed.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float
    retry_after_seconds: float


def wait_seconds(tat: float, now: float, per_second: float, burst: float) -> float:
    """Return how long to wait for a token: 0 when there is one now."""
    wait = tat - now - (burst - 1) / per_second
    return wait if wait > TOLERANCE_SECONDS else 0.0


def take_token(tat: float, now: float, per_second: float) -> float:
    """Return the TAT of the bucket after one token was taken, whether there was one or not."""
    return max(tat, now) + 1 / per_second


def consume(tat: float, now: float, rate: Rate) -> tuple[float, RateLimitResult]:
    """Take one token if there is one; return the new TAT and the answer. A rejected request takes nothing."""
    per_second, burst = rate.per_second, rate.burst
    retry_after_seconds = wait_seconds(tat, now, per_second, burst)
    if retry_after_seconds:
        return tat, RateLimitResult(False, burst, 0, tat - now, retry_after_seconds)
    tat = take_token(tat, now, per_second)
    reset_seconds = tat - now
    remaining = int(burst - (reset_seconds - TOLERANCE_SECONDS) * per_second)
    return tat, RateLimitResult(True, burst, min(max(0, remaining), burst - 1), reset_seconds, 0.0)


class KeyRates:
    """A bucket for each key, of at most ``max_keys``. Times are seconds of any clock that never goes back.

    A key is forgotten once its bucket is full again, or early, if too many others follow it.
    """

    def __init__(self, *, per_second: float, burst: float, max_keys: int, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._max_keys = max_keys
        # Two generations instead of a search for full buckets: an empty bucket is full again after one window.
        self._window_seconds = burst / per_second
        self._tats: dict[str, float] = {}
        self._older_tats: dict[str, float] = {}
        self._began_at = now

    def __len__(self) -> int:
        return len(self._tats) + len(self._older_tats)

    def wait_seconds(self, key: str, now: float) -> float:
        """Return how long to wait for a token of the key: 0 when there is one now. None is taken."""
        return wait_seconds(self._tat_of(key), now, self._per_second, self._burst)

    def take(self, key: str, now: float) -> None:
        """Take one token of the key, whether there is one or not."""
        self._forget(now)
        self._tats[key] = take_token(self._tat_of(key), now, self._per_second)

    def _tat_of(self, key: str) -> float:
        older = self._older_tats.get(key, FULL)
        return self._tats.get(key, older)

    def _forget(self, now: float) -> None:
        age = now - self._began_at
        if age < self._window_seconds and len(self._tats) < self._max_keys // 2:
            return
        self._older_tats = self._tats if age < 2 * self._window_seconds else {}
        self._tats = {}
        self._began_at = now
