"""The generated AsyncAPI documents, read by the parser of the AsyncAPI initiative."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.domain.event_catalogue import EventCatalogue
from gateway.events import load_catalogue
from gateway.events.asyncapi import as_json, as_yaml, asyncapi
from tests.integration.documents.test_typescript import BUFFERS
from tests.support.paths import ROOT
from tests.unit.events.catalogues import CHAT

SCRIPT = ROOT / "tests" / "support" / "js" / "asyncapi.mjs"
EXAMPLE = (ROOT / "examples" / "nestjs" / "events.yaml").read_text(encoding="utf-8")


def parse(document: str) -> Mapping[str, Any]:
    """Return what the parser says about a document."""
    command = [sys.executable, str(ROOT / "tools" / "node.py"), str(SCRIPT)]
    done = subprocess.run(command, input=document, capture_output=True, text=True, check=True)
    parsed: Mapping[str, Any] = json.loads(done.stdout)
    return parsed


@pytest.mark.parametrize(
    ("catalogue", "channels"),
    [
        pytest.param(CHAT, ["/", "/chat", "/events"], id="values"),
        pytest.param(load_catalogue(BUFFERS, namespaces=None, webhooks=None), ["/"], id="buffers"),
        pytest.param(
            load_catalogue(EXAMPLE, namespaces=None, webhooks=None),
            ["/", "/chat", "/events", "/match"],
            id="examples/nestjs",
        ),
    ],
)
def test_the_parser_accepts_the_document(catalogue: EventCatalogue, channels: list[str]) -> None:
    document = asyncapi(catalogue)

    for text in (as_yaml(document), as_json(document)):
        assert parse(text) == {"version": "3.0.0", "channels": channels, "problems": []}


def test_the_parser_rejects_a_document_that_is_none() -> None:
    document = asyncapi(CHAT) | {"channels": []}

    assert parse(as_yaml(document))["problems"] != []
