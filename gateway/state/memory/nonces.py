"""Which nonces were spent."""

from __future__ import annotations

import secrets
from array import array
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Final

from gateway.domain.claims import Claim
from gateway.domain.errors import BrokerUnavailable, NonceReplayed
from gateway.ports import Clock

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
