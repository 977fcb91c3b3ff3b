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

from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerUnavailable, IdempotencyConflict, NonceReplayed
from gateway.domain.messages import PublishResult
from gateway.domain.rate_limit import FULL, Rate, RateLimitResult, consume
from gateway.interfaces import Clock
from gateway.state.memory.ttl_map import TtlMap

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
        self._consumed: set[int] = set()
        self._buckets: dict[int, array[int]] = {}
        self._ends: list[int] = []  # a heap of the keys of the buckets
        self._forgotten_before = 0

    def __len__(self) -> int:
        return len(self._consumed)

    def check(self, dedup_key: DedupKey) -> int:
        """The digest of a nonce that may be spent.

        Raises NonceReplayed, also for a nonce so old that it would be forgotten again, and BrokerUnavailable when no
        more can be remembered.
        """
        now = self._clock.now()
        self._sweep(now)
        # A clock that was set back must not let pass what was forgotten when it was ahead.
        is_over = dedup_key.nonce_expires_at <= max(now, self._forgotten_before)
        digest = self._digest(dedup_key)
        if is_over or digest in self._consumed:
            raise NonceReplayed("this nonce was used before, or is too old to tell")
        if len(self._consumed) >= self._max_nonces:
            raise BrokerUnavailable("more requests came lately than can be remembered", retry_after_seconds=5)
        return digest

    def consume(self, dedup_key: DedupKey, digest: int) -> None:
        """Remember a nonce that was checked."""
        end = int(dedup_key.nonce_expires_at) + 1
        bucket = self._buckets.get(end)
        if bucket is None:
            bucket = self._buckets[end] = array("Q")
            heappush(self._ends, end)
        bucket.append(digest)
        self._consumed.add(digest)

    def _digest(self, dedup_key: DedupKey) -> int:
        text = f"{dedup_key.key_id}\n{dedup_key.nonce}".encode()
        return int.from_bytes(blake2b(text, digest_size=8, key=self._secret).digest(), "big")

    def _sweep(self, now: float) -> None:
        for _ in range(_SWEEP):
            if not self._ends or self._ends[0] > now:
                return
            self._forgotten_before = heappop(self._ends)
            self._consumed.difference_update(self._buckets.pop(self._forgotten_before))


class MemoryDedupStore:
    """``gateway.interfaces.Claims``, and the two halves of a claim for the broker: ``check`` and
    ``first_receipt`` before it publishes, ``keep`` after, with no waiting in between."""

    def __init__(
        self, *, clock: Clock, max_nonces: int, idempotency_seconds: float, max_idempotency_keys: int
    ) -> None:
        # Requests carry whole seconds: one signed earlier in this very second may have been spent before.
        self._began_at = float(math.ceil(clock.now()))
        self.nonces = Nonces(clock=clock, max_nonces=max_nonces)
        self.answers: TtlMap[bytes, tuple[str, PublishResult]] = TtlMap(
            clock=clock, seconds=idempotency_seconds, max_items=max_idempotency_keys
        )

    @property
    def began_at(self) -> float:
        return self._began_at

    async def consume_nonce(self, dedup_key: DedupKey) -> None:
        self.nonces.consume(dedup_key, self.nonces.check(dedup_key))

    def check(self, dedup_key: DedupKey) -> int:
        """What ``keep`` needs of a claim whose nonce was not used before; changes nothing.

        Raises NonceReplayed, and BrokerUnavailable when no more claims can be remembered.
        """
        return self.nonces.check(dedup_key)

    def first_result(self, dedup_key: DedupKey) -> PublishResult | None:
        """The first receipt of the claim's idempotency key, if it was used before; changes nothing.

        Raises IdempotencyConflict, and BrokerUnavailable when no more claims can be remembered.
        """
        if dedup_key.idempotency_key is None:
            return None
        answer = self.answers.get(_idempotency_digest(dedup_key))
        if answer is None:
            if self.answers.is_full():
                raise BrokerUnavailable(
                    "more idempotency keys are in use than can be remembered", retry_after_seconds=60
                )
            return None
        fingerprint, result = answer
        if fingerprint != dedup_key.fingerprint:
            raise IdempotencyConflict("this idempotency key was used with another body")
        return result._replace(replayed=True)

    def keep(self, dedup_key: DedupKey, digest: int, result: PublishResult) -> None:
        """The claim that was checked is used, and this was its answer."""
        self.nonces.consume(dedup_key, digest)
        if dedup_key.idempotency_key is not None and not result.replayed:
            self.answers.put(_idempotency_digest(dedup_key), (dedup_key.fingerprint, result))


def _idempotency_digest(dedup_key: DedupKey) -> bytes:
    return blake2b(f"{dedup_key.scope}\n{dedup_key.idempotency_key}".encode(), digest_size=16).digest()


class MemoryRateLimits:
    """``gateway.interfaces.RateLimits``: GCRA (``gateway.domain.rate_limit``). A bucket that is full again is removed.

    With more than ``max_buckets`` the one not used for the longest is removed early, and starts full again.
    """

    def __init__(self, *, clock: Clock, max_buckets: int) -> None:
        self._clock = clock
        self._max_buckets = max_buckets
        self._tats: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tats)

    async def consume(self, bucket: str, rate: Rate) -> RateLimitResult:
        now = self._clock.monotonic()
        self._sweep(now)
        tat, result = consume(self._tats.get(bucket, FULL), now, rate)
        if result.allowed:
            self._tats[bucket] = tat
            self._tats.move_to_end(bucket)
            if len(self._tats) > self._max_buckets:
                self._tats.popitem(last=False)
        return result

    def _sweep(self, now: float) -> None:
        # Looks at two in turn, while one request adds at most one bucket: every full bucket is found.
        for _ in range(min(_SWEEP, len(self._tats))):
            bucket, tat = self._tats.popitem(last=False)
            if tat > now:
                self._tats[bucket] = tat


class MemoryRevocations:
    """``gateway.interfaces.Revocations``. When too many are kept none is forgotten early: new ones are refused."""

    def __init__(self, *, clock: Clock, seconds: float, max_users: int) -> None:
        self._revoked_at: TtlMap[str, float] = TtlMap(clock=clock, seconds=seconds, max_items=max_users)

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
