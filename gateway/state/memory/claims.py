"""One-time uses of requests.

Which nonces were spent.

Token buckets.

Users whose older tokens are refused.
"""

from __future__ import annotations

import math
import secrets
from array import array
from collections import OrderedDict
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Final

from gateway.domain.claims import Allowance, Claim, Rate
from gateway.domain.errors import BrokerUnavailable, IdempotencyConflict, NonceReplayed
from gateway.domain.messages import Receipt
from gateway.ports import Clock
from gateway.state.memory.expiring import Expiring

_SWEEP: Final = 2
"""Buckets forgotten by one spending, at most. New buckets come slower, so the others catch up."""


class Nonces:
    """Remembers each nonce until its end as a keyed digest of 64 bits, in buckets of one second.

    The key is drawn for each process, so nobody can look for nonces that collide; by chance two of five million do
    once in a million runs.
    """

    def __init__(self, *, clock: Clock, max_nonces: int) -> None:
        self._clock = clock
        self._max_nonces = max_nonces
        self._secret = secrets.token_bytes(32)
        self._spent: set[int] = set()
        self._buckets: dict[int, array[int]] = {}
        self._ends: list[int] = []  # a heap of the keys of the buckets
        self._forgotten_before = 0

    def __len__(self) -> int:
        return len(self._spent)

    def check(self, claim: Claim) -> int:
        """The digest of a nonce that may be spent.

        Raises NonceReplayed, also for a nonce so old that it would be forgotten again, and BrokerUnavailable when no
        more can be remembered.
        """
        now = self._clock.now()
        self._sweep(now)
        # A clock that was set back must not let pass what was forgotten when it was ahead.
        is_over = claim.nonce_expires_at <= max(now, self._forgotten_before)
        digest = self._digest(claim)
        if is_over or digest in self._spent:
            raise NonceReplayed("this nonce was used before, or is too old to tell")
        if len(self._spent) >= self._max_nonces:
            raise BrokerUnavailable("more requests came lately than can be remembered", retry_after_seconds=5)
        return digest

    def spend(self, claim: Claim, digest: int) -> None:
        """Remember a nonce that was checked."""
        end = int(claim.nonce_expires_at) + 1
        bucket = self._buckets.get(end)
        if bucket is None:
            bucket = self._buckets[end] = array("Q")
            heappush(self._ends, end)
        bucket.append(digest)
        self._spent.add(digest)

    def _digest(self, claim: Claim) -> int:
        text = f"{claim.key_id}\n{claim.nonce}".encode()
        return int.from_bytes(blake2b(text, digest_size=8, key=self._secret).digest(), "big")

    def _sweep(self, now: float) -> None:
        for _ in range(_SWEEP):
            if not self._ends or self._ends[0] > now:
                return
            self._forgotten_before = heappop(self._ends)
            self._spent.difference_update(self._buckets.pop(self._forgotten_before))


