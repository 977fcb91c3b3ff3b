"""Loads catalogues in tests."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from gateway.domain.event_catalogue import ClientEvent, EventCatalogue, NamespaceEvents
from gateway.events import CatalogueError, load_catalogue

NAMESPACES: Final = ("/", "/chat", "/events", "/match")
WEBHOOKS: Final = ("app", "billing")


def load(text: str, webhooks: Collection[str] = WEBHOOKS) -> EventCatalogue:
    """Return the catalogue of a text."""
    return load_catalogue(text, namespaces=NAMESPACES, webhooks=webhooks)


def namespace(text: str) -> NamespaceEvents:
    """Return the namespace ``/`` whose members are the text, with indented lines."""
    return load(in_namespace(text)).namespaces["/"]


def entry(text: str, *, rest: str = "") -> ClientEvent:
    """Return the entry ``e`` whose members the text has, in one line. ``rest`` are more members of the namespace."""
    return namespace(f"    client_events: {{e: {{{text}}}}}\n{rest}").client_events["e"]


def in_namespace(text: str) -> str:
    """Return a catalogue whose namespace ``/`` has these members, which begin at line 4."""
    return f"version: 1\nnamespaces:\n  /:\n{text}"


def mistakes(text: str, webhooks: Collection[str] = WEBHOOKS) -> list[str]:
    """Return the mistakes of a text, as sentences with path and line; empty if there are none."""
    try:
        load(text, webhooks)
    except CatalogueError as error:
        return [str(each) for each in error.mistakes]
    return []


def entry_mistakes(text: str) -> list[str]:
    """Return the mistakes of an entry, without the part of the path and the line that all share."""
    found = mistakes(in_namespace(f"    client_events: {{e: {{{text}}}}}\n"))
    return [
        each.removeprefix("namespaces./.client_events.e").removeprefix(".").removesuffix(" (line 4)")
        for each in found
    ]
