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
        self._takes = True
        self._asked_at = now
        self._expecting = False
        self._unheard_since = now
        self._tried_at = now

    def heard(self, now: float) -> None:
        """A canary came."""
        self._expecting = False
        self._unheard_since = self._tried_at = now
        if self._answered and self._takes:
            self._become(Condition.HEARING)

    def asked(self, now: float, *, answered: bool) -> None:
        """Redis took a canary, or did not."""
        if not self._answered or not (answered or self._expecting):
            # While nothing could be said nothing could be heard: that time does not count, and the time before does.
            since = now - self._asked_at
            self._unheard_since = min(now, self._unheard_since + since)
            self._tried_at = min(now, self._tried_at + since)
        was_answered, self._answered, self._asked_at = self._answered, answered, now
        self._expecting = self._expecting or answered
        if not answered:
            # Who is deaf is so still when one question among others is not answered.
            if self.condition is not Condition.DEAF or not was_answered:
                self._become(Condition.AWAY)
        else:
            self._judge(now)

    def wrote(self, now: float, *, taken: bool) -> None:
        """Whether Redis takes what is written, which a canary is not: it goes through at the memory limit."""
        self._takes = taken
        if self._answered:
            self._judge(now)

    def should_reconnect(self, now: float) -> bool:
        """Whether it is time for another connection to listen on: halfway to being deaf, and then again and again."""
        if not self._answered or now - self._tried_at < self._deaf_seconds / 2:
            return False
        self._tried_at = now
        return True

    def _judge(self, now: float) -> None:
        if not self._takes:
            self._become(Condition.AWAY)  # where nothing can be published there is nothing to be deaf to
        elif now - self._unheard_since >= self._deaf_seconds:
            self._become(Condition.DEAF)
        else:
            self._become(Condition.HEARING)

    def _become(self, condition: Condition) -> None:
        if condition is not self.condition:
            self.condition = condition
            self._changed(condition)
