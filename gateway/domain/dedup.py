"""The one-time use of a signed request."""

from __future__ import annotations

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
