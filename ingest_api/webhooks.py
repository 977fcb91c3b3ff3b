"""Handle authenticated requests about webhooks: their queues and their dead letters."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import orjson

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, ClientEventRejected, IdempotencyConflict
from gateway.domain.messages import new_id
from gateway.domain.notifications import DeadLetter
from gateway.domain.times import iso_timestamp
from ingest_api.errors import Problem
from ingest_api.handlers import REPLAYED_HEADER, InFlight
from ingest_api.interfaces import (
    AnswerStore,
    Clock,
    DeadLetterPosition,
    DedupStore,
    UnknownWebhook,
    WebhookQueues,
    WebhookState,
)
from ingest_api.large_body import LARGE_BYTES, in_slices
from ingest_api.push import check_media_type, read_ids, read_large_ids
from ingest_api.request import AuthenticatedRequest, Response
from ingest_api.schemas import DeadLetterIdsSchema

MAX_PAGE: Final = 100
CLAIM_SECONDS: Final = 30.0
"""For how long a repeat on another replica waits for the first request, whose replica may have died."""
_FULL_SECONDS: Final = 60
_MAX_CURSOR_CHARACTERS: Final = 2_000


class _Page(NamedTuple):
    """The query of a page."""

    limit: int
    after: DeadLetterPosition | None


class WebhookHandlers:
    """One method for each call about webhooks."""

    def __init__(
        self, *, queues: WebhookQueues, answers: AnswerStore, dedup: DedupStore, clock: Clock
    ) -> None:
        self._queues = queues
        self._answers = answers
        self._dedup = dedup
        self._clock = clock
        self._schema = DeadLetterIdsSchema()
        self._in_flight = InFlight()
        self._large_body = asyncio.Lock()

    async def webhooks(self, authenticated: AuthenticatedRequest) -> Response:
        """Return what the queue of each configured webhook holds."""
        await self._dedup.consume_nonce(authenticated.dedup_key)
        now = self._clock.now()
        states = await self._queues.states()
        return Response(orjson.dumps({"webhooks": [_state(state, now) for state in states]}))

    async def dead_letters(self, authenticated: AuthenticatedRequest) -> Response:
        """Return a page of the dead letters of a webhook."""
        webhook = self._webhook(authenticated)
        page = _page(authenticated.request.target)
        await self._dedup.consume_nonce(authenticated.dedup_key)
        letters, has_more = await self._queues.dead_letters(webhook, after=page.after, limit=page.limit)
        last = letters[-1] if has_more else None
        content = {
            "dead": [_letter(letter) for letter in letters],
            "next": None if last is None else _cursor(DeadLetterPosition(last.dead_at, last.id)),
        }
        return Response(orjson.dumps(content))

    async def replay(self, authenticated: AuthenticatedRequest) -> Response:
        """Put dead letters into the queue of their webhook again."""
        return await self._change(authenticated, "replayed", self._queues.replay)

    async def drop(self, authenticated: AuthenticatedRequest) -> Response:
        """Delete dead letters."""
        return await self._change(authenticated, "dropped", self._queues.drop)

    async def _change(
        self,
        authenticated: AuthenticatedRequest,
        member: str,
        change: Callable[[str, tuple[str, ...]], Awaitable[int]],
    ) -> Response:
        check_media_type(authenticated.request, authenticated.body)
        ids = await self._read_ids(authenticated.body)
        webhook = self._webhook(authenticated)

        async def apply() -> bytes:
            return orjson.dumps({member: await change(webhook, ids)})

        with self._in_flight.lock(authenticated.dedup_key):
            await self._dedup.consume_nonce(authenticated.dedup_key)
            if authenticated.dedup_key.idempotency_key is None:
                return Response(await apply())
            return await self._once(authenticated, apply)

    async def _once(
        self, authenticated: AuthenticatedRequest, apply: Callable[[], Awaitable[bytes]]
    ) -> Response:
        """Return the answer that was stored for the idempotency key, or apply the request and store its answer.

        Without a stored answer a repeat finds the dead letters gone, so it has no second effect in any case.
        """
        key = authenticated.dedup_key
        name = f"rest {key.scope} {key.idempotency_key}"
        holder, owner = new_id(), f"rest {key.key_id}"
        try:
            claim = await self._answers.claim(name, holder, user=owner, seconds=CLAIM_SECONDS)
        except ClientEventRejected:
            retry_after = {"Retry-After": str(_FULL_SECONDS)}
            raise Problem("rate_limited", "too many Idempotency-Keys of late", headers=retry_after) from None
        if not claim.is_held:
            return _stored(claim.ack, key.fingerprint, authenticated)
        try:
            content = await apply()
        except BaseException:
            # A claim that is not ended ends by itself; the caller gets the first error.
            with suppress(BrokerUnavailable, BrokerTimeout):
                await self._answers.release(name, holder, user=owner)
            raise
        kept = orjson.dumps({"fingerprint": key.fingerprint, "content": content.decode()}).decode()
        with suppress(BrokerUnavailable, BrokerTimeout):
            await self._answers.keep(name, holder, kept, user=owner)
        return Response(content)

    async def _read_ids(self, body: bytes) -> tuple[str, ...]:
        if len(body) <= LARGE_BYTES:
            return read_ids(self._schema, body)
        async with self._large_body:
            return await in_slices(read_large_ids(self._schema, body))

    def _webhook(self, authenticated: AuthenticatedRequest) -> str:
        webhook = authenticated.request.webhook
        if webhook is None:
            raise AssertionError("the template of this route has no {id}")
        try:
            self._queues.check(webhook)
        except UnknownWebhook:
            raise Problem("unknown_webhook", f"no webhook {webhook!r} is configured") from None
        return webhook


def _stored(answer: str | None, fingerprint: str, authenticated: AuthenticatedRequest) -> Response:
    if answer is None:
        raise Problem(
            "idempotency_conflict",
            "a request with this Idempotency-Key is being worked on right now",
            headers={"Retry-After": "1"},
        )
    stored = orjson.loads(answer)
    if stored["fingerprint"] != fingerprint:
        raise IdempotencyConflict("the idempotency key was used with another body")
    authenticated.request.is_repeat = True
    return Response(stored["content"].encode(), headers={REPLAYED_HEADER: "true"})


def _state(state: WebhookState, now: float) -> Mapping[str, object]:
    queue = state.queue
    owners: dict[str, list[int]] = {}
    for partition, replica in sorted(queue.owners):
        owners.setdefault(replica, []).append(partition)
    return {
        "id": state.id,
        "entries": queue.entries,
        "bytes": queue.bytes,
        "lag_seconds": 0.0 if queue.oldest_at is None else round(max(0.0, now - queue.oldest_at), 3),
        "dead_letters": queue.dead_letters,
        "partitions": state.partitions,
        "owners": dict(sorted(owners.items())),
        "circuit_open": state.is_circuit_open,
    }


def _letter(letter: DeadLetter) -> Mapping[str, object]:
    return {
        "id": letter.id,
        "user": letter.user,
        "type": letter.type,
        "timestamp": iso_timestamp(letter.at),
        "reason": letter.reason.value,
        "status": letter.status,
        "dead_at": iso_timestamp(letter.dead_at),
        "data": orjson.Fragment(letter.data),
    }


def _page(target: str) -> _Page:
    """Return the page that the query of a request target asks for.

    Raises:
        Problem: The query has another parameter, one of them twice, or a value that is not allowed (``invalid_query``).
    """
    query = target.partition("?")[2]
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError:
        raise Problem("invalid_query", "the query is not name=value, percent-encoded UTF-8") from None
    values = dict(given)
    if len(values) < len(given) or not values.keys() <= {"limit", "cursor"}:
        raise Problem("invalid_query", "the query has limit and cursor at most, each once")
    limit = values.get("limit", str(MAX_PAGE))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= MAX_PAGE):
        raise Problem("invalid_query", f"limit is a number from 1 to {MAX_PAGE}")
    cursor = values.get("cursor")
    return _Page(int(limit), None if cursor is None else _position(cursor))


def _cursor(position: DeadLetterPosition) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([*position])).decode().rstrip("=")


def _position(cursor: str) -> DeadLetterPosition:
    try:
        if len(cursor) > _MAX_CURSOR_CHARACTERS:
            raise ValueError("the cursor is too long")
        padded = cursor + "=" * (-len(cursor) % 4)
        dead_at, letter = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not (isinstance(dead_at, float) and isinstance(letter, str)):
            raise ValueError("the cursor has other members")
    except (ValueError, TypeError, binascii.Error):
        raise Problem("invalid_query", "cursor is the next of an earlier page") from None
    return DeadLetterPosition(dead_at, letter)
