"""When a notification is tried again, and when it is not any more. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.domain.notifications import HeadFailures, QueuedNotification

DELAYS_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
SPREAD: Final = 0.2
MAX_FAILURES: Final = 8
MAX_DELAY_SECONDS: Final = 2 * 3600.0
"""No pause is longer, whatever the clock of the former owner of a partition showed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryRules:
    """The pauses after failures in a row: those of ``delays_seconds``, then the last one again and again.

    Each is up to ``spread`` of it shorter or longer. A notification that failed ``max_failures`` times while the
    webhook accepted others is a dead letter.
    """

    delays_seconds: tuple[float, ...] = DELAYS_SECONDS
    spread: float = SPREAD
    max_failures: int = MAX_FAILURES

    def delay_seconds(self, failures: int, *, retry_after_seconds: float | None, chance: float) -> float:
        """Return the pause after this many failures, 1 or more. ``chance`` is a random number from 0 to 1.

        The backend may ask for another pause (``Retry-After``): that is never shortened, nor below the first delay.
        """
        if retry_after_seconds is not None:
            return max(retry_after_seconds, self.delays_seconds[0]) * (1 + self.spread * chance)
        delay = self.delays_seconds[min(failures, len(self.delays_seconds)) - 1]
        return delay * (1 + self.spread * (2 * chance - 1))

    def gives_up(self, failures: HeadFailures) -> bool:
        """Return whether the notification is at fault, because the webhook accepts others."""
        return failures.beside_success >= self.max_failures


def pause_seconds(failures: HeadFailures | None, head: QueuedNotification, *, now: float) -> float:
    """Return how long the first notification of a partition still waits for its next try; 0 if it does not."""
    if failures is None or failures.sequence != head.sequence:
        return 0.0
    return min(max(0.0, failures.retry_at - now), MAX_DELAY_SECONDS)


def expired(notifications: Sequence[QueuedNotification], *, now: float, keep_seconds: float) -> list[int]:
    """Return the sequences of the first notifications that are too old, up to the first that is not.

    The age of a dead letter that was replayed begins anew.
    """
    sequences = []
    for each in notifications:
        if now - max(each.at, each.queued_at) <= keep_seconds:
            break
        sequences.append(each.sequence)
    return sequences
