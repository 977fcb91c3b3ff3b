"""Warnings about a catalogue without mistakes: what is allowed and seldom meant."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.domain.event_catalogue import (
    RESERVED_PREFIXES,
    AllowKind,
    ClientEvent,
    Emission,
    EventCatalogue,
    Glob,
    NamespaceEvents,
    PresenceNotices,
    TargetKind,
)
from gateway.domain.templates import ArrayTemplate, ObjectTemplate, Reference, Template

_TRUSTED_ROOTS = frozenset({"sid", "user", "sub", "email"})
"""References that a client cannot choose."""


def warnings(catalogue: EventCatalogue) -> list[str]:
    """Return sentences, each with the path of what it is about, in the order of the file."""
    found: list[str] = []
    if catalogue.presence is not None:
        found.extend(f"presence{sentence}" for sentence in _of_presence(catalogue.presence))
    for name, namespace in catalogue.namespaces.items():
        path = f"namespaces.{name}"
        found.extend(f"{path}.rooms.{sentence}" for sentence in _of_rules(namespace))
        for entry in (*namespace.client_events.values(), *namespace.patterns):
            found.extend(f"{path}.client_events.{entry.name}.emit.{each}" for each in _of_entry(entry))
        if namespace.online_users is not None and "email" in _roots(namespace.online_users.each):
            found.append(
                f"{path}.online_users.each: every client of the namespace gets the e-mail addresses of all others"
            )
    return found


def _of_presence(presence: PresenceNotices) -> Iterator[str]:
    if presence.rules is None:
        yield ": it has neither notify nor announce, so that no side is notified"
    for index, announcement in enumerate(presence.announce):
        to = announcement.to
        if any(target.kind is TargetKind.EVERYONE for target in to):
            yield f".announce.{index}.to: every client of the namespace is notified of every user"
        elif not announcement.when_online and all(target.names == Reference("user") for target in to):
            yield f".announce.{index}.to: a user who is offline has no connection that could get it"


def _of_rules(namespace: NamespaceEvents) -> Iterator[str]:
    for index, rule in enumerate(namespace.rooms):
        if rule.join.kind is AllowKind.ANYONE and rule.match.pattern == "*":
            yield f"{index}.join: any client may join every room but those with a reserved prefix"
        earlier = next(
            (
                place
                for place, other in enumerate(namespace.rooms[:index])
                if _covers(other.match, rule.match)
            ),
            None,
        )
        if earlier is not None:
            yield f"{index}.match: the rule is never reached, because rule {earlier} matches all its rooms"


def _covers(general: Glob, special: Glob) -> bool:
    """Return whether one glob matches every room that the other one matches."""
    pattern = special.pattern
    reserved = next((prefix for prefix in RESERVED_PREFIXES if pattern.startswith(prefix)), None)
    if reserved is not None and not general.pattern.startswith(reserved):
        return False
    if general.pattern == pattern:
        return True
    prefix = general.pattern.removesuffix("*")
    return general.pattern.endswith("*") and "*" not in prefix and pattern.startswith(prefix)


def _of_entry(entry: ClientEvent) -> Iterator[str]:
    if entry.call is not None:
        return  # the webhook sees the sender
    for index, emission in enumerate(entry.emit):
        if _reaches_others(emission) and _is_forgeable(emission):
            yield (
                f"{index}: others get data of the client alone and cannot know the sender; add $user or $sid to it"
            )


def _reaches_others(emission: Emission) -> bool:
    return any(target.kind is not TargetKind.SELF for target in emission.to)


def _is_forgeable(emission: Emission) -> bool:
    roots = {root for template in emission.arguments for root in _roots(template)}
    return any(root.isdigit() for root in roots) and not roots & _TRUSTED_ROOTS


def _roots(template: Template) -> Iterator[str]:
    match template:
        case Reference(root):
            yield root
        case ObjectTemplate(members):
            for _, member in members:
                yield from _roots(member)
        case ArrayTemplate(items):
            for item in items:
                yield from _roots(item)
        case _:
            return
