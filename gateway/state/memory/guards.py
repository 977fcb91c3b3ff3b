"""What guards requests and client events: dedup keys, kept acknowledgements and rate limits."""

from __future__ import annotations

import math
import secrets
from array import array
from collections import OrderedDict
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Final

from gateway.domain.dedup import MAX_ACK_BYTES, AckClaim, DedupKey, NonceEpoch, may_be_replayed
from gateway.domain.errors import BrokerUnavailable, IdempotencyConflict, NonceReplayed, user_acks_full
from gateway.domain.messages import PublishResult
from gateway.domain.rate_limit import FULL, Rate, RateLimitResult, consume
from gateway.interfaces import Clock
from gateway.state.memory.ttl_map import TtlMap

_SWEEP: Final = 2
"""Buckets removed by one call, at most: two, because one call adds at most one."""


class Nonces:
    """Keeps each nonce until its end as a keyed digest of 64 bits, in buckets of one second.

    The time passes by the monotonic clock, so a wall clock that is set drops none early. The key is random for each
    process, so that a backend cannot search for nonces with equal digests; by chance two of five million collide once
    in a million runs.
    """

    def __init__(self, *, clock: Clock, max_nonces: int) -> None:
        self._clock = clock
        self._max_nonces = max_nonces
        self._secret = secrets.token_bytes(32)
        self._consumed: set[int] = set()
        self._buckets: dict[int, array[int]] = {}
        self._bucket_expiry: dict[int, float] = {}
        """The latest ``nonce_expires_at`` in each bucket."""
        self._ends: list[int] = []  # a heap of the keys of the buckets
        self._dropped_until = 0.0
        """The latest ``nonce_expires_at`` of nonces that are no longer kept."""

    def __len__(self) -> int:
        return len(self._consumed)

    def check(self, dedup_key: DedupKey, now: float, monotonic: float) -> int:
        """Return the digest of a nonce that was not used. ``now`` and ``monotonic`` are the times of the clock.

        Raises: NonceReplayed; FreshnessUnknown when nonces with such an end were dropped, as after the wall clock was
            set back; BrokerUnavailable when ``max_nonces`` are kept.
        """
        self._sweep(monotonic)
        digest = self._digest(f"{dedup_key.key_id}\n{dedup_key.nonce}")
        if digest in self._consumed:
            raise NonceReplayed("this nonce was used before")
        expires_at = dedup_key.nonce_expires_at
        if expires_at <= now or expires_at <= self._dropped_until:
            raise may_be_replayed(max(now, self._dropped_until) - expires_at)
        if len(self._consumed) >= self._max_nonces:
            raise BrokerUnavailable("more requests came lately than can be remembered", retry_after_seconds=5)
        return digest

    def consume(self, dedup_key: DedupKey, digest: int, now: float, monotonic: float) -> None:
        """Keep a nonce that was checked, and what identifies a retransmission of its request."""
        expires_at = dedup_key.nonce_expires_at
        end = int(monotonic + expires_at - now) + 1
        bucket = self._buckets.get(end)
        if bucket is None:
            bucket = self._buckets[end] = array("Q")
            heappush(self._ends, end)
            self._bucket_expiry[end] = expires_at
        elif self._bucket_expiry[end] < expires_at:
            self._bucket_expiry[end] = expires_at
        bucket.append(digest)
        self._consumed.add(digest)
        if dedup_key.idempotency_key is not None and (text := dedup_key.retransmission) is not None:
            bucket.append(self._digest(text))
            self._consumed.add(bucket[-1])

    def is_retransmission(self, dedup_key: DedupKey) -> bool:
        """Return whether this very request, with an idempotency key, was accepted before and is still known."""
        text = dedup_key.retransmission
        self._sweep(self._clock.monotonic())
        return text is not None and self._digest(text) in self._consumed

    def _digest(self, text: str) -> int:
        return int.from_bytes(blake2b(text.encode(), digest_size=8, key=self._secret).digest(), "big")

    def _sweep(self, now: float) -> None:
        if not self._ends or self._ends[0] > now:
            return
        for _ in range(_SWEEP):
            if not self._ends or self._ends[0] > now:
                return
            end = heappop(self._ends)
            self._dropped_until = max(self._dropped_until, self._bucket_expiry.pop(end))
            self._consumed.difference_update(self._buckets.pop(end))


