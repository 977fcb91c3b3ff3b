"""Whether this replica hears what is published: it says something to itself, and listens for it. Pure, but for the
canary itself, which ``state.py`` sends.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.domain.condition import Condition


class Hearing:
    """Decides on the condition; times are monotonic seconds."""

    def __init__(self, *, deaf_seconds: float, now: float, changed: Callable[[Condition], None]) -> None:
        self.condition = Condition.HEARING
        self._deaf_seconds = deaf_seconds
        self._changed = changed
        self._answered = True
        self._unheard_since = now
        self._tried_at = now

    def heard(self, now: float) -> None:
        """A canary came."""
        self._unheard_since = self._tried_at = now
        if self._answered:
            self._become(Condition.HEARING)

    def asked(self, now: float, *, answered: bool) -> None:
        """Redis took a canary, or did not."""
        if answered and not self._answered:
            # While nothing could be said nothing could be heard.
            self._unheard_since = self._tried_at = now
        self._answered = answered
        if not answered:
            self._become(Condition.AWAY)
        elif now - self._unheard_since >= self._deaf_seconds:
            self._become(Condition.DEAF)
        elif self.condition is Condition.AWAY:
            self._become(Condition.HEARING)

    def should_reconnect(self, now: float) -> bool:
        """Whether it is time for another connection to listen on: halfway to being deaf, and then again and again."""
        if not self._answered or now - self._tried_at < self._deaf_seconds / 2:
            return False
        self._tried_at = now
        return True

    def _become(self, condition: Condition) -> None:
        if condition is not self.condition:
            self.condition = condition
            self._changed(condition)
