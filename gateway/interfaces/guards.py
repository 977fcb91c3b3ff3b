"""The interfaces of rates and of kept acknowledgements. Methods may raise BrokerUnavailable and BrokerTimeout."""

from __future__ import annotations

from typing import Protocol

from gateway.domain.dedup import AckClaim
from gateway.domain.rate_limit import Rate, RateLimitResult


class RateLimits(Protocol):
    """Rate limits shared by the replicas (``gateway.domain.rate_limit``)."""

    async def consume(self, bucket: str, rate: Rate) -> RateLimitResult:
        """Take one token from the bucket if there is one; a rejected request takes nothing."""
        ...


class AckStore(Protocol):
    """Acknowledgements of client events, kept so that a repeat of an event gets the first one.

    Contract: of several callers with one key, on all replicas, at most one holds the claim at a time, until it calls
    ``keep`` or ``release``, or its seconds are over. Calls of a former holder change nothing. All calls for a key name
    the same user, for whom MAX_USER_ACKS and MAX_USER_ACK_BYTES are claimed or kept at most (``domain.dedup``).
    """

    async def claim(self, key: str, holder: str, *, user: str, seconds: float, intent: str = "") -> AckClaim:
        """Claim a key, or renew the claim, unless its acknowledgement is kept or another holder has the claim.

        ``intent`` is what the event is about to change. It replaces the former one, which the caller gets, unless it is
        empty, and is kept for ten minutes, also after the claim has ended by itself.

        Raises: ClientEventRejected (``busy``) when no more can be kept for the user.
        """
        ...

    async def keep(self, key: str, holder: str, ack: str, *, user: str) -> None:
        """Keep the acknowledgement, of at most MAX_ACK_BYTES, for ten minutes, and end the claim."""
        ...

    async def release(self, key: str, holder: str, *, user: str, keeps_intent: bool = False) -> None:
        """End the claim without an acknowledgement: there was no effect, or with ``keeps_intent`` an unknown one."""
        ...
