"""Announcements of online and offline users, and lists of online users."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from gateway.domain.event_catalogue import (
    SID_MARK,
    Announcement,
    OnlineUsers,
    PresenceNotices,
    Target,
    TargetKind,
)
from gateway.domain.names import check_event
from gateway.domain.templates import Literal, Reference
from gateway.events.emissions import MAX_TARGETS, read_arguments, read_named_target, read_targets
from gateway.events.mistakes import Part
from gateway.events.rules import check_known_namespace, read_webhook
from gateway.events.templates import Scope, read_template

MAX_ANNOUNCEMENTS: Final = 100
MAX_OFFLINE_AFTER_SECONDS: Final = 3_600
MAX_LISTED_USERS: Final = 1_000
MAX_EVERY_SECONDS: Final = 3_600
MAX_EACH_BYTES: Final = 1_024
"""What ``each`` takes as JSON. The list holds it up to MAX_LISTED_USERS times."""
CHANGE_SCOPE: Final = Scope(0, roots=("user", "now", "id", "version", "since"))
CONNECTION_SCOPE: Final = Scope(0, roots=("sid", "user", "sub", "email"))
_KEYS: Final = ("offline_after_seconds", "notify", "announce")
_ANNOUNCEMENT_KEYS: Final = ("when", "namespace", "to", "event", "data", "args")
_LIST_KEYS: Final = ("event", "each", "every_seconds", "max")
_NAMED: Final = ("own_rooms", "room", "rooms", "user")
_EVERYONE: Final = "everyone"
_ONLINE: Final = "online"
_OFFLINE: Final = "offline"


@dataclass(frozen=True, slots=True)
class AnnouncementReader:
    """Reads announcements. ``namespaces`` are the configured ones; None: it is not known which are."""

    namespaces: Collection[str] | None
    claim_prefixes: tuple[str, ...]

    def read(self, part: Part) -> tuple[Announcement, ...]:
        """Return the announcements, in the order of the file."""
        items = part.items()
        if len(items) > MAX_ANNOUNCEMENTS:
            part.error(f"has {len(items)} announcements; at most {MAX_ANNOUNCEMENTS} are possible")
            return ()
        read = (self._read_one(item) for item in items)
        return tuple(announcement for announcement in read if announcement is not None)

    def _read_one(self, part: Part) -> Announcement | None:
        fields = part.fields(_ANNOUNCEMENT_KEYS)
        _require(part, fields, ("when", "namespace", "to", "event"))
        when = fields["when"].one_of((_ONLINE, _OFFLINE)) if "when" in fields else None
        namespace = fields["namespace"].text() if "namespace" in fields else None
        if namespace is not None:
            check_known_namespace(namespace, fields["namespace"], self.namespaces)
        targets = _read_recipients(fields["to"]) if "to" in fields else ()
        event = fields["event"].name(check_event) if "event" in fields else None
        arguments = read_arguments(fields, CHANGE_SCOPE)
        if when is None or namespace is None or event is None:
            return None
        return Announcement(when == _ONLINE, namespace, targets, event, arguments, self.claim_prefixes)


def read_presence(
    part: Part, announcements: AnnouncementReader, webhooks: Collection[str] | None
) -> PresenceNotices:
    """Return what happens when users become online or offline."""
    fields = part.fields(_KEYS)
    default = PresenceNotices()
    seconds = _seconds(fields.get("offline_after_seconds"), 0, MAX_OFFLINE_AFTER_SECONDS)
    return PresenceNotices(
        offline_after_seconds=default.offline_after_seconds if seconds is None else seconds,
        notify=read_webhook(fields["notify"], webhooks) if "notify" in fields else None,
        announce=announcements.read(fields["announce"]) if "announce" in fields else (),
    )


def read_online_users(part: Part) -> OnlineUsers | None:
    """Return the list of the connections of a namespace; None if it has no event or no entries."""
    fields = part.fields(_LIST_KEYS)
    _require(part, fields, ("event", "each"))
    event = fields["event"].name(check_event) if "event" in fields else None
    seconds = _seconds(fields.get("every_seconds"), 1, MAX_EVERY_SECONDS)
    most = fields["max"].integer(1, MAX_LISTED_USERS) if "max" in fields else None
    if "each" not in fields:
        return None
    each = read_template(fields["each"], CONNECTION_SCOPE)
    if len(json.dumps(fields["each"].plain())) > MAX_EACH_BYTES:
        fields["each"].error(f"is larger than {MAX_EACH_BYTES:,} bytes as JSON")
    if event is None:
        return None
    return OnlineUsers(event, each, seconds or 1.0, most or MAX_LISTED_USERS)


def _read_recipients(part: Part) -> tuple[Target, ...]:
    targets = read_targets(part, _read_target)
    rooms = sum(_count_rooms(target) for target in targets)
    if rooms > MAX_TARGETS:
        part.error(f"names {rooms} rooms; at most {MAX_TARGETS} are possible")
    return targets


def _read_target(part: Part) -> Target | None:
    if not part.is_mapping:
        if part.value == _EVERYONE:
            return Target(TargetKind.EVERYONE)
        part.error(f"is neither {_EVERYONE} nor a mapping with one of {', '.join(_NAMED)}")
        return None
    target = read_named_target(part, CHANGE_SCOPE, _NAMED)
    if target is None:
        return None
    if target.glob is not None:
        if target.glob.pattern.startswith(SID_MARK):
            part.error("rooms of sids are not known here; use {user: $user}")
    elif target.kind is TargetKind.USERS:
        if not isinstance(target.names, Literal) and target.names != Reference("user"):
            part.error("user is a user id or $user")
    elif not isinstance(target.names, Literal):
        part.error("a room is named by a text without a reference; own_rooms are those of the user")
    return target


def _count_rooms(target: Target) -> int:
    names = target.names.value if isinstance(target.names, Literal) else None
    return len(names) if isinstance(names, list) else 1


def _seconds(part: Part | None, least: int, most: int) -> float | None:
    if part is None:
        return None
    seconds = part.number()
    if seconds is not None and not least <= seconds <= most:
        part.error(f"is not a number of seconds from {least} to {most:,}")
        return None
    return seconds


def _require(part: Part, fields: Collection[str], names: Collection[str]) -> None:
    for name in names:
        if part.is_mapping and name not in fields:
            part.error(f"has no {name}")
