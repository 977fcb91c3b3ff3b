"""Handle authenticated requests about webhooks: their queues and their dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import orjson

from gateway.domain.notifications import DeadLetter
from gateway.domain.times import iso_timestamp
from ingest_api.errors import Problem
from ingest_api.idempotency import StoredAnswers
from ingest_api.interfaces import (
    AnswerStore,
    Clock,
    DeadLetterPosition,
    DedupStore,
    UnknownWebhook,
    WebhookQueues,
    WebhookState,
)
from ingest_api.large_body import BodyReader
from ingest_api.push import check_media_type, read_values
from ingest_api.query import Page, encode_cursor, invalid_cursor, read_page, read_query
from ingest_api.request import AuthenticatedRequest, Response
from ingest_api.schemas import DeadLetterIdsSchema


class WebhookHandlers:
    """One method for each call about webhooks."""

    def __init__(
        self, *, queues: WebhookQueues, answers: AnswerStore, dedup: DedupStore, clock: Clock
    ) -> None:
        self._queues = queues
        self._stored = StoredAnswers("webhooks", answers=answers, dedup=dedup)
        self._dedup = dedup
        self._clock = clock
        self._schema = DeadLetterIdsSchema()
        self._bodies = BodyReader()

    async def webhooks(self, authenticated: AuthenticatedRequest) -> Response:
        """Return what the queue of each configured webhook holds."""
        await self._dedup.consume_nonce(authenticated.dedup_key)
        now = self._clock.now()
        states = await self._queues.states()
        return Response(orjson.dumps({"webhooks": [_state(state, now) for state in states]}))

    async def dead_letters(self, authenticated: AuthenticatedRequest) -> Response:
        """Return a page of the dead letters of a webhook."""
        webhook = self._webhook(authenticated)
        page = read_page(read_query(authenticated.request.target, ("limit", "cursor")))
        after = _after(page)
        await self._dedup.consume_nonce(authenticated.dedup_key)
        letters, has_more = await self._queues.dead_letters(webhook, after=after, limit=page.limit)
        last = letters[-1] if has_more else None
        content = {
            "dead": [_letter(letter) for letter in letters],
            "next": None if last is None else encode_cursor(last.dead_at, last.id),
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
        body = authenticated.body
        ids = tuple((await self._bodies.read(body, read_values(self._schema, body)))["ids"])
        webhook = self._webhook(authenticated)

        async def apply() -> bytes:
            # Without a stored answer a repeat finds the dead letters gone, so it has no second effect in any case.
            return orjson.dumps({member: await change(webhook, ids)})

        return await self._stored.apply(authenticated, apply)

    def _webhook(self, authenticated: AuthenticatedRequest) -> str:
        webhook = authenticated.request.webhook
        if webhook is None:
            raise AssertionError("the template of this route has no {id}")
        try:
            self._queues.check(webhook)
        except UnknownWebhook:
            raise Problem("unknown_webhook", f"no webhook {webhook!r} is configured") from None
        return webhook


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


def _after(page: Page) -> DeadLetterPosition | None:
    """Return the place behind which a page begins.

    Raises:
        Problem: The cursor is not one of dead letters (``invalid_query``).
    """
    match page.cursor:
        case None:
            return None
        case (float(dead_at), str(letter)):
            return DeadLetterPosition(dead_at, letter)
    raise invalid_cursor()
