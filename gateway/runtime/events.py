"""Two uses of the event catalogue: checks of pushes, and documents for the development page.

Only pushes of events that the catalogue describes are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import orjson

from gateway.domain.event_catalogue import Arguments, EventCatalogue, Schema
from ingest_api.interfaces import UnknownEvent

MAX_CHECKED_VALUES: Final = 20_000
"""Values in the arguments of a push that are checked, in one piece: about 10 ms."""


class PushSchemas:
    """The ``server_events`` of the catalogue. Satisfies ``ingest_api.interfaces.EventSchemas``."""

    def __init__(self, catalogue: EventCatalogue) -> None:
        namespaces = catalogue.namespaces.items()
        self._described = {
            (namespace, name): event.args
            for namespace, events in namespaces
            for name, event in events.server_events.items()
        }
        self._closed = frozenset(name for name, events in namespaces if not events.allows_undescribed_pushes)

    def check(
        self, namespace: str, event: str, arguments: tuple[str, ...], *, value_count: int
    ) -> Mapping[str, str] | None:
        """Check the arguments of a push; see ``ingest_api.interfaces.EventSchemas``.

        Raises:
            UnknownEvent: The catalogue has no such event, and rejects pushes of such events.
        """
        described = self._described.get((namespace, event))
        if described is None:
            if namespace in self._closed:
                raise UnknownEvent
            return None
        if described.schemas is None:
            return None
        if not len(described.schemas) - described.optional <= len(arguments) <= len(described.schemas):
            return {"": _count_sentence(described, len(arguments))}
        if value_count > MAX_CHECKED_VALUES:
            return {"0": f"holds more than {MAX_CHECKED_VALUES:,} values, which are too many to check"}
        # The REST API has checked that they are JSON. Fewer arguments than schemas: the last ones are optional.
        problems = dict(_problems(described.schemas, arguments))
        return problems or None


class CurrentPushSchemas:
    """Returns the PushSchemas of the catalogue in effect; None if it has no namespace."""

    def __init__(self, catalogue: Callable[[], EventCatalogue]) -> None:
        self._catalogue = catalogue
        self._source = EventCatalogue()
        self._schemas: PushSchemas | None = None

    def __call__(self) -> PushSchemas | None:
        """Return them. They are built anew when the catalogue is another one than at the last call."""
        catalogue = self._catalogue()
        if catalogue is not self._source:
            self._source = catalogue
            self._schemas = PushSchemas(catalogue) if catalogue.namespaces else None
        return self._schemas


def event_documents(catalogue: EventCatalogue) -> dict[str, str]:
    """Return the TypeScript and AsyncAPI documents by file name; none for a catalogue without namespaces."""
    if not catalogue.namespaces:
        return {}
    from gateway.events.asyncapi import as_yaml, asyncapi
    from gateway.events.typescript import typescript

    return {"gateway-events.d.ts": typescript(catalogue), "asyncapi.yaml": as_yaml(asyncapi(catalogue))}


def _problems(schemas: tuple[Schema | None, ...], arguments: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for index, (schema, text) in enumerate(zip(schemas, arguments, strict=False)):
        if schema is None:
            continue
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            yield str(index), "has a number that is out of range"
            continue
        for path, sentence in schema.problems(value).items():
            yield f"{index}.{path}" if path else str(index), sentence


def _count_sentence(described: Arguments, count: int) -> str:
    most = len(described.schemas or ())
    least = most - described.optional
    expected = str(most) if least == most else f"{least} to {most}"
    return f"the event takes {expected} argument{'' if expected == '1' else 's'}, not {count}"