class MemoryDedupStore:
    """Satisfies ``gateway.interfaces.DedupStore``.

    The broker calls ``check`` and ``first_results`` before it publishes and ``keep`` after, with no await in between.
    """

    def __init__(
        self, *, clock: Clock, max_nonces: int, idempotency_seconds: float, max_idempotency_keys: int
    ) -> None:
        self._clock = clock
        self._started_at = clock.now() - clock.monotonic()
        # Requests carry whole seconds: one that was signed earlier in this second may have been used before.
        self._epoch = NonceEpoch(math.ceil(clock.now()))
        self.nonces = Nonces(clock=clock, max_nonces=max_nonces)
        self.results: TtlMap[bytes, tuple[str, tuple[PublishResult, ...]]] = TtlMap(
            clock=clock, seconds=idempotency_seconds, max_items=max_idempotency_keys
        )

    @property
    def began_at(self) -> float:
        return self._epoch.began_at

    def now(self) -> float:
        return self._clock.now()

    async def consume_nonce(self, dedup_key: DedupKey) -> None:
        if not self.nonces.is_retransmission(dedup_key):
            now, monotonic = self._clock.now(), self._clock.monotonic()
            self.nonces.consume(dedup_key, self.check(dedup_key, now, monotonic), now, monotonic)

    def check(self, dedup_key: DedupKey, now: float, monotonic: float) -> int:
        """Return what ``keep`` needs of a dedup key whose nonce was not used before. It uses nothing up.

        ``now`` is the time by the wall clock, in seconds since 1970, ``monotonic`` that by the monotonic clock.

        Raises: NonceReplayed; FreshnessUnknown; BrokerUnavailable when no more nonces can be kept.
        """
        digest = self.nonces.check(dedup_key, now, monotonic)
        if dedup_key.signed_at is not None:
            if_never_set = self._started_at + monotonic
            self._epoch.check(dedup_key.key_id, dedup_key.signed_at, now, latest=if_never_set)
        return digest

    def retransmitted_results(self, dedup_key: DedupKey) -> tuple[PublishResult, ...] | None:
        """Return the first results if the request is a retransmission of one that was accepted. It changes nothing."""
        return self.first_results(dedup_key) if self.nonces.is_retransmission(dedup_key) else None

    def first_results(self, dedup_key: DedupKey, *, adding: int = 1) -> tuple[PublishResult, ...] | None:
        """Return the first results of the idempotency key, if it was used before. It changes nothing.

        ``adding`` is how many results are kept otherwise.

        Raises: IdempotencyConflict; BrokerUnavailable when no more idempotency keys can be kept.
        """
        if dedup_key.idempotency_key is None:
            return None
        first = self.results.get(_idempotency_digest(dedup_key))
        if first is None:
            if self.results.is_full(adding=adding):
                raise BrokerUnavailable(
                    "more idempotency keys are in use than can be remembered", retry_after_seconds=60
                )
            return None
        fingerprint, results = first
        if fingerprint != dedup_key.fingerprint:
            raise IdempotencyConflict("this idempotency key was used with another body")
        return tuple(result._replace(replayed=True) for result in results)

    def keep(self, dedup_key: DedupKey, digest: int, results: tuple[PublishResult, ...]) -> None:
        """Keep a dedup key that was checked, with the results of its request."""
        self.nonces.consume(dedup_key, digest, self._clock.now(), self._clock.monotonic())
        if dedup_key.idempotency_key is not None and not any(result.replayed for result in results):
            name = _idempotency_digest(dedup_key)
            self.results.put(name, (dedup_key.fingerprint, results))
            for number in range(1, len(results)):
                # Each result takes the place of a key.
                self.results.put(name + number.to_bytes(2, "big"), ("", ()))


def _idempotency_digest(dedup_key: DedupKey) -> bytes:
    return blake2b(f"{dedup_key.scope}\n{dedup_key.idempotency_key}".encode(), digest_size=16).digest()


class MemoryRateLimits:
    """Satisfies ``gateway.interfaces.RateLimits`` by GCRA (``gateway.domain.rate_limit``). A full bucket is not kept.

    With more than ``max_buckets`` the one not used for the longest is removed early, and starts full again.
    """

    def __init__(self, *, clock: Clock, max_buckets: int) -> None:
        self._clock = clock
        self._max_buckets = max_buckets
        self._tats: OrderedDict[str, float] = OrderedDict()
        """Buckets by name, each as its theoretical arrival time (``gateway.domain.rate_limit``)."""

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


