"""Dedup keys, kept acknowledgements, rate limits, and revocations of tokens, shared by all replicas."""

from __future__ import annotations

import asyncio
import math
import time
from hashlib import blake2b
from typing import Any, Final

from gateway.domain.dedup import WINDOW_SECONDS, AckClaim, DedupKey, may_be_replayed
from gateway.domain.errors import (
    BrokerUnavailable,
    FreshnessUnknown,
    IdempotencyConflict,
    NonceReplayed,
    user_acks_full,
)
from gateway.domain.identity import Revocation
from gateway.domain.rate_limit import Rate, RateLimitResult
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.errors import DeadlineExceeded
from gateway.state.redis.redis_keys import RedisKeys

NO_DEDUP_KEY: Final[tuple[Argument, ...]] = ("", "", "", "", "", "", "", "", "")
"""The arguments of a script that stand for no dedup key."""
REPORT_SECONDS: Final = 3.0
"""How long no request is accepted after a new memory of nonces was noticed: until then every replica that lives notices
it by a probe, and reports."""

_FULL: Final = {
    b"FULL": ("more requests came lately than can be remembered", 5),
    b"LARGE_FULL": ("more large volatile messages came lately than are kept", 10),
    b"REVOKED_FULL": ("more users or tokens are revoked than can be remembered", 60),
    b"ANSWERS_FULL": ("more idempotency keys are in use than can be remembered", 60),
}
"""Why a limit of the store rejects a request, and after how many seconds it may be repeated."""


class RedisDedupStore:
    """``gateway.interfaces.DedupStore``.

    Nonces are kept as digests of 64 bits in windows of time. Blocking a request by a nonce with the same digest would
    require knowing its nonce in advance; by chance two of five million digests are equal once in a million runs.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        # asyncio.get_running_loop() makes a system call in Python 3.11: for each push it would be 3 µs.
        self._loop = asyncio.get_running_loop()
        self._began_at = 0.0
        self._started_at = time.time() - time.monotonic()
        self._newest: dict[str, float] = {}
        """The newest timestamp that this replica accepted, by ingest key."""
        self._floors: dict[str, float] = {}
        """The oldest accepted timestamp, by ingest key: newer than any that was accepted before a loss."""
        self._is_reported = True
        self._accepts_at = -math.inf
        """When requests are accepted again after a new memory was noticed, by the clock of the loop."""

    @property
    def began_at(self) -> float:
        return self._began_at

    def now(self) -> float:
        """Return what the clock of Redis shows, which all replicas share."""
        return self._commands.redis_ms() / 1000

    def begin(self, began_at: float) -> None:
        """Set when the memory of nonces in Redis began. It begins anew when Redis has lost data, or its clock was set.

        Redis knows no longer which requests had timestamps that were ahead of its clock then; the replicas do.
        """
        if began_at != self._began_at and self._began_at:
            self._accepts_at = self._loop.time() + REPORT_SECONDS
            for key_id, newest in self._newest.items():
                if newest >= began_at:
                    self._floors[key_id] = newest + 1
                    self._is_reported = False
        self._began_at = began_at

    async def report(self) -> None:
        """Share the floors with the other replicas. Does nothing unless a new memory has begun.

        Raises: BrokerUnavailable, BrokerTimeout: it was not shared; the next call tries again.
        """
        if not self._is_reported:
            floors = [part for key_id, floor in self._floors.items() for part in (key_id, int(floor))]
            await self._commands.call("raise_floors", *floors)
            self._is_reported = True
        oldest = self.now() - 2 * WINDOW_SECONDS
        self._floors = {key_id: floor for key_id, floor in self._floors.items() if floor > oldest}

    def check(self, dedup_key: DedupKey) -> None:
        """Check a request before it is sent to Redis.

        Raises:
            FreshnessUnknown: a replica may have accepted it before Redis lost its nonces.
        """
        wait_seconds = self._accepts_at - self._loop.time()
        if wait_seconds > 0:
            raise may_be_replayed(wait_seconds)
        if self._floors and dedup_key.signed_at is not None:
            floor = self._floors.get(dedup_key.key_id, 0.0)
            if dedup_key.signed_at < floor:
                raise may_be_replayed(floor - dedup_key.signed_at)

    def accepted(self, dedup_key: DedupKey) -> None:
        """Note the timestamp of an accepted request."""
        signed_at = dedup_key.signed_at
        if signed_at is not None and signed_at > self._newest.get(dedup_key.key_id, 0.0):
            self._newest[dedup_key.key_id] = signed_at

    async def consume_nonce(self, dedup_key: DedupKey) -> None:
        self.check(dedup_key)
        await self._commands.call(
            "consume_nonce", *self.arguments(dedup_key)[:7], retry=False, raise_rejection=self.raise_rejection
        )
        self.accepted(dedup_key)

    def raise_rejection(self, answer: list[Any]) -> None:
        """Raise the error that the answer of a script stands for; return if the script did its work.

        Raises:
            DeadlineExceeded: the script began after its deadline.
            NonceReplayed: the nonce was used before.
            FreshnessUnknown: it may have been, as nonces may be lost or a clock was set.
            IdempotencyConflict: the idempotency key was used with another body.
            BrokerUnavailable: a limit of the store is reached.
        """
        status, *details = answer
        match status:
            case b"OK" | b"KNOWN":
                return
            case b"LATE":
                raise DeadlineExceeded(details[0])
            case b"REPLAYED":
                raise NonceReplayed("this nonce was used before")
            case b"CONFLICT":
                raise IdempotencyConflict("this idempotency key was used with another body")
            case b"BEGAN":
                self.begin(float(details[0]))
                raise may_be_replayed(REPORT_SECONDS)
            case b"UNSURE":
                raise may_be_replayed(details[1])
            case b"CLOCK":
                raise FreshnessUnknown(
                    "the clock of Redis was set, or differs from that of this replica",
                    retry_after_seconds=details[1],
                )
            case b"FULL" | b"LARGE_FULL" | b"REVOKED_FULL" | b"ANSWERS_FULL":
                reason, seconds = _FULL[status]
                raise BrokerUnavailable(reason, retry_after_seconds=seconds)
        raise AssertionError(f"a script answered {status!r}")

    def arguments(self, dedup_key: DedupKey | None) -> tuple[Argument, ...]:
        """Return the arguments that a script takes for a dedup key; nine empty ones for None.

        They are the digest of the nonce, its end in milliseconds, when the request was signed in seconds, the id of the
        ingest key, since when nonces are stored, the latest time of the clocks of this host in milliseconds, the digest
        that equals in a retransmission, that of the idempotency key, and the fingerprint.
        """
        if dedup_key is None:
            return NO_DEDUP_KEY
        nonce = self.nonce_arguments(dedup_key)
        if dedup_key.idempotency_key is None:
            return (*nonce, "", "", "")
        key = blake2b(f"{dedup_key.scope}\n{dedup_key.idempotency_key}".encode(), digest_size=16).digest()
        request = dedup_key.retransmission
        retransmission = b"" if request is None else blake2b(request.encode(), digest_size=8).digest()
        return (*nonce, retransmission, key, dedup_key.fingerprint)

    def nonce_arguments(self, dedup_key: DedupKey) -> tuple[Argument, ...]:
        """Return the first six of these arguments, which are those for a nonce."""
        digest = blake2b(f"{dedup_key.key_id}\n{dedup_key.nonce}".encode(), digest_size=8).digest()
        ends = int(dedup_key.nonce_expires_at * 1000)
        signed_at = "" if dedup_key.signed_at is None else int(dedup_key.signed_at)
        latest = max(time.time(), self._started_at + time.monotonic())
        return digest, ends, signed_at, dedup_key.key_id, int(self._began_at), int(latest * 1000)


class RedisRateLimits:
    """``gateway.interfaces.RateLimits``, by the clock of Redis. A full bucket has no key."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def consume(self, bucket: str, rate: Rate) -> RateLimitResult:
        allowed, remaining, reset, retry = await self._commands.call(
            "rate_limit", bucket, repr(rate.per_second), rate.burst, retry=False
        )
        return RateLimitResult(bool(allowed), rate.burst, remaining, float(reset), float(retry))


