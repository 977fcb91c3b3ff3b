"""The event catalogue: what clients may send, what the gateway does then, and what clients get.

``gateway.events`` reads them from a file. What the catalogue does not name is rejected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Final, Protocol

from gateway.domain.messages import Message
from gateway.domain.names import user_room
from gateway.domain.presence import PresenceChange, PresenceConsumer, PresenceRules, UserList
from gateway.domain.templates import (
    ChangeContext,
    ConnectionContext,
    Literal,
    Template,
    render_json,
)

SID_MARK: Final = "~"
"""The first character of a sid. No client joins such a room, and no claim grants one."""
CLAIM_PREFIXES: Final = ("user:", "org:", "tenant:", "role:")
"""What the names of the rooms of claims begin with."""
RESERVED_PREFIXES: Final = (*CLAIM_PREFIXES, SID_MARK)
"""Rooms with these prefixes are never joined by asking; only a rule whose glob begins so lets clients send to them."""

MAX_LIST_BYTES: Final = 256 * 1024
"""The size of a list of online users, as JSON. Every client of the namespace gets it whenever it changed."""


class Schema(Protocol):
    """A compiled JSON Schema, with its source."""

    @property
    def source(self) -> Mapping[str, object] | bool:
        """The schema as the catalogue has it."""
        ...

    def accepts(self, value: object) -> bool:
        """Return whether a value is valid. It holds no other values than JSON, and at most 64 levels."""
        ...

    def problems(self, value: object) -> Mapping[str, str]:
        """Return sentences by path (``text``, ``items.0``, or empty for the value itself); empty when it is valid.

        Sentences name paths and keywords of the schema, never values.
        """
        ...


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of an event: exactly so many, of which the last ``optional`` may be absent.

    ``schemas`` None: any number of any arguments. A schema None: any value.
    """

    schemas: tuple[Schema | None, ...] | None = None
    optional: int = 0


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern of room names: ``*`` stands for any text, every other character for itself.

    A glob matches a name with a reserved prefix only if the glob begins with that prefix.
    """

    pattern: str

    def matches(self, room: str) -> bool:
        """Return whether the pattern matches a room name."""
        if room.startswith(RESERVED_PREFIXES):
            for prefix in RESERVED_PREFIXES:
                if room.startswith(prefix) and not self.pattern.startswith(prefix):
                    return False
        return _matches(self.pattern, room)


class AllowKind(Enum):
    """Which clients may do something: none, any, members of the room or of one of some rooms, or as a call answers."""

    NEVER = "never"
    ANYONE = "anyone"
    MEMBERS = "members"
    ROOMS = "rooms"
    CALL = "call"


@dataclass(frozen=True, slots=True)
class Allow:
    """Who may join, send or broadcast. ``rooms`` only with ROOMS, ``webhook`` only with CALL."""

    kind: AllowKind
    rooms: tuple[Glob, ...] = ()
    webhook: str = ""


NEVER: Final = Allow(AllowKind.NEVER)


@dataclass(frozen=True, slots=True)
class RoomRule:
    """What clients may do with the rooms that ``match`` matches. The first rule that matches decides."""

    match: Glob
    join: Allow = NEVER
    send: Allow = NEVER
    list_members: bool = False


class TargetKind(Enum):
    """The recipients of an emission.

    SELF: the sender. OTHERS: the room that the event joined or left, without the sender. EVERYONE: the namespace.
    ROOMS, USERS, SIDS: names that a template renders, one or a list. OWN_ROOMS: rooms of the sender that match a glob.
    """

    SELF = "self"
    OTHERS = "others"
    EVERYONE = "everyone"
    ROOMS = "rooms"
    USERS = "users"
    SIDS = "sids"
    OWN_ROOMS = "own_rooms"


@dataclass(frozen=True, slots=True)
class Target:
    """A part of the recipients. ``names`` with ROOMS, USERS and SIDS; ``glob`` with OWN_ROOMS."""

    kind: TargetKind
    names: Template | None = None
    glob: Glob | None = None


@dataclass(frozen=True, slots=True)
class Emission:
    """One message that a client event causes; each connection gets it once, however many targets it is in."""

    to: tuple[Target, ...]
    event: str
    arguments: tuple[Template, ...] = ()
    except_self: bool = False
    volatile: bool = False


@dataclass(frozen=True, slots=True)
class OnError:
    """What a client gets after a failure: ``emit`` instead of the error event, ``ack`` instead of the standard ack."""

    emit: tuple[Emission, ...] = ()
    ack: Template | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientEvent:
    """One entry of ``client_events``. ``name`` may end in ``*``.

    ``rate`` is in events per second and connection (burst: two seconds), ``user_rate`` per second and user over all
    replicas; None means off. ``call`` and ``notify`` name a webhook, at most one of the two. ``reject`` is the sentence
    that the client gets. ``ack`` None: the acknowledgement has no argument, or what the call answered.
    """

    name: str
    args: Arguments = field(default_factory=Arguments)
    returns: Schema | None = None
    allow: tuple[Glob, ...] | None = None
    rate: float | None = None
    user_rate: float | None = None
    dedupe: Template | None = None
    serial: bool = False
    call: str | None = None
    notify: str | None = None
    reject: str | None = None
    join: Template | None = None
    leave: Template | None = None
    emit: tuple[Emission, ...] = ()
    ack: Template | None = None
    on_error: OnError = field(default_factory=OnError)
    only_answers: bool = field(init=False, repr=False, compare=False)
    """Whether the event has no effect but its acknowledgement, so that it waits for nothing."""

    def __post_init__(self) -> None:
        effects = (self.user_rate, self.dedupe, self.call, self.notify, self.join, self.leave)
        only_answers = not self.emit and all(effect is None for effect in effects)
        object.__setattr__(self, "only_answers", only_answers)  # The class is frozen.


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event that clients get, described."""

    name: str
    args: Arguments


