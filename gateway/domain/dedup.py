"""What makes a signed request or a client event count once."""

from __future__ import annotations

import math
import time
from typing import Final, NamedTuple

from gateway.domain.errors import FreshnessUnknown

WINDOW_SECONDS: Final = 300
"""How far a timestamp may be from the clock that it is compared with, in either direction."""
AHEAD_SECONDS: Final = 2
"""How far a timestamp may be ahead during the first WINDOW_SECONDS of a store of nonces."""
CLOCK_TOLERANCE_SECONDS: Final = 60
"""By how much clocks may differ, or be set, before requests are rejected for it."""

MAX_ACK_BYTES: Final = 4 * 1024
"""The longest acknowledgement of a client event that is kept for repeats."""
MAX_USER_ACKS: Final = 5_000
"""How many client events of one user are remembered at once."""
MAX_USER_ACK_BYTES: Final = 2 * 1024 * 1024
"""The acknowledgements of one user that are kept at once, together."""
MAX_REPEATS: Final = 20_000
REPEAT_SECONDS: Final = 600.0
"""An idempotency key may be used anew after an hour; a repeat comes sooner than that."""


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


class NonceEpoch:
    """The time since which a store has kept every nonce, and which timestamps may belong to a lost one.

    Earlier nonces may be lost. A request that was accepted before ``began_at`` has a timestamp from before it, or one
    that was ahead of the clock. Three rules keep such a request from being accepted again:

    - A timestamp before ``began_at`` is rejected.
    - In the first WINDOW_SECONDS a timestamp that is ahead by more than AHEAD_SECONDS is rejected.
    - A key whose requests are ahead by some seconds had them ahead before, too: its timestamps have to be as many
      seconds after ``began_at``. That is the floor of the key, and it stays.

    ``lua/dedup.lua`` has the same rules. Times are seconds since 1970.
    """

    def __init__(self, began_at: float) -> None:
        """``began_at`` is a whole second, because requests carry no fractions."""
        self.began_at = began_at
        self._floors: dict[str, float] = {}

    def check(self, key_id: str, signed_at: float, now: float, latest: float) -> None:
        """Check that a request with a valid signature was not accepted before the store began.

        ``latest`` is the latest time that any clock shows: a clock that was set back makes no timestamp one that is
        ahead. It counts up to CLOCK_TOLERANCE_SECONDS after ``now``.

        Raises:
            FreshnessUnknown: It may have been. The same backend is accepted after ``retry_after_seconds``.
        """
        if self.began_at > now + CLOCK_TOLERANCE_SECONDS:
            # The clock was set back: until it shows that time again, no timestamp would be late enough.
            self.began_at = math.ceil(now)
            self._floors.clear()
        age = now - self.began_at
        if age >= 2 * WINDOW_SECONDS:
            self._floors.clear()
            return
        ahead = signed_at - min(max(latest, now), now + CLOCK_TOLERANCE_SECONDS)
        floor = self._floors.get(key_id, self.began_at)
        if age < WINDOW_SECONDS and ahead > 0:
            learned = math.ceil(self.began_at + ahead)
            if learned > floor:
                floor = self._floors[key_id] = learned
            if ahead > AHEAD_SECONDS:
                raise may_be_replayed(WINDOW_SECONDS - age)
        if signed_at < floor:
            raise may_be_replayed(floor - signed_at)


def may_be_replayed(wait_seconds: float) -> FreshnessUnknown:
    """Return the error of a request that may be a replay; one that is signed after the wait is not."""
    return FreshnessUnknown(
        "nonces from the time of this timestamp may be lost; sign it anew",
        retry_after_seconds=max(1, min(math.ceil(wait_seconds), 3600)),
    )


class Repeats:
    """When messages with an idempotency key were delivered here, by what the ids of repeats share.

    A repeat is appended only after its first result was lost with Redis. Two generations bound the memory: a delivery
    is remembered for REPEAT_SECONDS, unless MAX_REPEATS others follow sooner.
    """

    def __init__(self) -> None:
        self._new: dict[str, float] = {}
        self._old: dict[str, float] = {}
        self._began = time.monotonic()

    def deliver(self, digest: str) -> float:
        """Record a delivery; return when one with the same digest was made before, or -1."""
        now = time.monotonic()
        if now - self._began >= REPEAT_SECONDS or len(self._new) >= MAX_REPEATS:
            self._old, self._new, self._began = self._new, {}, now
        before = self._new.get(digest) or self._old.get(digest, -1.0)
        self._new[digest] = now
        return before if now - before < 2 * REPEAT_SECONDS else -1.0
