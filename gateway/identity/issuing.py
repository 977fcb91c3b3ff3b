"""Signs tokens for people at a terminal and for the development page; real ones come from the users' own backends."""

from __future__ import annotations

from collections.abc import Mapping

import jwt


def issue_token(
    *,
    secret: str,
    user: str,
    now: float,
    ttl_seconds: float,
    algorithm: str = "HS256",
    claims: Mapping[str, object] | None = None,
) -> str:
    """A token for ``user`` that ends ``ttl_seconds`` from ``now``; ``claims`` are added and win over the usual ones."""
    issued_at = int(now)
    payload = {"sub": user, "iat": issued_at, "exp": issued_at + int(ttl_seconds), **(claims or {})}
    return jwt.encode(payload, secret, algorithm=algorithm)
