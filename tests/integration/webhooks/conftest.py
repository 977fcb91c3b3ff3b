"""Clients of webhooks against real servers."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.domain.errors import ClientEventRejected
from gateway.domain.webhooks import Webhook, WebhookAnswer
from gateway.metrics import MetricFactory
from gateway.timers import SystemClock
from gateway.webhooks import WebhookClient

OLD_SECRET = "whsec_" + base64.b64encode(b"o" * 32).decode()
NEW_SECRET = "whsec_" + base64.b64encode(b"n" * 32).decode()
MakeClient = Callable[..., WebhookClient]


def webhook(port: int, **fields: Any) -> Webhook:
    """Return a webhook at a port of the loopback address."""
    defaults: dict[str, Any] = {
        "id": "app",
        "url": f"http://127.0.0.1:{port}/hook",
        "secrets": (OLD_SECRET,),
        "timeout_seconds": 10.0,
    }
    return Webhook(**defaults | fields)


async def call(
    client: WebhookClient,
    data: Any = None,
    *,
    webhook: str = "app",
    is_wanted: Callable[[], bool] = lambda: True,
) -> WebhookAnswer:
    """Send one event."""
    return await client.call(
        webhook,
        event_id="e-1",
        event_type="client.event",
        data={"args": []} if data is None else data,
        is_wanted=is_wanted,
    )


async def failure(client: WebhookClient, *, webhook: str = "app") -> ClientEventRejected:
    """Send one event and return the error."""
    with pytest.raises(ClientEventRejected) as raised:
        await call(client, webhook=webhook)
    return raised.value


@pytest.fixture
def metrics() -> MetricFactory:
    return MetricFactory()


@pytest.fixture
async def make_client(metrics: MetricFactory) -> AsyncIterator[MakeClient]:
    clients: list[WebhookClient] = []

    def make(*webhooks: Webhook, **options: Any) -> WebhookClient:
        defaults: dict[str, Any] = {
            "clock": SystemClock(),
            "metrics": metrics,
            "user_agent": "sio-gateway/test",
        }
        clients.append(WebhookClient(webhooks, **defaults | options))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()
