"""Which idempotency keys are being worked on at this replica."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.domain.claims import Claim
from ingest_api.errors import Problem


class InFlight:
    """One request at a time for each idempotency key. Over replicas the claim itself decides."""

    def __init__(self) -> None:
        self._held: set[tuple[str, str]] = set()

    @contextmanager
    def hold(self, claim: Claim) -> Iterator[None]:
        """Keep others of the same scope and idempotency key out meanwhile; raises Problem when one is in."""
        if claim.idempotency_key is None:
            yield
            return
        name = (claim.scope, claim.idempotency_key)
        if name in self._held:
            raise Problem(
                "idempotency_conflict",
                "a request with this Idempotency-Key is being worked on right now",
                headers={"Retry-After": "1"},
            )
        self._held.add(name)
        try:
            yield
        finally:
            self._held.discard(name)
