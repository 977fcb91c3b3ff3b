"""The identity that a verified token proves, and whether a backend revoked the token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


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
    token_id: str = ""
    """The claim ``jti`` with the issuer that gave it (``scoped_token_id``); empty without the claim."""


class Revocation(NamedTuple):
    """What backends revoked of a user and of one token.

    ``user_revoked_at``: tokens of the user issued before it are rejected; None: none is. ``is_token_revoked``: the
    token with that id is.
    """

    user_revoked_at: float | None = None
    is_token_revoked: bool = False

    def covers(self, identity: Identity) -> bool:
        """Whether the token of an identity is revoked."""
        at = self.user_revoked_at
        return self.is_token_revoked or (
            at is not None and (identity.issued_at is None or identity.issued_at < at)
        )


def scoped_token_id(issuer: str, jti: str) -> str:
    """Return a token id that no other issuer gives: ``issuer`` holds no blank and is empty for the keys of JWT_*."""
    return f"{issuer} {jti}"
