"""Who a connection is, and until when."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """What a verified token says.

    ``rooms`` are the rooms that its claims grant, the user's own included. Times are seconds since 1970; ``expires_at``
    None means never, ``issued_at`` None means that the token does not say (and counts as the oldest of all).
    """

    user: str
    rooms: frozenset[str]
    expires_at: float | None = None
    issued_at: float | None = None
    email: str | None = None