@dataclass(frozen=True, slots=True)
class OnlineUsers:
    """The list of the connections of a namespace that clients get as ``event``, when it changed.

    ``each`` renders the entry of one connection. At most ``max_entries`` of together MAX_LIST_BYTES are sent; if there
    are more, a second argument shows it.
    """

    event: str
    each: Template
    every_seconds: float = 1.0
    max_entries: int = 1_000

    def entry(self, context: ConnectionContext) -> str:
        """Return the entry of a connection as JSON text."""
        return render_json(self.each, context)

    def arguments(self, users: UserList) -> tuple[str, ...]:
        """Return the arguments of the event, as JSON texts."""
        sizes = accumulate(len(entry) + 1 for entry in users.entries[: self.max_entries])
        count = sum(1 for size in sizes if size <= MAX_LIST_BYTES)
        entries = users.entries[:count]
        listed = f"[{','.join(entries)}]"
        return (listed,) if users.total <= len(entries) else (listed, '{"truncated":true}')


@dataclass(frozen=True, slots=True)
class Announcement:
    """A message to clients of ``namespace`` when a user becomes online or offline.

    ``to`` holds ROOMS with literal names, USERS with a literal name or ``$user``, OWN_ROOMS (rooms of the connections
    since the user is online) or EVERYONE. OWN_ROOMS are those in the namespace, and those of claims in all namespaces
    (``claim_prefixes`` begin their names): they are the same in each, and the user may have connected to another one
    first. References in templates: those of ChangeContext.
    """

    when_online: bool
    namespace: str
    to: tuple[Target, ...]
    event: str
    arguments: tuple[Template, ...] = ()
    claim_prefixes: tuple[str, ...] = CLAIM_PREFIXES

    def message(self, change: PresenceChange, *, message_id: str, time: float) -> Message | None:
        """Return the message about a change, at a time in seconds since 1970; None if it is for no client."""
        if change.is_online is not self.when_online:
            return None
        rooms = () if self._is_for_everyone else tuple(dict.fromkeys(self._rooms(change)))
        if not rooms and not self._is_for_everyone:
            return None
        context = ChangeContext(change.user, change.version, change.since, message_id, time)
        arguments = tuple(render_json(template, context) for template in self.arguments)
        return Message(message_id, self.namespace, rooms, self.event, arguments)

    @property
    def _is_for_everyone(self) -> bool:
        return any(target.kind is TargetKind.EVERYONE for target in self.to)

    def _rooms(self, change: PresenceChange) -> Iterator[str]:
        own = {
            room
            for namespace, room in change.addresses
            if room is not None and (namespace == self.namespace or room.startswith(self.claim_prefixes))
        }
        for target in self.to:
            if target.glob is not None:
                yield from sorted(room for room in own if target.glob.matches(room))
            elif target.kind is TargetKind.USERS:
                yield user_room(str(target.names.value) if isinstance(target.names, Literal) else change.user)
            elif isinstance(target.names, Literal):
                names = target.names.value
                yield from names if isinstance(names, list) else [str(names)]


