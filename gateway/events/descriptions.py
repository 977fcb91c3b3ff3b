"""What clients of a namespace send and get, each argument as a JSON schema: the source of all generated documents.

Server events are those that the catalogue describes, the emissions of client events, announcements of presence, lists
of online users and the gateway's own events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.domain.event_catalogue import (
    Announcement,
    Arguments,
    ClientEvent,
    EventCatalogue,
    NamespaceEvents,
)
from gateway.domain.templates import Template
from gateway.events.own_events import (
    EVENTS_WITH_POSITION,
    OWN_SERVER_EVENTS,
    REFRESH,
    JsonSchema,
    error_payload,
    ref,
)
from gateway.events.payloads import PayloadSchemas

_TRUNCATED: Final[JsonSchema] = {
    "description": "There are more online users than the list holds.",
    "type": "object",
    "properties": {"truncated": {"const": True}},
    "required": ["truncated"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class ArgumentList:
    """The arguments of an event, of which the last ``optional`` may be absent. ``schemas`` None: any arguments."""

    schemas: tuple[JsonSchema, ...] | None
    optional: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SentEvent:
    """An event that clients send.

    ``name`` may end in ``*``. ``answers`` are the schemas of the argument of its acknowledgement: one of them.
    ``may_be_empty``: the acknowledgement may have no argument. ``rejected`` is the sentence of an event that is always
    rejected.
    """

    name: str
    arguments: ArgumentList
    answers: tuple[JsonSchema, ...]
    may_be_empty: bool = False
    rejected: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceivedEvent:
    """An event that clients get, with one of these lists of arguments. ``has_position``: a position may follow."""

    name: str
    variants: tuple[ArgumentList, ...]
    has_position: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class NamespaceDescription:
    """Both directions of one namespace."""

    namespace: str
    sent: tuple[SentEvent, ...]
    received: tuple[ReceivedEvent, ...]


def describe(catalogue: EventCatalogue) -> tuple[NamespaceDescription, ...]:
    """Return the description of every namespace of the catalogue, in the order of their names."""
    announced: dict[str, list[Announcement]] = {}
    for each in catalogue.presence.announce if catalogue.presence is not None else ():
        announced.setdefault(each.namespace, []).append(each)
    return tuple(
        NamespaceDescription(
            namespace=name,
            sent=tuple(_sent(events, catalogue.schemas)),
            received=tuple(_received(events, announced.get(name, ()), catalogue.schemas)),
        )
        for name in sorted({*catalogue.namespaces, *announced})
        for events in [catalogue.namespaces.get(name, NamespaceEvents())]
    )


def _sent(events: NamespaceEvents, named: Mapping[str, Mapping[str, object]]) -> Iterator[SentEvent]:
    for entry in _entries(events):
        if entry.reject is None or not entry.name.endswith("*"):
            yield _sent_event(entry, PayloadSchemas(entry.args, named))
    yield SentEvent(
        name=REFRESH, arguments=ArgumentList(({"type": "string"},)), answers=(ref("AuthRefreshAnswer"),)
    )


def _sent_event(entry: ClientEvent, payloads: PayloadSchemas) -> SentEvent:
    failure = (
        ref("GatewayErrorAnswer") if entry.on_error.ack is None else payloads.describe(entry.on_error.ack)
    )
    answers: list[JsonSchema] = []
    if entry.reject is not None:
        pass
    elif entry.ack is not None:
        answers.append(payloads.describe(entry.ack))
    elif entry.call is not None:
        answers.append(True if entry.returns is None else entry.returns.source)
    return SentEvent(
        name=entry.name,
        arguments=_argument_list(entry.args),
        answers=(*answers, failure),
        may_be_empty=not answers and entry.reject is None,
        rejected=entry.reject,
    )


def _received(
    events: NamespaceEvents,
    announcements: Iterable[Announcement],
    named: Mapping[str, Mapping[str, object]],
) -> Iterator[ReceivedEvent]:
    variants: dict[str, list[ArgumentList]] = {}
    described: dict[str, ArgumentList] = {
        name: _argument_list(event.args) for name, event in events.server_events.items()
    }
    own = {name: ref(payload) for name, payload in OWN_SERVER_EVENTS.items()}
    own[events.error_event] = error_payload(events.error_event)
    for name, arguments in described.items():
        variants.setdefault(name, []).append(arguments)
    for name, arguments in (*_emitted(events, named), *_of_presence(events, announcements, named)):
        if name not in described:
            variants.setdefault(name, []).append(arguments)
    has_position = set(variants) | EVENTS_WITH_POSITION
    for name, payload in own.items():
        variants.setdefault(name, []).append(ArgumentList((payload,)))
    for name in sorted(variants):
        distinct = tuple(_distinct(variants[name]))
        yield ReceivedEvent(name=name, variants=distinct, has_position=name in has_position)


def _emitted(
    events: NamespaceEvents, named: Mapping[str, Mapping[str, object]]
) -> Iterator[tuple[str, ArgumentList]]:
    for entry in _entries(events):
        payloads = PayloadSchemas(entry.args, named)
        for emission in (*entry.emit, *entry.on_error.emit):
            yield emission.event, _rendered(emission.arguments, payloads)


def _of_presence(
    events: NamespaceEvents,
    announcements: Iterable[Announcement],
    named: Mapping[str, Mapping[str, object]],
) -> Iterator[tuple[str, ArgumentList]]:
    payloads = PayloadSchemas(Arguments(()), named)
    for announcement in announcements:
        yield announcement.event, _rendered(announcement.arguments, payloads)
    users = events.online_users
    if users is not None:
        entries = {"type": "array", "items": payloads.describe(users.each), "maxItems": users.max_entries}
        yield users.event, ArgumentList((entries, _TRUNCATED), optional=1)


def _rendered(templates: Iterable[Template], payloads: PayloadSchemas) -> ArgumentList:
    return ArgumentList(tuple(payloads.describe(template) for template in templates))


def _entries(events: NamespaceEvents) -> list[ClientEvent]:
    return [*(events.client_events[name] for name in sorted(events.client_events)), *events.patterns]


def _argument_list(arguments: Arguments) -> ArgumentList:
    if arguments.schemas is None:
        return ArgumentList(None)
    sources = tuple(True if schema is None else schema.source for schema in arguments.schemas)
    return ArgumentList(sources, arguments.optional)


def _distinct(lists: list[ArgumentList]) -> Iterator[ArgumentList]:
    for index, each in enumerate(lists):
        if each not in lists[:index]:
            yield each
