"""The example of the documentation is a catalogue without mistakes."""

from __future__ import annotations

from gateway.events import load_catalogue, warnings
from tests.support.paths import ROOT

TEXT = (ROOT / "examples/nestjs/events.yaml").read_text(encoding="utf-8")
NAMESPACES = ("/", "/chat", "/events", "/match")


def test_example_has_no_mistakes() -> None:
    catalogue = load_catalogue(TEXT, namespaces=NAMESPACES, webhooks=["app"])

    assert list(catalogue.namespaces) == ["/chat", "/events", "/match", "/"]
    assert catalogue.webhooks() == {"app"}


def test_example_has_one_warning() -> None:
    catalogue = load_catalogue(TEXT, namespaces=NAMESPACES, webhooks=["app"])

    assert warnings(catalogue) == [
        "namespaces./chat.rooms.0.join: any client may join every room but those with a reserved prefix"
    ]
