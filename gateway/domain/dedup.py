"""What makes a signed request or a client event count once."""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_ACK_BYTES: Final = 4 * 1024
"""The longest acknowledgement of a client event that is kept for repeats."""
MAX_USER_ACKS: Final = 5_000
"""How many client events of one user are remembered at once."""
MAX_USER_ACK_BYTES: Final = 2 * 1024 * 1024
"""The acknowledgements of one user that are kept at once, together."""


class DedupKey(NamedTuple):
    """The nonce and the idempotency key of one request.

    The nonce is unique for its ingest key ``key_id`` and is kept until ``nonce_expires_at`` (seconds since 1970). The
    idempotency key, if there is one, belongs to the key id, method and path in ``scope``; ``fingerprint`` distinguishes
    one body from another. ``signed_at`` is the time at which the request says that it was signed (seconds since 1970):
    a store of nonces that began later rejects the request.

    ``signature`` covers the whole request. HTTP libraries and proxies send a request again, byte for byte, without the
    knowledge of the program, if it has an idempotency key: such a retransmission is no replay (``retransmission``).
    """

    key_id: str
    nonce: str
    nonce_expires_at: float
    idempotency_key: str | None = None
    scope: str = ""
    fingerprint: str = ""
    signed_at: float | None = None
    signature: str = ""

    @property
    def retransmission(self) -> str | None:
        """Return what equals in a retransmission of this request alone, or None if none is accepted."""
        if self.idempotency_key is None or not self.signature:
            return None
        return f"{self.key_id}\n{self.nonce}\n{self.signature}"


class AckClaim(NamedTuple):
    """The answer to a claim of a client event that may be a repeat.

    ``is_held``: the claim is the caller's, which lets the event take effect. Otherwise ``ack`` is the acknowledgement
    of the event, as JSON text, or None while another caller holds the claim. ``intent`` is what a former holder was
    about to change, if it is unknown whether it did.
    """

    is_held: bool
    ack: str | None = None
    intent: str = ""
