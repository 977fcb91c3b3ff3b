"""The one-time use of a signed request, and how often a key may ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class DedupKey(NamedTuple):
    """What a request may do once.

    The nonce, unique per ingest key, is kept until ``nonce_expires_at`` (seconds since 1970). The idempotency key, if
    there is one, belongs to the key id, method and path in ``scope``; ``fingerprint`` tells one body from another.
    ``signed_at`` is when the request says that it was signed: a memory of nonces that began later refuses it.
    """

    key_id: str
    nonce: str
    nonce_expires_at: float
    idempotency_key: str | None = None
    scope: str = ""
    fingerprint: str = ""
    signed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``burst`` requests at once, refilled at ``per_second``."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class RateLimitResult:
    """What is left of a rate. ``retry_after_seconds`` is 0 when the request was allowed."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float
    retry_after_seconds: float
