"""Apply a request once for each idempotency key: one at a time here, and with the answer stored for its repeats."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Final

import orjson

from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, ClientEventRejected, IdempotencyConflict
from gateway.domain.messages import new_id
from ingest_api.errors import Problem
from ingest_api.interfaces import AnswerStore, DedupStore
from ingest_api.request import AuthenticatedRequest, Response

REPLAYED_HEADER: Final = "Idempotency-Replayed"
CLAIM_SECONDS: Final = 30.0
"""For how long a repeat on another replica waits for the first request, whose replica may have died."""
_FULL_SECONDS: Final = 60
_NO_LOCK: Final = nullcontext()


class InFlight:
    """Allows one request at a time for each idempotency key on this replica.

    Between replicas the dedup key in the broker decides.
    """

    def __init__(self) -> None:
        self._locked: set[tuple[str, str]] = set()

    def lock(self, dedup_key: DedupKey) -> AbstractContextManager[None]:
        """Lock the scope and idempotency key of a request while it is handled.

        Raises:
            Problem: Another request holds the lock (``idempotency_conflict``).
        """
        if dedup_key.idempotency_key is None:
            return _NO_LOCK
        return self._lock((dedup_key.scope, dedup_key.idempotency_key))

    @contextmanager
    def _lock(self, name: tuple[str, str]) -> Iterator[None]:
        if name in self._locked:
            raise _in_progress()
        self._locked.add(name)
        try:
            yield
        finally:
            self._locked.discard(name)


class StoredAnswers:
    """Answers of requests that append nothing to the broker: kept for repeats with their idempotency key."""

    def __init__(self, calls: str, *, answers: AnswerStore, dedup: DedupStore) -> None:
        """``calls`` names the calls whose answers share the space that an ingest key has for them."""
        self._calls = calls
        self._answers = answers
        self._dedup = dedup
        self._in_flight = InFlight()

    async def apply(
        self, authenticated: AuthenticatedRequest, change: Callable[[], Awaitable[bytes]]
    ) -> Response:
        """Consume the nonce and return what ``change`` returns, or the answer that was stored for a repeat.

        ``change`` may run a second time if its answer could not be stored, so it must do no harm then.
        """
        with self._in_flight.lock(authenticated.dedup_key):
            await self._dedup.consume_nonce(authenticated.dedup_key)
            if authenticated.dedup_key.idempotency_key is None:
                return Response(await change())
            return await self._once(authenticated, change)

    async def _once(
        self, authenticated: AuthenticatedRequest, change: Callable[[], Awaitable[bytes]]
    ) -> Response:
        key = authenticated.dedup_key
        name = f"rest {key.scope} {key.idempotency_key}"
        holder, owner = new_id(), f"rest {key.key_id} {self._calls}"
        try:
            claim = await self._answers.claim(name, holder, user=owner, seconds=CLAIM_SECONDS)
        except ClientEventRejected:
            retry_after = {"Retry-After": str(_FULL_SECONDS)}
            raise Problem("rate_limited", "too many Idempotency-Keys of late", headers=retry_after) from None
        if not claim.is_held:
            return _stored(claim.ack, key.fingerprint, authenticated)
        try:
            content = await change()
        except BaseException:
            # A claim that is not ended ends by itself; the caller gets the first error.
            with suppress(BrokerUnavailable, BrokerTimeout):
                await self._answers.release(name, holder, user=owner)
            raise
        kept = orjson.dumps({"fingerprint": key.fingerprint, "content": content.decode()}).decode()
        with suppress(BrokerUnavailable, BrokerTimeout):
            await self._answers.keep(name, holder, kept, user=owner)
        return Response(content)


def _stored(answer: str | None, fingerprint: str, authenticated: AuthenticatedRequest) -> Response:
    if answer is None:
        raise _in_progress()
    stored = orjson.loads(answer)
    if stored["fingerprint"] != fingerprint:
        raise IdempotencyConflict("the idempotency key was used with another body")
    authenticated.request.is_repeat = True
    return Response(stored["content"].encode(), headers={REPLAYED_HEADER: "true"})


def _in_progress() -> Problem:
    return Problem(
        "idempotency_conflict",
        "a request with this Idempotency-Key is being worked on right now",
        headers={"Retry-After": "1"},
    )
