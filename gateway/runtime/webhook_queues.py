"""The queues of the configured webhooks, as the REST API needs them (``ingest_api.interfaces.WebhookQueues``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from gateway.domain.notifications import DeadLetter, QueueSummary
from gateway.domain.webhooks import Webhook
from gateway.interfaces import State
from ingest_api.interfaces import DeadLetterPosition, UnknownWebhook, WebhookState

MAX_PAGE_BYTES: Final = 1024 * 1024
"""The dead letters of a page, beside the first one."""
_READ_ENTRIES: Final = 20
"""Dead letters that are read from the state at once."""
_EMPTY: Final = QueueSummary()


class ConfiguredWebhooks(Protocol):
    """The webhooks of this replica (``gateway.webhooks.WebhookClient``)."""

    def configured(self) -> Mapping[str, Webhook]:
        """Return the webhooks by id, as they are configured now."""
        ...

    def is_circuit_open(self, webhook: str) -> bool:
        """Return whether the circuit breaker of a webhook is open."""
        ...


class ConfiguredQueues:
    """The queues of the webhooks that are configured now."""

    def __init__(self, state: State, webhooks: ConfiguredWebhooks) -> None:
        self._state = state
        self._webhooks = webhooks

    def check(self, webhook: str) -> None:
        """Check that a webhook is configured.

        Raises: UnknownWebhook.
        """
        self._find(webhook)

    async def states(self) -> Sequence[WebhookState]:
        """Return the state of each configured webhook, in the order of their ids."""
        configured = self._webhooks.configured()
        summaries = await self._state.webhook_queues.summaries(configured.keys()) if configured else {}
        return tuple(
            WebhookState(
                name,
                summaries.get(name, _EMPTY),
                configured[name].partitions,
                self._webhooks.is_circuit_open(name),
            )
            for name in sorted(configured)
        )

    async def dead_letters(
        self, webhook: str, *, after: DeadLetterPosition | None, limit: int
    ) -> tuple[Sequence[DeadLetter], bool]:
        """Return dead letters behind a place, oldest first, and whether there are more.

        Less than ``limit`` are returned if these are larger than MAX_PAGE_BYTES.

        Raises: UnknownWebhook, and what the state raises.
        """
        self._find(webhook)
        if after is None:
            return await self._page(webhook, None, limit)
        found = await self._page(webhook, after.id, limit)
        # Without any behind the id: it may be gone, by a replay for example. Those that died with it may be repeated.
        return found if found[0] else await self._page(webhook, None, limit, skipped=after)

    async def replay(self, webhook: str, ids: tuple[str, ...]) -> int:
        """Put dead letters into the queue again; return how many.

        Raises: UnknownWebhook, and what the state raises.
        """
        return await self._state.webhook_queues.replay(
            webhook, ids, partitions=self._find(webhook).partitions
        )

    async def drop(self, webhook: str, ids: tuple[str, ...]) -> int:
        """Delete dead letters; return how many.

        Raises: UnknownWebhook, and what the state raises.
        """
        self._find(webhook)
        return await self._state.webhook_queues.drop(webhook, ids)

    def _find(self, webhook: str) -> Webhook:
        found = self._webhooks.configured().get(webhook)
        if found is None:
            raise UnknownWebhook(webhook)
        return found

    async def _page(
        self, webhook: str, after: str | None, limit: int, *, skipped: DeadLetterPosition | None = None
    ) -> tuple[Sequence[DeadLetter], bool]:
        """Return a page behind the id ``after``, without the letter at ``skipped`` and those that died before it."""
        page: list[DeadLetter] = []
        page_bytes = 0
        while letters := await self._state.webhook_queues.dead_letters(
            webhook, after=after, limit=_READ_ENTRIES
        ):
            after = letters[-1].id
            for letter in letters:
                if skipped and (letter.dead_at < skipped.dead_at or letter.id == skipped.id):
                    continue
                page_bytes += len(letter.data.encode())
                if len(page) == limit or (page and page_bytes > MAX_PAGE_BYTES):
                    return page, True
                page.append(letter)
        return page, False
