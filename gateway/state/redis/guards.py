"""Dedup keys, kept acknowledgements, rate limits, and revocations of tokens, shared by all replicas."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

from gateway.domain.dedup import AckClaim, DedupKey
from gateway.domain.errors import BrokerUnavailable, IdempotencyConflict, NonceReplayed, user_acks_full
from gateway.domain.rate_limit import Rate, RateLimitResult
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.errors import DeadlineExceeded
from gateway.state.redis.redis_keys import RedisKeys

_NO_DEDUP_KEY: Final[tuple[Argument, ...]] = ("", "", "", "", "", "")


class RedisDedupStore:
    """``gateway.interfaces.DedupStore``.

    Nonces are kept as digests of 64 bits in windows of time. Blocking a request by a nonce with the same digest would
    require knowing its nonce in advance; by chance two of five million digests are equal once in a million runs.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._began_at = 0.0

    @property
    def began_at(self) -> float:
        return self._began_at

    def begin(self, began_at: float) -> None:
        """Set when the memory of nonces in Redis began. It begins anew when Redis has lost data."""
        self._began_at = began_at

    async def consume_nonce(self, dedup_key: DedupKey) -> None:
        await self._commands.call(
            "consume_nonce", *arguments_of(dedup_key)[:4], retry=False, raise_rejection=self.raise_rejection
        )

    def raise_rejection(self, answer: list[Any]) -> None:
        """Raise the error that the answer of a script stands for; return if the script did its work.

        Raises:
            DeadlineExceeded: the script began after its deadline.
            NonceReplayed: the nonce was used before.
            IdempotencyConflict: the idempotency key was used with another body.
            BrokerUnavailable: the request cannot be checked, or a limit of the store is reached.
        """
        status, *details = answer
        match status:
            case b"OK" | b"KNOWN":
                return
            case b"LATE":
                raise DeadlineExceeded(details[0])
            case b"REPLAYED":
                raise NonceReplayed("this nonce was used before, or is too old to tell")
            case b"CONFLICT":
                raise IdempotencyConflict("this idempotency key was used with another body")
            case b"BEGAN":
                self.begin(float(details[0]))
                raise BrokerUnavailable("the memory of nonces began after this was signed; sign it anew")
            case b"AHEAD":
                raise BrokerUnavailable("the clock of this replica is far ahead of that of Redis")
            case b"FULL":
                raise BrokerUnavailable(
                    "more requests came lately than can be remembered", retry_after_seconds=5
                )
            case b"LARGE_FULL":
                raise BrokerUnavailable(
                    "more large volatile messages came lately than are kept", retry_after_seconds=10
                )
            case b"ANSWERS_FULL":
                raise BrokerUnavailable(
                    "more idempotency keys are in use than can be remembered", retry_after_seconds=60
                )
        raise AssertionError(f"a script answered {status!r}")


def arguments_of(dedup_key: DedupKey | None) -> tuple[Argument, ...]:
    """Return the arguments that a script takes for a dedup key; six empty ones for None.

    They are the digest of the nonce, its end in milliseconds, when the request was signed in seconds, the digest that
    equals in a retransmission, that of the idempotency key, and the fingerprint.
    """
    if dedup_key is None:
        return _NO_DEDUP_KEY
    digest = blake2b(f"{dedup_key.key_id}\n{dedup_key.nonce}".encode(), digest_size=8).digest()
    ends = int(dedup_key.nonce_expires_at * 1000)
    signed_at = "" if dedup_key.signed_at is None else int(dedup_key.signed_at)
    if dedup_key.idempotency_key is None:
        return (digest, ends, signed_at, "", "", "")
    key = blake2b(f"{dedup_key.scope}\n{dedup_key.idempotency_key}".encode(), digest_size=16).digest()
    request = dedup_key.retransmission
    retransmission = b"" if request is None else blake2b(request.encode(), digest_size=8).digest()
    return (digest, ends, signed_at, retransmission, key, dedup_key.fingerprint)


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
    """``gateway.interfaces.Revocations``: one key for each user, with a TTL."""

    def __init__(self, commands: Commands, keys: RedisKeys) -> None:
        self._commands = commands
        self._keys = keys

    async def revoked_at(self, user: str) -> float | None:
        at = await self._commands.read("GET", self._keys.named("revoked", user))
        return None if at is None else float(at)


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