@dataclass(frozen=True, slots=True)
class PresenceNotices:
    """What happens when users become online or offline. ``notify`` names a webhook."""

    offline_after_seconds: float = 10.0
    notify: str | None = None
    announce: tuple[Announcement, ...] = ()

    @property
    def rules(self) -> PresenceRules | None:
        """The rules of the state; None if no side is notified."""
        consumers = frozenset(
            consumer
            for consumer, is_notified in (
                (PresenceConsumer.WEBHOOK, self.notify is not None),
                (PresenceConsumer.CLIENTS, bool(self.announce)),
            )
            if is_notified
        )
        return PresenceRules(self.offline_after_seconds, consumers) if consumers else None


@dataclass(frozen=True, kw_only=True, slots=True)
class NamespaceEvents:
    """The catalogue of one namespace. ``patterns`` are the client events whose name ends in ``*``, longest first."""

    error_event: str = "error"
    rooms: tuple[RoomRule, ...] = ()
    broadcast: Allow = NEVER
    client_events: Mapping[str, ClientEvent] = field(default_factory=dict)
    patterns: tuple[ClientEvent, ...] = ()
    server_events: Mapping[str, ServerEvent] = field(default_factory=dict)
    allows_undescribed_pushes: bool = True
    online_users: OnlineUsers | None = None

    def client_event(self, name: str) -> ClientEvent | None:
        """Return the entry for an event: the exact one, else the longest pattern that matches."""
        exact = self.client_events.get(name)
        if exact is not None:
            return exact
        return next((each for each in self.patterns if name.startswith(each.name[:-1])), None)

    def rule_for(self, room: str) -> RoomRule | None:
        """Return the first rule that matches a room."""
        for rule in self.rooms:
            if rule.match.matches(room):
                return rule
        return None


@dataclass(frozen=True, slots=True)
class EventCatalogue:
    """The whole catalogue; without a file, an empty one. ``schemas`` are the sources of the named schemas.

    ``presence`` None: no side is notified of the presence of users.
    """

    namespaces: Mapping[str, NamespaceEvents] = field(default_factory=dict)
    schemas: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    presence: PresenceNotices | None = None

    def webhooks(self) -> frozenset[str]:
        """Return the ids of all webhooks that entries and rules name."""
        ids: set[str] = set()
        for namespace in self.namespaces.values():
            entries = [*namespace.client_events.values(), *namespace.patterns]
            ids.update(entry.call for entry in entries if entry.call is not None)
            ids.update(entry.notify for entry in entries if entry.notify is not None)
            ids.update(rule.join.webhook for rule in namespace.rooms if rule.join.kind is AllowKind.CALL)
        if self.presence is not None and self.presence.notify is not None:
            ids.add(self.presence.notify)
        return frozenset(ids)

    def notified_webhooks(self) -> frozenset[str]:
        """Return the ids of the webhooks that client events are queued for."""
        return frozenset(
            entry.notify
            for namespace in self.namespaces.values()
            for entry in (*namespace.client_events.values(), *namespace.patterns)
            if entry.notify is not None
        )


def _matches(pattern: str, text: str) -> bool:
    head, star, tail = pattern.partition("*")
    if not star:
        return pattern == text
    if not tail:  # the usual glob, and this runs for each message to a room
        return text.startswith(head)
    return fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))
