"""Which idempotency keys are being worked on at this replica."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from gateway.domain.claims import Claim
from ingest_api.errors import Problem

_NOTHING: Final = nullcontext()


class InFlight:
    """One request at a time for each idempotency key. Over replicas the claim itself decides."""

    def __init__(self) -> None:
        self._held: set[tuple[str, str]] = set()

    def hold(self, claim: Claim) -> AbstractContextManager[None]:
        """Keep others of the same scope and idempotency key out meanwhile; raises Problem when one is in."""
        if claim.idempotency_key is None:
            return _NOTHING
        return self._hold((claim.scope, claim.idempotency_key))

    @contextmanager
    def _hold(self, name: tuple[str, str]) -> Iterator[None]:
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