class MemoryClaims:
    """``gateway.ports.Claims``, and the two halves of a claim for the broker: ``check`` and
    ``first_receipt`` before it publishes, ``keep`` after, with no waiting in between."""

    def __init__(
        self, *, clock: Clock, max_nonces: int, idempotency_seconds: float, max_idempotency_keys: int
    ) -> None:
        # Requests carry whole seconds: one signed earlier in this very second may have been spent before.
        self._began_at = float(math.ceil(clock.now()))
        self.nonces = Nonces(clock=clock, max_nonces=max_nonces)
        self.answers: Expiring[bytes, tuple[str, Receipt]] = Expiring(
            clock=clock, seconds=idempotency_seconds, max_items=max_idempotency_keys
        )

    @property
    def began_at(self) -> float:
        return self._began_at

    async def spend(self, claim: Claim) -> None:
        self.nonces.spend(claim, self.nonces.check(claim))

    def check(self, claim: Claim) -> int:
        """What ``keep`` needs of a claim whose nonce was not used before; changes nothing.

        Raises NonceReplayed, and BrokerUnavailable when no more claims can be remembered.
        """
        return self.nonces.check(claim)

    def first_receipt(self, claim: Claim) -> Receipt | None:
        """The first receipt of the claim's idempotency key, if it was used before; changes nothing.

        Raises IdempotencyConflict, and BrokerUnavailable when no more claims can be remembered.
        """
        if claim.idempotency_key is None:
            return None
        answer = self.answers.get(_idempotency_digest(claim))
        if answer is None:
            if self.answers.is_full():
                raise BrokerUnavailable(
                    "more idempotency keys are in use than can be remembered", retry_after_seconds=60
                )
            return None
        fingerprint, receipt = answer
        if fingerprint != claim.fingerprint:
            raise IdempotencyConflict("this idempotency key was used with another body")
        return receipt._replace(replayed=True)

    def keep(self, claim: Claim, digest: int, receipt: Receipt) -> None:
        """The claim that was checked is used, and this was its answer."""
        self.nonces.spend(claim, digest)
        if claim.idempotency_key is not None and not receipt.replayed:
            self.answers.put(_idempotency_digest(claim), (claim.fingerprint, receipt))


def _idempotency_digest(claim: Claim) -> bytes:
    return blake2b(f"{claim.scope}\n{claim.idempotency_key}".encode(), digest_size=16).digest()


_TOLERANCE: Final = 1e-6
"""Of a token: what floating point may take away from one that is exactly due."""


class MemoryRates:
    """``gateway.ports.Rates``. Of each bucket only the moment is kept at which it will be full; then it is forgotten.

    With more than ``max_buckets`` the one not asked for the longest is forgotten early, and starts full again.
    """

    def __init__(self, *, clock: Clock, max_buckets: int) -> None:
        self._clock = clock
        self._max_buckets = max_buckets
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    async def take(self, bucket: str, rate: Rate) -> Allowance:
        now = self._clock.monotonic()
        self._sweep(now)
        missing = max(0.0, self._full_at.get(bucket, now) - now) * rate.per_second
        left = rate.burst - missing
        if left < 1 - _TOLERANCE:
            return Allowance(
                allowed=False,
                limit=rate.burst,
                remaining=0,
                reset_seconds=missing / rate.per_second,
                retry_after_seconds=(1 - left) / rate.per_second,
            )
        reset_seconds = (missing + 1) / rate.per_second
        self._full_at[bucket] = now + reset_seconds
        self._full_at.move_to_end(bucket)
        if len(self._full_at) > self._max_buckets:
            self._full_at.popitem(last=False)
        return Allowance(True, rate.burst, max(0, int(left - 1 + _TOLERANCE)), reset_seconds, 0.0)

    def _sweep(self, now: float) -> None:
        # Looks at two in turn, while one take adds at most one bucket: whatever is full is found.
        for _ in range(min(_SWEEP, len(self._full_at))):
            bucket, full_at = self._full_at.popitem(last=False)
            if full_at > now:
                self._full_at[bucket] = full_at


class MemoryRevocations:
    """``gateway.ports.Revocations``. When too many are kept none is forgotten early: new ones are refused."""

    def __init__(self, *, clock: Clock, seconds: float, max_users: int) -> None:
        self._revoked_at: Expiring[str, float] = Expiring(clock=clock, seconds=seconds, max_items=max_users)

    def __len__(self) -> int:
        return len(self._revoked_at)

    async def revoked_at(self, user: str) -> float | None:
        return self._revoked_at.get(user)

    def revoke(self, user: str, at: float) -> None:
        """Refuse the user's tokens issued before ``at``; an earlier time than the known one leaves that.

        Raises BrokerUnavailable when no more users can be remembered.
        """
        known = self._revoked_at.get(user)
        if known is None and self._revoked_at.is_full():
            raise BrokerUnavailable(
                "more users were revoked lately than can be remembered", retry_after_seconds=60
            )
        self._revoked_at.put(user, at if known is None else max(known, at))
