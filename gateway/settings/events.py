"""The file of GATEWAY_EVENTS_FILE: read, and its mistakes added to those of the settings."""

from __future__ import annotations

from pathlib import Path

from gateway.domain.event_catalogue import CLAIM_PREFIXES, EventCatalogue
from gateway.settings.files import read_file
from gateway.settings.model import Problems, Settings


def read_event_catalogue(settings: Settings, problems: Problems) -> EventCatalogue:
    """Return the event catalogue; an empty one if the file is not set or has mistakes, which are added."""
    path = settings.events_file
    if path is None:
        return EventCatalogue()
    try:
        text = _read(Path(path))
    except ValueError as error:
        problems.add("events_file", str(error))
        return EventCatalogue()

    # Imported here, because most commands need neither YAML nor JSON Schema.
    from gateway.events import CatalogueError, load_catalogue

    webhooks = [webhook.id for webhook in settings.webhooks]
    try:
        return load_catalogue(
            text,
            namespaces=None if problems.has_error("namespaces") else settings.namespaces,
            webhooks=None if problems.has_error("webhooks") else webhooks,
            claim_prefixes=(*CLAIM_PREFIXES, *settings.room_claims.values()),
        )
    except CatalogueError as error:
        for mistake in error.mistakes:
            problems.add("events_file", str(mistake), where=path)
        return EventCatalogue()


def _read(path: Path) -> str:
    """Return the text of the file.

    Raises: ValueError if it cannot be read, is no UTF-8 or is too large.
    """
    try:
        return read_file(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None
