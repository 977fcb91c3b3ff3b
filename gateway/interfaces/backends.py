"""The interfaces of what backends decide: whether a token is valid, and what a webhook answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from gateway.domain.identity import Identity
from gateway.domain.webhooks import Delivery, Webhook, WebhookAnswer, WebhookEvent


class TokenVerifier(Protocol):
    """Verifies tokens."""

    async def verify(self, token: str) -> Identity:
        """Return the identity that a token proves.

        Raises: TokenRejected; KeysUnavailable while the keys to verify it with cannot be fetched.
        """
        ...


class Webhooks(Protocol):
    """The HTTP endpoints of backends that events are sent to."""

    async def call(
        self,
        webhook: str,
        *,
        event_id: str,
        event_type: str,
        data: Mapping[str, object],
        is_wanted: Callable[[], bool],
    ) -> WebhookAnswer:
        """Send one event and return the answer; ``event_id`` is the same for a second try. Takes a bounded time.

        An event is not sent if ``is_wanted`` is false at the time at which it could be. It was certainly not sent if
        the code is ``busy``, or ``backend_unavailable`` without an answer.

        Raises: ClientEventRejected with the code that belongs to the failure (docs/reference/webhooks.md);
            CallDropped if the event was not sent because it is no longer wanted.
        """
        ...

    def may(self, webhook: str, scope: str, target: str | None) -> bool:
        """Return whether answers may do something beyond the sender: ``emit:room`` for a room, …; None: for any."""
        ...

    async def deliver(
        self, webhook: str, events: Sequence[WebhookEvent], *, is_wanted: Callable[[], bool] = lambda: True
    ) -> Delivery:
        """Send events in one request, several as a batch, and return what became of it.

        Waits for one of the requests in flight of the webhook to end, then DELIVERY_SECONDS at most. A webhook that is
        not configured has the outcome FAILED without a status.

        Raises: CallDropped if it was not sent because ``is_wanted`` was false at the time at which it could be.
        """
        ...

    def configured(self) -> Mapping[str, Webhook]:
        """Return the webhooks by id, as they are configured now."""
        ...
