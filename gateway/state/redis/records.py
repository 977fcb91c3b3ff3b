"""The bytes of records: the entries of the log, and what else is published on channels.

A record is one entry as text: a format number, a letter, and fields separated by U+001E; lists inside a field are
separated by U+001F. Neither can occur in a JSON text (RFC 8259 §7) nor in a name (``domain.names``). The name of an
event may be anything; it is the one field that is escaped, as JSON, if it has to be.
    5M  Message: id, namespace, flags, rooms, exclude, event, trace, rooms that all have to be in, replica to reply to,
        attachments, how acknowledgements are collected, arguments …
                                                                                   flags: v volatile, j event is JSON,
                                                                                   t… seconds that it is kept
    5K  DisconnectCommand: id, user, namespaces, at, flags, exclude, room, token id, replica to reply to
                                                                                   flags: r revoke
    5J  RoomChange: id, namespace, flags, rooms, changed rooms, exclude, replica to reply to
                                                                                   flags: j join, l leave
    5T  SessionTakeover: id, namespace, sid, owner
    5D  DataChange: id, namespace, sid, version, data
    5L  LossMarker: id
    5N  Pointer to a record that is too large for a channel: id, flags
                                                                                   flags: v volatile, r replies wanted
    5C  Probe: token of the process and number, generation of the log
    5W  QueueWake: webhook, partition
    5R  Reply: id of the entry, replica, content

The number is that of the format. A release reads its own format and the three before, and writes what all living
replicas read. Before format 5 a message ends its fixed fields with the trace, a disconnect command with what it
excludes, and there are no changes of rooms or data: an entry that needs more is not encoded (``FormatTooOld``). The
records of formats 2 and 3 have the same fields. A replica that reads format 3 makes sids that begin with ``~`` and
keeps the rooms that a connection joined (``membership``). One that reads format 4 takes channels from ``RedisKeys``,
and frames of its own log alone (``log_reader``). A trace is a W3C ``traceparent``, or nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from gateway.domain.acks import AckTerms
from gateway.domain.messages import (
    DataChange,
    DisconnectCommand,
    LogEntry,
    Message,
    Reply,
    RoomChange,
    SessionTakeover,
    is_plain,
)
from gateway.domain.positions import Position
from gateway.domain.traces import Trace, format_traceparent, parse_traceparent

FIELD: Final = "\x1e"
ITEM: Final = "\x1f"
MESSAGE_LETTER: Final = "M"
"""Stands behind the number of the format in the record of a message."""
_EMPTY: Final = "="
"""Stands for an attachment without a byte: an empty field has no attachment."""
_PLAIN_FIELDS: Final = 12
"""The fields before the arguments of a message."""
TAGGED_FORMAT: Final = 4
"""From this format on a frame names the generation of its log."""
TILDE_FORMAT: Final = 3
"""Replicas that read this format make sids that begin with ``~``, and keep the rooms that a connection joined."""
REPLY_FORMAT: Final = 5
"""From this format on there are changes of rooms and data, replies, and messages with ``all_of`` or attachments."""


class FormatTooOld(Exception):
    """A living replica reads no record of this entry: it is one of a former release."""


class DecodeError(Exception):
    """The bytes are no record, or one in a format that this release does not read.

    ``position`` and ``generation`` are those of its frame.
    """

    position: Position | None = None
    generation: str = ""


@dataclass(frozen=True, slots=True)
class LossMarker:
    """Stands in the log where a replica found that entries before were lost.

    A release that does not know it reports lost data as well, as for every entry that it cannot read.
    """

    id: str


@dataclass(frozen=True, slots=True)
class Pointer:
    """Stands for an entry that is in the log at the position of its frame, or, if volatile, under its id for 20 s.

    ``wants_replies``: as of the entry.
    """

    id: str
    volatile: bool
    wants_replies: bool = False


@dataclass(frozen=True, slots=True)
class QueueWake:
    """A notification was put into a partition that was empty. Published to the owner of the partition alone."""

    webhook: str
    partition: int


@dataclass(frozen=True, slots=True)
class Probe:
    """A message of a replica to itself. It carries the generation of the log; its frame carries the newest position."""

    generation: str
    token: str


Logged = LogEntry | LossMarker
"""What the log holds."""
Sent = Logged | Pointer | Probe | QueueWake | Reply
Decode = Callable[[list[str]], Sent]
Encode = Callable[[LogEntry], bytes]


def _encode(number: int, entry: LogEntry) -> bytes:
    """Encode an entry in format ``number``.

    Raises: ValueError for a control character that would separate fields; FormatTooOld.
    """
    if (
        isinstance(entry, Message)
        and number >= REPLY_FORMAT
        and is_plain(entry)
        and entry.event.isprintable()
    ):
        return _encode_plain(number, entry)
    fields = _fields(number, entry)
    text = FIELD.join(fields)
    if text.count(FIELD) != len(fields) - 1 or text.count(ITEM) != _items(entry):
        raise ValueError("a name or an argument holds a control character")
    return text.encode()


def _encode_plain(number: int, message: Message) -> bytes:
    """Encode a plain message: the same as ``_encode`` in a third of the time."""
    id_, namespace, rooms, event, arguments = message[:5]
    room = rooms[0] if rooms else ""
    text = f"{number}M\x1e{id_}\x1e{namespace}\x1e\x1e{room}\x1e\x1e{event}\x1e\x1e\x1e\x1e\x1e"
    text = FIELD.join((text, *arguments))
    if text.count(FIELD) != _PLAIN_FIELDS + len(arguments) - 1 or ITEM in text:
        raise ValueError("a name or an argument holds a control character")
    return text.encode()


def _fields(number: int, entry: LogEntry) -> list[str]:
    if isinstance(entry, Message):
        return _message_fields(number, entry)
    if isinstance(entry, DisconnectCommand):
        return _disconnect_fields(number, entry)
    if isinstance(entry, RoomChange):
        return _room_change_fields(number, entry)
    if isinstance(entry, DataChange):
        return _data_change_fields(number, entry)
    return [f"{number}T", entry.id, entry.namespace, entry.sid, entry.owner]


def _message_fields(number: int, message: Message) -> list[str]:
    flags, event = ("v" if message.volatile else ""), message.event
    if not event.isprintable():
        flags, event = flags + "j", json.dumps(event)
    if message.ttl_seconds:
        flags += f"t{message.ttl_seconds}"
    rooms, exclude = ITEM.join(message.rooms), ITEM.join(message.exclude)
    trace = "" if message.trace is None else format_traceparent(message.trace)
    more: list[str] = []
    if number >= REPLY_FORMAT:
        terms = "" if message.ack is None else f"{message.ack.want} {message.ack.seconds!r}"
        attachments = ITEM.join([each or _EMPTY for each in message.attachments])
        more = [ITEM.join(message.all_of), message.reply_to, attachments, terms]
    elif message.all_of or message.reply_to or message.attachments or message.ttl_seconds:
        raise FormatTooOld
    return [
        f"{number}M", message.id, message.namespace, flags, rooms, exclude, event, trace, *more, *message.arguments
    ]  # fmt: skip


def _disconnect_fields(number: int, command: DisconnectCommand) -> list[str]:
    more: list[str] = []
    if number >= REPLY_FORMAT:
        more = [command.room, command.token_id, command.reply_to]
    elif command.room or command.token_id or command.reply_to:
        raise FormatTooOld
    namespaces, exclude = ITEM.join(command.namespaces), ITEM.join(command.exclude)
    flags = "r" if command.revoke else ""
    return [f"{number}K", command.id, command.user, namespaces, repr(command.at), flags, exclude, *more]


def _room_change_fields(number: int, change: RoomChange) -> list[str]:
    if number < REPLY_FORMAT:
        raise FormatTooOld
    rooms, changed, exclude = ITEM.join(change.rooms), ITEM.join(change.changed), ITEM.join(change.exclude)
    flags = "j" if change.is_join else "l"
    return [f"{number}J", change.id, change.namespace, flags, rooms, changed, exclude, change.reply_to]


def _data_change_fields(number: int, change: DataChange) -> list[str]:
    if number < REPLY_FORMAT:
        raise FormatTooOld
    return [f"{number}D", change.id, change.namespace, change.sid, str(change.version), change.data]


def _items(entry: LogEntry) -> int:
    """Return how many separators of items the record of an entry holds."""
    if isinstance(entry, SessionTakeover | DataChange):
        return 0
    if isinstance(entry, Message):
        lists: tuple[Collection[str], ...] = (entry.rooms, entry.exclude, entry.all_of, entry.attachments)
    elif isinstance(entry, DisconnectCommand):
        lists = (entry.namespaces, entry.exclude)
    else:
        lists = (entry.rooms, entry.exclude, entry.changed)
    return sum([len(each) - 1 for each in lists if each])


def _decode_message(fields: list[str]) -> Message:
    kind, id_, namespace, flags, rooms, exclude, event, trace, *arguments = fields
    all_of = reply_to = attachments = terms = ""
    if int(kind[0]) >= REPLY_FORMAT:
        all_of, reply_to, attachments, terms, *arguments = arguments
    flags, has_ttl, ttl = flags.partition("t")
    if flags not in {"", "v", "j", "vj"} or (has_ttl and not (ttl.isascii() and ttl.isdecimal())):
        raise ValueError("unknown flags")
    if flags.endswith("j"):
        event = json.loads(event)
        if not isinstance(event, str):
            raise ValueError("an event is a text")
        event.encode()  # raises for lone surrogates, which JSON accepts
    if not id_ or not namespace.startswith("/") or not event:
        raise ValueError("an empty field")
    return Message(
        id_,
        namespace,
        _list(rooms),
        event,
        tuple(arguments),
        frozenset(_list(exclude)),
        flags.startswith("v"),
        _trace(trace) if trace else None,
        _list(all_of),
        reply_to,
        tuple(["" if each == _EMPTY else each for each in _list(attachments)]),
        _ack_terms(terms) if terms else None,
        int(ttl) if ttl else 0,
    )


def _ack_terms(text: str) -> AckTerms:
    want, seconds = text.split(" ")
    terms = AckTerms(int(want), float(seconds))
    if terms.want < 0 or not math.isfinite(terms.seconds):
        raise ValueError("malformed terms")
    return terms


def _trace(text: str) -> Trace:
    trace = parse_traceparent(text)
    if trace is None:
        raise ValueError("a malformed trace")
    return trace


def _decode_disconnect(fields: list[str]) -> DisconnectCommand:
    kind, id_, user, namespaces, at, flags, exclude, *more = fields
    room, token_id, reply_to = more if int(kind[0]) >= REPLY_FORMAT else ("", "", "")
    moment = float(at)
    is_addressed = sum(map(bool, (user, room, token_id))) == 1
    if not id_ or not is_addressed or not namespaces or not math.isfinite(moment) or flags not in {"", "r"}:
        raise ValueError("an empty or malformed field")
    excluded = frozenset(_list(exclude))
    return DisconnectCommand(
        id_, user, _list(namespaces), moment, excluded, flags == "r", room, token_id, reply_to
    )


def _decode_room_change(fields: list[str]) -> RoomChange:
    _, id_, namespace, flags, rooms, changed, exclude, reply_to = fields
    if not id_ or not namespace.startswith("/") or not changed or flags not in {"j", "l"}:
        raise ValueError("an empty or malformed field")
    return RoomChange(
        id_, namespace, _list(rooms), _list(changed), flags == "j", frozenset(_list(exclude)), reply_to
    )


def _decode_data_change(fields: list[str]) -> DataChange:
    _, id_, namespace, sid, version, data = fields
    if not id_ or not namespace.startswith("/") or not sid or not isinstance(json.loads(data), dict):
        raise ValueError("an empty or malformed field")
    return DataChange(id_, namespace, sid, int(version), data)


def _decode_reply(fields: list[str]) -> Reply:
    _, entry_id, replica, content = fields
    if not entry_id or not replica:
        raise ValueError("an empty field")
    return Reply(entry_id, replica, content)


def _decode_takeover(fields: list[str]) -> SessionTakeover:
    _, id_, namespace, sid, owner = fields
    if not id_ or not namespace.startswith("/") or not sid or not owner:
        raise ValueError("an empty or malformed field")
    return SessionTakeover(id_, namespace, sid, owner)


def _decode_loss_marker(fields: list[str]) -> LossMarker:
    _, id_ = fields
    if not id_:
        raise ValueError("an empty field")
    return LossMarker(id_)


def _decode_pointer(fields: list[str]) -> Pointer:
    kind, id_, flags = fields
    known = {"", "v", "r", "vr"} if int(kind[0]) >= REPLY_FORMAT else {"", "v"}
    if not id_ or flags not in known:
        raise ValueError("an empty or malformed field")
    return Pointer(id_, volatile=flags.startswith("v"), wants_replies=flags.endswith("r"))


def _decode_probe(fields: list[str]) -> Probe:
    _, token, generation = fields
    return Probe(generation, token)


def _decode_wake(fields: list[str]) -> QueueWake:
    _, webhook, partition = fields
    if not webhook:
        raise ValueError("an empty field")
    return QueueWake(webhook, int(partition))


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split(ITEM)) if text else ()


_DECODERS: Final[Mapping[str, Decode]] = MappingProxyType(
    {
        MESSAGE_LETTER: _decode_message,
        "K": _decode_disconnect,
        "T": _decode_takeover,
        "L": _decode_loss_marker,
        "N": _decode_pointer,
        "C": _decode_probe,
        "W": _decode_wake,
    }
)
_NEW_DECODERS: Final[Mapping[str, Decode]] = MappingProxyType(
    {
        f"{REPLY_FORMAT}J": _decode_room_change,
        f"{REPLY_FORMAT}D": _decode_data_change,
        f"{REPLY_FORMAT}R": _decode_reply,
    }
)
FORMS: Final[Mapping[str, Decode]] = MappingProxyType(
    {number + letter: decode for number in "2345" for letter, decode in _DECODERS.items()}
    | dict(_NEW_DECODERS)
)
"""The decoders of this release: its own format and the three before."""
WRITERS: Final[Mapping[int, Encode]] = MappingProxyType(
    {number: partial(_encode, number) for number in (2, 3, 4, 5)}
)
"""The encoders of this release: the newest format, and earlier ones while a living replica reads nothing newer."""
