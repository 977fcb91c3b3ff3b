"""The gateway that generated requests are sent to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.openapi_fuzz.requests import ISSUER, WEBHOOK
from tests.support.gateway_process import GatewayProcess
from tests.support.webhook_server import SECRET, WebhookServer

CATALOGUE = """
version: 1
namespaces:
  /:
    rooms: [{match: "org:*", list_members: true}]
    client_events: {order: {notify: app}}
"""


@pytest.fixture(scope="module")
def gateway_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with an issuer and a webhook that rejects each event. It must end well and log no error."""
    catalogue: Path = tmp_path_factory.mktemp("catalogue") / "events.yaml"
    catalogue.write_text(CATALOGUE, "utf-8")
    webhook = WebhookServer()
    webhook.status_of = lambda _: 422
    process = GatewayProcess(
        events_file=catalogue,
        issuers=json.dumps([ISSUER]),
        webhooks=f"{WEBHOOK}={webhook.url}",
        webhook_secrets=f"{WEBHOOK}:{SECRET}",
    )
    yield process
    # It still serves after all requests.
    assert process.backend.broadcast("after", {}).status == 200
    assert process.stop() == 0
    webhook.stop()
    assert process.failures() == []
