"""One-time uses of requests: what a script needs to know of a claim, and what its refusal means.

Token buckets.

Users whose older tokens are refused.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

from gateway.domain.claims import Allowance, Claim, Rate
from gateway.domain.errors import BrokerUnavailable, IdempotencyConflict, NonceReplayed
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.errors import Late
from gateway.state.redis.keys import Keys

_NO_CLAIM: Final[tuple[Argument, ...]] = ("", "", "", "", "")


class RedisClaims:
    """``gateway.ports.Claims``, shared by all replicas.

    Nonces are kept as digests of 64 bits in windows of time: whoever wants to block a request by a nonce of the same
    digest would have to know it before, and by chance two of five million meet once in a million runs.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._began_at = 0.0

    @property
    def began_at(self) -> float:
        return self._began_at

    def begin(self, began_at: float) -> None:
        """The memory of nonces in Redis began then; it begins anew when Redis has lost its data."""
        self._began_at = began_at

    async def spend(self, claim: Claim) -> None:
        await self._commands.call("spend", *arguments_of(claim)[:3], repeat=False, refuse=self.refuse)

    def refuse(self, answer: list[Any]) -> None:
        """Raise what a script meant if it refused a claim, or what came with it."""
        status, *details = answer
        match status:
            case b"OK" | b"KNOWN":
                return
            case b"LATE":
                raise Late(details[0])
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


def arguments_of(claim: Claim | None) -> tuple[Argument, ...]:
    """Digest of the nonce, its end in milliseconds, when it was signed, digest of the idempotency key, fingerprint."""
    if claim is None:
        return _NO_CLAIM
    digest = blake2b(f"{claim.key_id}\n{claim.nonce}".encode(), digest_size=8).digest()
    ends = int(claim.nonce_expires_at * 1000)
    signed_at = "" if claim.signed_at is None else int(claim.signed_at)
    if claim.idempotency_key is None:
        return (digest, ends, signed_at, "", "")
    key = blake2b(f"{claim.scope}\n{claim.idempotency_key}".encode(), digest_size=16).digest()
    return (digest, ends, signed_at, key, claim.fingerprint)


class RedisRates:
    """``gateway.ports.Rates``, in the time of Redis. A bucket that is full is no key."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def take(self, bucket: str, rate: Rate) -> Allowance:
        allowed, remaining, reset, retry = await self._commands.call(
            "take", bucket, repr(rate.per_second), rate.burst, repeat=False
        )
        return Allowance(bool(allowed), rate.burst, remaining, float(reset), float(retry))


class RedisRevocations:
    """``gateway.ports.Revocations``: one key for each user, which ends by its age."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    async def revoked_at(self, user: str) -> float | None:
        at = await self._commands.read("GET", self._keys.named("revoked", user))
        return None if at is None else float(at)
