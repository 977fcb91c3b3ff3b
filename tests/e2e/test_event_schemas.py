"""Pushes to a gateway with an event catalogue: described events are checked, and a reload changes the rules."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess

STRICT = """
version: 1
schemas:
  Note: {type: object, required: [text], properties: {text: {type: string, maxLength: 5}}}
namespaces:
  /:
    undescribed_pushes: reject
    server_events:
      note: {args: [{$ref: "#/schemas/Note"}]}
"""
OPEN = "version: 1\nnamespaces: {/: {}}\n"


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    file = tmp_path / "events.yaml"
    file.write_text(STRICT, encoding="utf-8")
    return file


@pytest.fixture
def gateway(catalogue: Path) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(events_file=catalogue)
    yield gateway
    assert gateway.stop() == 0


def test_only_pushes_that_fit_the_catalogue_reach_a_client(
    gateway: GatewayProcess, node: NodeClients
) -> None:
    client = node.open(gateway.url, token=gateway.token("42")).connected()

    missing = gateway.backend.push_user("42", "note", {})
    too_long = gateway.backend.push_user("42", "note", {"text": "longer"})
    undescribed = gateway.backend.push_user("42", "other", 1)
    gateway.push_user("42", "note", {"text": "short"})

    assert (missing.status, missing.body["code"]) == (422, "invalid_body")
    assert list(missing.body["errors"]) == ["data.text"]
    assert (too_long.status, list(too_long.body["errors"])) == (422, ["data.text"])
    assert "longer" not in too_long.text
    assert (undescribed.status, undescribed.body["code"]) == (422, "unknown_event")
    assert client.event("note")[0] == {"text": "short"}


def test_a_reload_changes_what_is_checked(gateway: GatewayProcess, catalogue: Path) -> None:
    assert gateway.backend.push_user("42", "other", 1).status == 422

    catalogue.write_text(OPEN, encoding="utf-8")
    gateway.signal(signal.SIGHUP)
    gateway.log.wait(lambda line: line.get("event") == "settings.reloaded")

    assert gateway.backend.push_user("42", "other", 1).status == 200
