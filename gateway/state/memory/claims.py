"""One-time uses of requests."""

from __future__ import annotations

import math
from hashlib import blake2b

from gateway.domain.claims import Claim
from gateway.domain.errors import BrokerUnavailable, IdempotencyConflict
from gateway.domain.messages import Receipt
from gateway.ports import Clock
from gateway.state.memory.expiring import Expiring
from gateway.state.memory.nonces import Nonces


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