class RedisRevocations:
    """``gateway.interfaces.Revocations``: one key for each user and each token, with a TTL."""

    def __init__(self, commands: Commands, keys: RedisKeys) -> None:
        self._commands = commands
        self._keys = keys

    async def read(self, user: str, token_id: str = "") -> Revocation:
        of_user = self._keys.named("revoked", user)
        if not token_id:
            return _revocation(await self._commands.read("GET", of_user), None)
        return _revocation(
            *await self._commands.read("MGET", of_user, self._keys.named("revoked_token", token_id))
        )


def _revocation(user_revoked_at: bytes | None, token: bytes | None) -> Revocation:
    return Revocation(None if user_revoked_at is None else float(user_revoked_at), token is not None)


class RedisAckStore:
    """``gateway.interfaces.AckStore``: one key for each client event, with a TTL."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def claim(self, key: str, holder: str, *, user: str, seconds: float, intent: str = "") -> AckClaim:
        status, *details = await self._commands.call(
            "claim_ack", key, holder, user, int(seconds * 1000), intent
        )
        match status:
            case b"HELD":
                return AckClaim(True, intent=details[0].decode())
            case b"KEPT":
                return AckClaim(False, details[0].decode())
            case b"BUSY":
                return AckClaim(False)
            case b"USER_FULL":
                raise user_acks_full(details[0] / 1000)
            case b"FULL":
                raise BrokerUnavailable(
                    "more client events came lately than can be remembered", retry_after_seconds=60
                )
        raise AssertionError(f"a script answered {status!r}")

    async def keep(self, key: str, holder: str, ack: str, *, user: str) -> None:
        await self._commands.call("keep_ack", key, holder, user, ack)

    async def release(self, key: str, holder: str, *, user: str, keeps_intent: bool = False) -> None:
        await self._commands.call("release_ack", key, holder, user, int(keeps_intent))
