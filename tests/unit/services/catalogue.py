"""Event catalogues for the tests of client events, and a backend without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.errors import ClientEventRejected
from gateway.domain.event_catalogue import (
    Allow,
    AllowKind,
    ClientEvent,
    Emission,
    EventCatalogue,
    Glob,
    NamespaceEvents,
    RoomRule,
    Target,
    TargetKind,
)
from gateway.domain.templates import ArrayTemplate, Literal, ObjectTemplate, Reference, Template
from gateway.domain.webhooks import Delivery, DeliveryOutcome, Webhook, WebhookAnswer, WebhookEvent

ANYONE = Allow(AllowKind.ANYONE)
MEMBERS = Allow(AllowKind.MEMBERS)
SELF = Target(TargetKind.SELF)
OTHERS = Target(TargetKind.OTHERS)
EVERYONE = Target(TargetKind.EVERYONE)


def ask(webhook: str = "app") -> Allow:
    return Allow(AllowKind.CALL, webhook=webhook)


def rule(pattern: str, *, join: Allow | None = None, send: Allow | None = None) -> RoomRule:
    never = Allow(AllowKind.NEVER)
    return RoomRule(Glob(pattern), join or never, send or never)


def template(value: Any) -> Template:
    """Return the template that a YAML value stands for, as far as the tests need it."""
    if isinstance(value, str) and value.startswith("$"):
        root, *path = value[1:].split(".")
        return Reference(root, tuple(path))
    if isinstance(value, dict):
        return ObjectTemplate(tuple((name, template(each)) for name, each in value.items()))
    if isinstance(value, list):
        return ArrayTemplate(tuple(map(template, value)))
    return Literal(value)


def to(kind: str, value: Any) -> Target:
    kinds = {"room": TargetKind.ROOMS, "user": TargetKind.USERS, "sid": TargetKind.SIDS}
    return Target(kinds[kind], template(value))


def emit(*targets: Target, event: str = "message", data: Any = "$0", except_self: bool = False) -> Emission:
    return Emission(targets, event, (template(data),), except_self=except_self)


def entry(name: str, **fields: Any) -> ClientEvent:
    """Return an entry; ``join``, ``leave``, ``ack`` and ``dedupe`` are written as in YAML."""
    for member in ("join", "leave", "ack", "dedupe"):
        if member in fields:
            fields[member] = template(fields[member])
    return ClientEvent(name=name, **fields)


def catalogue(*entries: ClientEvent, rules: tuple[RoomRule, ...] = (), **fields: Any) -> EventCatalogue:
    """Return a catalogue of the main namespace."""
    exact = {each.name: each for each in entries if not each.name.endswith("*")}
    patterns = tuple(each for each in entries if each.name.endswith("*"))
    namespace = NamespaceEvents(rooms=rules, client_events=exact, patterns=patterns, **fields)
    return EventCatalogue({"/": namespace})


@dataclass(slots=True)
class RecordingWebhooks:
    """Answers calls at once, or once ``gate`` is set. It fakes only the network."""

    answer: Callable[[Mapping[str, object]], WebhookAnswer] = lambda _: WebhookAnswer()
    allowed: set[str] = field(default_factory=set)
    calls: list[tuple[str, str, Mapping[str, object]]] = field(default_factory=list)
    """Id, type and data of each event."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    error: ClientEventRejected | None = None
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    delivered: list[tuple[str, WebhookEvent]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    async def call(
        self,
        webhook: str,
        *,
        event_id: str,
        event_type: str,
        data: Mapping[str, object],
        is_wanted: Callable[[], bool],
    ) -> WebhookAnswer:
        self.calls.append((event_id, event_type, data))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.answer(data)

    def may(self, webhook: str, scope: str, target: str | None) -> bool:
        if target is None:
            return any(each.split(" ")[:2] == [webhook, scope] for each in self.allowed)
        return f"{webhook} {scope} {target}".strip() in self.allowed

    async def deliver(
        self, webhook: str, events: Sequence[WebhookEvent], *, is_wanted: Callable[[], bool] = lambda: True
    ) -> Delivery:
        self.delivered += [(webhook, event) for event in events]
        return Delivery(DeliveryOutcome.ACCEPTED, 204)

    def configured(self) -> Mapping[str, Webhook]:
        return self.webhooks