class _UserAcks:
    """Counts the claimed and kept client events of each user, and their bytes.

    They are counted in windows of time. An event is kept for as long as ``_KEPT_WINDOWS`` of them, so those that may
    still be kept are in one window more. Every operation is O(1).
    """

    _KEPT_WINDOWS: Final = 4

    def __init__(self, seconds: float) -> None:
        self._window_seconds = seconds / self._KEPT_WINDOWS
        self._users: OrderedDict[str, dict[int, tuple[int, int]]] = OrderedDict()
        """How many and how many bytes, by user and window; the user that was counted last is the last one."""

    def __len__(self) -> int:
        return len(self._users)

    def window(self, now: float) -> int:
        """Return the number of a window of time."""
        return int(now / self._window_seconds)

    def counted(self, user: str, now: float) -> tuple[int, int]:
        """Return how many are counted for a user, and how many bytes."""
        self._sweep(now)
        windows = self._users.get(user, {})
        for window in [window for window in windows if self._is_over(window, now)]:
            del windows[window]
        return sum(count for count, _ in windows.values()), sum(size for _, size in windows.values())

    def wait_seconds(self, user: str, now: float) -> float:
        """Return how long at most it takes until fewer are counted for a user."""
        oldest = min(self._users.get(user, {}), default=self.window(now))
        return (oldest + self._KEPT_WINDOWS + 1) * self._window_seconds - now

    def add(self, user: str, window: int, change: int, change_bytes: int) -> None:
        """Add to a window, or subtract from it unless it is over."""
        windows = self._users.setdefault(user, {})
        self._users.move_to_end(user)
        if window in windows or change > 0:
            count, size = windows.get(window, (0, 0))
            windows[window] = count + change, size + change_bytes
            if not windows[window][0]:
                del windows[window]
        if not windows:
            del self._users[user]

    def _is_over(self, window: int, now: float) -> bool:
        return window < self.window(now) - self._KEPT_WINDOWS

    def _sweep(self, now: float) -> None:
        # Looks at two, while one call adds at most one.
        for _ in range(_SWEEP):
            windows = next(iter(self._users.values()), None)
            if windows is None or not self._is_over(max(windows, default=-1), now):
                return
            self._users.popitem(last=False)


class MemoryAckStore:
    """Satisfies ``gateway.interfaces.AckStore``. None is removed early: with ``max_acks`` new claims are rejected."""

    def __init__(
        self, *, clock: Clock, seconds: float, max_acks: int, max_user_acks: int, max_user_ack_bytes: int
    ) -> None:
        self._clock = clock
        self._max_acks = max_acks
        self._max_user_acks = max_user_acks
        self._max_user_ack_bytes = max_user_ack_bytes
        self._acks: TtlMap[str, str] = TtlMap(clock=clock, seconds=seconds, max_items=max_acks)
        self._user_acks = _UserAcks(seconds)
        self._claims: dict[str, tuple[str, float, int]] = {}
        """Holder, end and window of each claim. Those that were never ended are removed when the store is full."""
        self._intents: TtlMap[str, str] = TtlMap(clock=clock, seconds=seconds, max_items=max_acks)

    def __len__(self) -> int:
        return len(self._acks) + len(self._claims)

    @property
    def users(self) -> int:
        """The number of users for whom something is counted."""
        return len(self._user_acks)

    async def claim(self, key: str, holder: str, *, user: str, seconds: float, intent: str = "") -> AckClaim:
        ack = self._acks.get(key)
        if ack is not None:
            return AckClaim(False, ack)
        now = self._clock.monotonic()
        claimed = self._claims.get(key)
        if claimed is not None and claimed[1] > now:
            if claimed[0] != holder:
                return AckClaim(False)
            self._claims[key] = holder, now + seconds, claimed[2]
            return AckClaim(True, intent=self._replace_intent(key, intent))
        self._check_user(user, now)
        if claimed is None and self._is_full(now):
            raise BrokerUnavailable(
                "more client events came lately than can be remembered", retry_after_seconds=60
            )
        window = self._user_acks.window(now)
        self._user_acks.add(user, window, 1, MAX_ACK_BYTES)
        self._claims[key] = holder, now + seconds, window
        return AckClaim(True, intent=self._replace_intent(key, intent))

    async def keep(self, key: str, holder: str, ack: str, *, user: str) -> None:
        if self._end_claim(key, holder, user):
            self._user_acks.add(user, self._user_acks.window(self._clock.monotonic()), 1, len(ack.encode()))
            self._acks.put(key, ack)
            self._intents.pop(key)

    async def release(self, key: str, holder: str, *, user: str, keeps_intent: bool = False) -> None:
        window = self._claims.get(key, ("", 0.0, 0))[2]
        if not self._end_claim(key, holder, user):
            return
        if not keeps_intent:
            self._intents.pop(key)
        elif intent := self._intents.get(key):
            self._user_acks.add(user, window, 1, len(intent))

    def _replace_intent(self, key: str, intent: str) -> str:
        former = self._intents.get(key)
        if intent:
            self._intents.put(key, intent)
        return former or ""

    def _check_user(self, user: str, now: float) -> None:
        count, size = self._user_acks.counted(user, now)
        if count >= self._max_user_acks or size + MAX_ACK_BYTES > self._max_user_ack_bytes:
            raise user_acks_full(self._user_acks.wait_seconds(user, now))

    def _is_full(self, now: float) -> bool:
        if len(self) < self._max_acks:
            return False
        self._claims = {key: claimed for key, claimed in self._claims.items() if claimed[1] > now}
        return self._acks.is_full() or len(self) >= self._max_acks

    def _end_claim(self, key: str, holder: str, user: str) -> bool:
        claimed = self._claims.get(key)
        if claimed is None or claimed[0] != holder or claimed[1] <= self._clock.monotonic():
            return False
        del self._claims[key]
        self._user_acks.add(user, claimed[2], -1, -MAX_ACK_BYTES)
        return True
