"""What a client event may do, and whom its messages are for. Pure: an event and the catalogue in, decisions out."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple, NoReturn

from gateway.domain.attachments import with_base64
from gateway.domain.errors import ClientEventRejected, InvalidName
from gateway.domain.event_catalogue import (
    NEVER,
    RESERVED_PREFIXES,
    SID_MARK,
    Allow,
    AllowKind,
    Arguments,
    ClientEvent,
    Emission,
    NamespaceEvents,
    Schema,
    Target,
    TargetKind,
)
from gateway.domain.messages import Message
from gateway.domain.names import check_room, check_user, user_room
from gateway.domain.templates import MISSING, EventContext, Template
from gateway.hub import Connection
from gateway.services.client_events.buffers import check_buffers, encode_arguments

MAX_ADDRESSES: Final = 100
"""Rooms, users and sids that one emission may name, and rooms that one event may join or leave."""
MAX_ASKS: Final = 8
"""Rooms of one event whose rule calls a webhook: the calls are made one after the other."""
MAX_DEPTH: Final = 64
_MAX_PROBLEMS: Final = 5
_MAX_INTEGER: Final = 2**64 - 1
_MIN_INTEGER: Final = -(2**63)
_SID_CHARACTERS: Final = 21


class Recipients(NamedTuple):
    """Whom a message is for. ``others``: the rooms that the event joins or leaves, beside ``rooms``."""

    rooms: tuple[str, ...] = ()
    everyone: bool = False
    others: bool = False
    without_sender: bool = False


class PlannedMessage(NamedTuple):
    """A message that was checked and rendered; its recipients are known once rooms were joined or left."""

    id: str
    recipients: Recipients
    event: str
    arguments: tuple[str, ...]
    volatile: bool = False
    attachments: tuple[str, ...] = ()

    def for_rooms(self, connection: Connection, changed: Sequence[str]) -> Message | None:
        """Return the message once the rooms in ``changed`` were joined or left; None if it is for no room."""
        recipients = self.recipients
        others = changed if recipients.others else ()
        rooms = () if recipients.everyone else tuple(dict.fromkeys((*recipients.rooms, *others)))
        if not rooms and not recipients.everyone:
            return None
        exclude = frozenset((connection.sid,)) if recipients.without_sender else frozenset()
        return Message(
            self.id,
            connection.namespace,
            rooms,
            self.event,
            self.arguments,
            exclude,
            self.volatile,
            attachments=self.attachments,
        )


class Plan(NamedTuple):
    """What a checked event does.

    ``asks`` are the rooms to join whose rule asks a webhook, with that webhook. ``named`` are the rooms that the event
    names to join or leave, also those that it does not change. ``changed_before`` are those of them that an attempt
    of the same event changed without a known outcome: ``others`` includes them once more.
    """

    join: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    asks: tuple[tuple[str, str], ...] = ()
    messages: tuple[PlannedMessage, ...] = ()
    named: tuple[str, ...] = ()
    changed_before: tuple[str, ...] = ()


def plan(
    entry: ClientEvent,
    namespace: NamespaceEvents,
    connection: Connection,
    context: EventContext,
    *,
    reserved: tuple[str, ...] = RESERVED_PREFIXES,
) -> Plan:
    """Return what an event does whose arguments were checked; no client joins a room with a ``reserved`` prefix.

    Raises: ClientEventRejected when it names no valid room, or one that the client has no right to.
    """
    # A room that the client is in changes nothing and needs no right. It is left out, because the client may lose it
    # before it would be joined.
    named = _named_rooms(entry.join, "join", context)
    join = tuple([room for room in named if room not in connection.rooms])
    leave = _named_rooms(entry.leave, "leave", context)
    asks = _check_joins(namespace, connection, join, reserved)
    _check_leaves(connection, leave)
    emissions = plan_emissions(entry.emit, namespace, connection, context, joining=join)
    return Plan(join, leave, asks, emissions, named or leave)


def plan_emissions(
    emissions: Sequence[Emission],
    namespace: NamespaceEvents,
    connection: Connection,
    context: EventContext,
    *,
    joining: Collection[str] = (),
) -> tuple[PlannedMessage, ...]:
    """Render emissions; ``joining`` are rooms that count as the sender's already.

    Raises: ClientEventRejected, as ``plan`` does.
    """
    members = connection.rooms.union(joining) if joining else connection.rooms
    return tuple(
        [
            _rendered(
                emission,
                f"{context.id}-{number}",
                recipients_of(emission, namespace, connection, members, context),
                context,
            )
            for number, emission in enumerate(emissions)
        ]
    )


def _rendered(emission: Emission, id_: str, recipients: Recipients, context: EventContext) -> PlannedMessage:
    values = [_present(each.render(context)) for each in emission.arguments]
    arguments, attachments = encode_arguments(values)
    return PlannedMessage(id_, recipients, emission.event, arguments, emission.volatile, attachments)


def recipients_of(
    emission: Emission,
    namespace: NamespaceEvents,
    connection: Connection,
    members: Collection[str],
    context: EventContext,
) -> Recipients:
    """Return the recipients of an emission; ``members`` are the rooms that the sender is in.

    Addresses of no valid form are skipped.

    Raises: ClientEventRejected: none is valid, or the client may not send to one.
    """
    # Kinds are compared by identity: the hash of an enum member is a call of Python.
    everyone = others = to_self = to_own_rooms = False
    rooms: list[str] = []
    for target in emission.to:
        kind = target.kind
        if kind is TargetKind.SELF:
            to_self = True
            rooms.append(connection.sid)
        elif kind is TargetKind.EVERYONE:
            everyone = True
            _check_allowed(namespace.broadcast, "", members)
        elif kind is TargetKind.OTHERS:
            others = True
        elif kind is TargetKind.OWN_ROOMS and target.glob is not None:
            to_own_rooms = True
            glob = target.glob
            rooms += sorted(room for room in members if room != connection.sid and glob.matches(room))
        elif target.names is not None:
            rooms += _addressed(target, context)
    if not (rooms or everyone or others or to_own_rooms):
        _invalid("no address of an emission is valid")
    if len(rooms) > MAX_ADDRESSES:
        _invalid(f"an emission has more than {MAX_ADDRESSES} addresses")
    unique = tuple(dict.fromkeys(rooms))
    checked = _to_check(emission.to, unique, connection.sid, members) if to_self or to_own_rooms else unique
    for room in checked:
        rule = namespace.rule_for(room)
        _check_allowed(NEVER if rule is None else rule.send, room, members)
    return Recipients(unique, everyone, others, emission.except_self or (others and not to_self))


def check_arguments(expected: Arguments, arguments: Sequence[object], *, are_plain: bool = False) -> None:
    """Check the arguments of an event. ``are_plain``: they pass ``check_values``, and hold no buffer.

    Schemas see a buffer as its base64.

    Raises: ClientEventRejected (``invalid_payload``) that names paths and keywords, never values.
    """
    if not are_plain and check_values(arguments):
        arguments = with_base64(arguments, "", [])
    schemas = expected.schemas
    if schemas is None:
        return
    if not len(schemas) - expected.optional <= len(arguments) <= len(schemas):
        least = len(schemas) - expected.optional
        takes = str(least) if least == len(schemas) else f"{least} to {len(schemas)}"
        _invalid(f"the event takes {takes} arguments, not {len(arguments)}")
    for schema, argument in zip(schemas, arguments, strict=False):
        if schema is not None and not schema.accepts(argument):
            _invalid("; ".join(_problems(schemas, arguments)[:_MAX_PROBLEMS]))


def check_values(values: Sequence[object]) -> list[bytes]:
    """Check that values are JSON which every backend and client can read, or buffers; return the buffers.

    That is JSON without NaN, infinity, integers over 64 bits and lone surrogates, and of MAX_DEPTH levels.

    Raises: ClientEventRejected (``invalid_payload``).
    """
    buffers: list[bytes] = []
    for index, value in enumerate(values):
        _check_value(value, f"${index}", 1, buffers)
    if buffers:
        check_buffers(values, buffers)
    return buffers


def check_rights(entry: ClientEvent, rooms: Iterable[str]) -> None:
    """Check that an entry rejects no event, and that the client is in one of the rooms that it is for.

    Raises: ClientEventRejected (``rejected``, ``not_allowed``).
    """
    if entry.reject is not None:
        raise ClientEventRejected("rejected", entry.reject)
    if entry.allow is not None and not any(glob.matches(room) for room in rooms for glob in entry.allow):
        raise ClientEventRejected("not_allowed", "this client may not send the event")


def _present(value: object) -> object:
    return None if value is MISSING else value


def _named_rooms(template: Template | None, member: str, context: EventContext) -> tuple[str, ...]:
    """Return the valid rooms that ``join`` or ``leave`` names."""
    if template is None:
        return ()
    value = template.render(context)
    named = value if isinstance(value, list) else [value]
    rooms = tuple(dict.fromkeys(room for each in named if (room := _room(each)) is not None))
    if not rooms:
        _invalid(f"{member} names no valid room")
    if len(rooms) > MAX_ADDRESSES:
        _invalid(f"{member} names more than {MAX_ADDRESSES} rooms")
    return rooms


def _check_joins(
    namespace: NamespaceEvents, connection: Connection, rooms: Sequence[str], reserved: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """Return the rooms whose rule asks a webhook, with it."""
    asks = []
    for room in rooms:
        if room.startswith(reserved):
            raise ClientEventRejected("not_allowed", "a room with a reserved prefix is not joined by asking")
        rule = namespace.rule_for(room)
        allow = rule.join if rule is not None else Allow(AllowKind.NEVER)
        if allow.kind is AllowKind.CALL:
            asks.append((room, allow.webhook))
        else:
            _check_allowed(allow, room, connection.rooms)
    if len(asks) > MAX_ASKS:
        _invalid(f"an event joins at most {MAX_ASKS} rooms whose rule calls a webhook")
    return tuple(asks)


def _check_leaves(connection: Connection, rooms: Sequence[str]) -> None:
    for room in rooms:
        if room == connection.sid or room in connection.identity.rooms:
            raise ClientEventRejected("not_allowed", "a room that the token grants cannot be left")


def _check_allowed(allow: Allow, room: str, members: Collection[str]) -> None:
    if allow.kind is AllowKind.ANYONE:
        return
    if allow.kind is AllowKind.MEMBERS:
        if room not in members:
            raise ClientEventRejected("not_a_member", "the client is not in the room")
        return
    if allow.kind is AllowKind.ROOMS and any(
        glob.matches(member) for member in members for glob in allow.rooms
    ):
        return
    raise ClientEventRejected("not_allowed", "no rule of the event catalogue allows this")


def _addressed(target: Target, context: EventContext) -> list[str]:
    """Return the rooms of the valid addresses that a target names."""
    value = target.names.render(context) if target.names is not None else MISSING
    named = value if isinstance(value, list) else [value]
    kind = target.kind
    read = _room if kind is TargetKind.ROOMS else _user if kind is TargetKind.USERS else _sid
    return [room for each in named if (room := read(each)) is not None]


def _to_check(
    targets: Sequence[Target], rooms: Sequence[str], sid: str, members: Collection[str]
) -> Iterable[str]:
    """Return the rooms that need a right to send: not the sender's own, which SELF and OWN_ROOMS name.

    ``rooms`` holds each once.
    """
    own: set[str] = set()
    for target in targets:
        if target.kind is TargetKind.SELF:
            own.add(sid)
        elif target.kind is TargetKind.OWN_ROOMS and target.glob is not None:
            own.update(room for room in members if target.glob.matches(room))
    return [room for room in rooms if room not in own]


def _room(value: object) -> str | None:
    try:
        return check_room(value) if isinstance(value, str) else None
    except InvalidName:
        return None


def _user(value: object) -> str | None:
    # As in a token: an integer stands for its decimal text.
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    try:
        return user_room(check_user(text)) if isinstance(text, str) else None
    except InvalidName:
        return None


def _sid(value: object) -> str | None:
    room = _room(value)
    is_sid = room is not None and room.startswith(SID_MARK) and len(room) == _SID_CHARACTERS
    return room if is_sid else None


def _problems(schemas: Sequence[Schema | None], arguments: Sequence[object]) -> list[str]:
    return [
        f"${index}{'.' if path else ''}{path}: {sentence}"
        for index, (schema, argument) in enumerate(zip(schemas, arguments, strict=False))
        if schema is not None
        for path, sentence in schema.problems(argument).items()
    ]


def _check_value(value: object, path: str, depth: int, buffers: list[bytes]) -> None:
    if isinstance(value, str):
        if not value.isascii():
            _check_text(value, path)
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            _invalid(f"{path}: it is nested deeper than {MAX_DEPTH}")
        items: Iterable[object] = value
        if isinstance(value, dict):
            items = (*value, *value.values())
        for item in items:
            _check_value(item, path, depth + 1, buffers)
    elif isinstance(value, bytes):
        buffers.append(value)
    elif isinstance(value, float) and not math.isfinite(value):
        _invalid(f"{path}: NaN and Infinity are not JSON")
    elif isinstance(value, int) and not _MIN_INTEGER <= value <= _MAX_INTEGER:
        _invalid(f"{path}: an integer has more than 64 bits")


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        _invalid(f"{path}: a text holds a lone surrogate")


def _invalid(message: str) -> NoReturn:
    raise ClientEventRejected("invalid_payload", message)
