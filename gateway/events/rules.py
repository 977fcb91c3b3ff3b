"""Globs, rules of rooms, who may do something, and names of the settings."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Final

from gateway.domain.event_catalogue import (
    NEVER,
    RESERVED_PREFIXES,
    Allow,
    AllowKind,
    Glob,
    RoomRule,
)
from gateway.domain.names import check_namespace, check_room
from gateway.events.mistakes import Part, listed

MAX_RULES: Final = 1_000
"""Rules of one namespace. Each join reads them in turn."""
_RULE_KEYS = ("match", "join", "send", "list_members")
_WORDS = {"anyone": AllowKind.ANYONE, "members": AllowKind.MEMBERS}


def read_glob(part: Part) -> Glob | None:
    """Return the glob of room names."""
    pattern = part.name(check_room)
    return None if pattern is None else Glob(pattern)


def read_globs(part: Part) -> tuple[Glob, ...]:
    """Return a list of globs that is not empty."""
    items = part.items()
    if part.is_list and not items:
        part.error("is an empty list, which allows no client; leave it out for that")
    return tuple(glob for item in items if (glob := read_glob(item)) is not None)


def read_webhook(part: Part, webhooks: Collection[str] | None) -> str | None:
    """Return the id of a configured webhook. ``webhooks`` None: it is not known which are configured."""
    name = part.text()
    if name is None or webhooks is None or name in webhooks:
        return name
    known = listed(sorted(webhooks)) if webhooks else "none is configured"
    part.error(f"is not the id of a webhook in GATEWAY_WEBHOOKS; {known}")
    return None


def check_known_namespace(name: str, part: Part, known: Collection[str] | None) -> None:
    """Add a mistake unless the name is that of a configured namespace. ``known`` None: it is not known which are."""
    from gateway.domain.errors import InvalidName

    try:
        check_namespace(name)
    except InvalidName as error:
        part.error(error.message)
        return
    if known is not None and name not in known:
        nearest = get_close_matches(name, list(known), n=1)
        advice = f"; did you mean {nearest[0]}?" if nearest else ""
        part.error(f"is not in GATEWAY_NAMESPACES{advice}")


def read_rules(part: Part, webhooks: Collection[str] | None) -> tuple[RoomRule, ...]:
    """Return the rules of a namespace, in the order of the file."""
    items = part.items()
    if len(items) > MAX_RULES:
        part.error(f"has {len(items)} rules; at most {MAX_RULES:,} are possible")
        return ()
    return tuple(rule for item in items if (rule := _read_rule(item, webhooks)) is not None)


def read_broadcast(part: Part) -> Allow:
    """Return who may reach every client of the namespace."""
    if part.value == "members":
        part.error("members belong to a room; use anyone or a list of rooms")
        return NEVER
    return _read_allow(part)


def _read_rule(part: Part, webhooks: Collection[str] | None) -> RoomRule | None:
    fields = part.fields(_RULE_KEYS)
    if "match" not in fields:
        if part.is_mapping:
            part.error("has no match")
        return None
    glob = read_glob(fields["match"])
    join = send = NEVER
    if "join" in fields:
        join = _read_join(fields["join"], webhooks)
        if glob is not None and glob.pattern.startswith(RESERVED_PREFIXES):
            prefixes = " ".join(RESERVED_PREFIXES)
            fields["join"].error(f"no client joins rooms that begin with one of {prefixes}; remove join")
    if "send" in fields:
        send = _read_allow(fields["send"])
    lists = fields["list_members"].boolean() if "list_members" in fields else False
    return None if glob is None else RoomRule(glob, join, send, bool(lists))


def _read_join(part: Part, webhooks: Collection[str] | None) -> Allow:
    if part.is_mapping:
        fields = part.fields(("call",))
        if "call" not in fields:
            part.error("has no call")
            return NEVER
        webhook = read_webhook(fields["call"], webhooks)
        return NEVER if webhook is None else Allow(AllowKind.CALL, webhook=webhook)
    if part.value == "members":
        part.error("members are in the room already; use anyone, a list of rooms or {call: <webhook>}")
        return NEVER
    return _read_allow(part)


def _read_allow(part: Part) -> Allow:
    if part.is_list:
        return Allow(AllowKind.ROOMS, rooms=read_globs(part))
    if part.is_mapping:
        part.error("is a mapping; only join may have {call: <webhook>}")
        return NEVER
    word = part.one_of(tuple(_WORDS))
    return NEVER if word is None else Allow(_WORDS[word])
