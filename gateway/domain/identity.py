"""The identity that a verified token proves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """What a verified token says.

    ``rooms`` are the rooms that its claims grant, the user's own included. Times are seconds since 1970. ``expires_at``
    None: the token never expires. ``issued_at`` None: the token does not say; it counts as older than every other.
    """

    user: str
    rooms: frozenset[str]
    expires_at: float | None = None
    issued_at: float | None = None
    email: str | None = None
    subject: int | None = None
    """The claim ``sub`` where it is a number, of which ``user`` is the text."""
