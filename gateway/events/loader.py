"""The whole file: from YAML text to the frozen catalogue, or to every mistake at once."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Final

from gateway.domain.event_catalogue import (
    CLAIM_PREFIXES,
    NEVER,
    ClientEvent,
    EventCatalogue,
    NamespaceEvents,
    ServerEvent,
)
from gateway.events.entries import EntryReader
from gateway.events.mistakes import CatalogueError, Mistake, Mistakes, Part, TooManyMistakes
from gateway.events.presence import AnnouncementReader, read_online_users, read_presence
from gateway.events.rules import check_known_namespace, read_broadcast, read_rules
from gateway.events.schemas import SchemaReader
from gateway.events.yaml_tree import YamlError, parse_yaml

VERSION: Final = 1
MAX_EVENTS: Final = 1_000
_KEYS: Final = ("version", "schemas", "namespaces", "presence")
_NAMESPACE_KEYS: Final = (
    "error_event", "rooms", "broadcast", "client_events", "server_events", "undescribed_pushes", "online_users"
)  # fmt: skip
_ERROR_EVENTS: Final = ("error", "exception")
_UNDESCRIBED: Final = ("allow", "reject")


def load_catalogue(
    text: str,
    *,
    namespaces: Collection[str] | None,
    webhooks: Collection[str] | None,
    claim_prefixes: tuple[str, ...] = CLAIM_PREFIXES,
) -> EventCatalogue:
    """Return the catalogue that a YAML text describes.

    ``namespaces`` are those of GATEWAY_NAMESPACES, ``webhooks`` the ids of GATEWAY_WEBHOOKS. None: any
    name is accepted. ``claim_prefixes`` begin the names of rooms of claims.

    Raises: CatalogueError with every mistake.
    """
    try:
        root = parse_yaml(text)
    except YamlError as error:
        raise CatalogueError([Mistake("", error.sentence, error.line)]) from None
    mistakes = Mistakes()
    catalogue = EventCatalogue()
    with suppress(TooManyMistakes):
        catalogue = _read(Part(root, mistakes), namespaces, webhooks, claim_prefixes)
    mistakes.raise_any()
    return catalogue


def _read(
    part: Part,
    namespaces: Collection[str] | None,
    webhooks: Collection[str] | None,
    claim_prefixes: tuple[str, ...],
) -> EventCatalogue:
    fields = part.fields(_KEYS)
    if "version" not in fields:
        if part.is_mapping:
            part.error(f"has no version; this release reads version: {VERSION}")
    elif fields["version"].value != VERSION or isinstance(fields["version"].value, bool):
        fields["version"].error(f"is not {VERSION}, the version that this release reads")
    schemas = SchemaReader()
    if "schemas" in fields:
        schemas.read_named(fields["schemas"])
    found: dict[str, NamespaceEvents] = {}
    members = fields["namespaces"].members() if "namespaces" in fields else {}
    count = sum(_count_events(value) for value in members.values())
    if count > MAX_EVENTS:
        # They are not read, which could take long.
        fields["namespaces"].error(f"hold {count} events; at most {MAX_EVENTS} are possible")
        members = {}
    for name, value in members.items():
        check_known_namespace(name, value, namespaces)
        found[name] = _read_namespace(value, schemas, webhooks)
    announcements = AnnouncementReader(namespaces, claim_prefixes)
    presence = read_presence(fields["presence"], announcements, webhooks) if "presence" in fields else None
    return EventCatalogue(found, schemas.named, presence)


def _count_events(namespace: Part) -> int:
    """Return how many events a namespace describes, right or wrong."""
    fields = namespace.node.value
    lists = (
        [fields.get(name) for name in ("client_events", "server_events")] if isinstance(fields, dict) else []
    )
    return sum(len(each.value) for each in lists if each is not None and isinstance(each.value, dict))


def _read_namespace(part: Part, schemas: SchemaReader, webhooks: Collection[str] | None) -> NamespaceEvents:
    fields = part.fields(_NAMESPACE_KEYS)
    error_event = fields["error_event"].one_of(_ERROR_EVENTS) if "error_event" in fields else None
    broadcast = read_broadcast(fields["broadcast"]) if "broadcast" in fields else NEVER
    entries = EntryReader(schemas, webhooks, broadcasts="broadcast" in fields)
    exact, patterns = _client_events(fields.get("client_events"), entries)
    undescribed = (
        fields["undescribed_pushes"].one_of(_UNDESCRIBED) if "undescribed_pushes" in fields else None
    )
    return NamespaceEvents(
        error_event=error_event or _ERROR_EVENTS[0],
        rooms=read_rules(fields["rooms"], webhooks) if "rooms" in fields else (),
        broadcast=broadcast,
        client_events=exact,
        patterns=patterns,
        server_events=_server_events(fields.get("server_events"), entries),
        allows_undescribed_pushes=undescribed != "reject",
        online_users=read_online_users(fields["online_users"]) if "online_users" in fields else None,
    )


def _client_events(
    part: Part | None, entries: EntryReader
) -> tuple[dict[str, ClientEvent], tuple[ClientEvent, ...]]:
    """Return the entries with exact names, and the patterns, longest first."""
    exact: dict[str, ClientEvent] = {}
    patterns: list[ClientEvent] = []
    for name, value in part.members().items() if part is not None else ():
        entry = entries.client_event(name, value)
        if entry is None:
            continue
        if name.endswith("*"):
            patterns.append(entry)
        else:
            exact[name] = entry
    return exact, tuple(sorted(patterns, key=lambda entry: -len(entry.name)))


def _server_events(part: Part | None, entries: EntryReader) -> dict[str, ServerEvent]:
    found: dict[str, ServerEvent] = {}
    for name, value in part.members().items() if part is not None else ():
        entry = entries.server_event(name, value)
        if entry is not None:
            found[name] = entry
    return found
