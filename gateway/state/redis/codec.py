"""The bytes of records in the log and of frames on the channels.

A record is one entry as text: a format number, a letter, and fields separated by U+001E; lists inside a field are
separated by U+001F. Neither can occur in a JSON text (RFC 8259 §7) nor in a name (``domain.names``). The name of an
event may be anything; it is the one field that is escaped, as JSON, if it has to be. A frame is the data that is
published on a channel: a position, a line feed, a record, and from format 4 on a last field: the generation of the log.

    4M  Message: id, namespace, flags, rooms, exclude, event, trace, arguments …   flags: v volatile, j event is JSON
    4K  DisconnectCommand: id, user, namespaces, at, flags, exclude                flags: r revoke
    4T  SessionTakeover: id, namespace, sid, owner
    4L  LossMarker: id
    4N  Pointer to a record that is too large for a channel: id, flags             flags: v volatile
    4C  Probe: token of the process and number, generation of the log
    4W  QueueWake: webhook, partition

The number is that of the format. A release reads its own format and the two before, and writes what all living replicas
read. The records of formats 2 and 3 have the same fields. A replica that reads format 3 makes sids that begin with
``~`` and keeps the rooms that a connection joined (``membership``). One that reads format 4 takes channels from
``RedisKeys``, and frames of its own log alone (``log_reader``). A trace is a W3C ``traceparent``, or nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

from gateway.domain import positions
from gateway.domain.errors import MalformedPosition
from gateway.domain.messages import (
    DisconnectCommand,
    LogEntry,
    Message,
    PublishResult,
    SessionTakeover,
    is_volatile,
)
from gateway.domain.positions import Position
from gateway.domain.traces import Trace, format_traceparent, parse_traceparent

FIELD: Final = "\x1e"
ITEM: Final = "\x1f"
INLINE_BYTES: Final = 64 * 1024
"""The most that one entry puts on all its channels together. Above that they carry a pointer to the record.

Redis drops a subscriber that is 32 MiB behind (``client-output-buffer-limit pubsub``), so a subscriber can be at least
500 entries behind, whatever their size, before that happens.
"""
TAGGED_FORMAT: Final = 4
"""From this format on a frame names the generation of its log."""
TILDE_FORMAT: Final = 3
"""Replicas that read this format make sids that begin with ``~``, and keep the rooms that a connection joined."""


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
    """Stands for an entry that is in the log at the position of its frame, or, if volatile, under its id for 20 s."""

    id: str
    volatile: bool


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


_FIELD: Final = FIELD.encode()
_TAGGED: Final = b"%d" % TAGGED_FORMAT
_UNTAGGED: Final = (b"C", b"W")
"""The letters of frames to one replica: they do not name the log."""
Logged = LogEntry | LossMarker
"""What the log holds."""
Sent = Logged | Pointer | Probe | QueueWake
Decode = Callable[[list[str]], Sent]
Encode = Callable[[LogEntry], bytes]


class Frame(NamedTuple):
    """A decoded frame of a channel. ``generation`` is that of its log; empty in a frame of an earlier format."""

    position: Position
    sent: Sent
    generation: str = ""


def _encode(number: str, entry: LogEntry) -> bytes:
    """Encode an entry in format ``number``. Raises ValueError for a control character that would separate fields."""
    if isinstance(entry, Message):
        fields = _message_fields(number, entry)
    elif isinstance(entry, DisconnectCommand):
        namespaces, exclude = ITEM.join(entry.namespaces), ITEM.join(entry.exclude)
        flags = "r" if entry.revoke else ""
        fields = [f"{number}K", entry.id, entry.user, namespaces, repr(entry.at), flags, exclude]
    else:
        fields = [f"{number}T", entry.id, entry.namespace, entry.sid, entry.owner]
    text = FIELD.join(fields)
    if text.count(FIELD) != len(fields) - 1 or text.count(ITEM) != _items(entry):
        raise ValueError("a name or an argument holds a control character")
    return text.encode()


def _message_fields(number: str, message: Message) -> list[str]:
    flags, event = ("v" if message.volatile else ""), message.event
    if not event.isprintable():
        flags, event = flags + "j", json.dumps(event)
    rooms, exclude = ITEM.join(message.rooms), ITEM.join(message.exclude)
    trace = "" if message.trace is None else format_traceparent(message.trace)
    kind = f"{number}M"
    return [kind, message.id, message.namespace, flags, rooms, exclude, event, trace, *message.arguments]


def _items(entry: LogEntry) -> int:
    """Return how many separators of items the record of an entry holds."""
    if isinstance(entry, SessionTakeover):
        return 0
    first = entry.namespaces if isinstance(entry, DisconnectCommand) else entry.rooms
    return max(0, len(first) - 1) + max(0, len(entry.exclude) - 1)


def _decode_message(fields: list[str]) -> Message:
    _, id_, namespace, flags, rooms, exclude, event, trace, *arguments = fields
    if flags not in {"", "v", "j", "vj"}:
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
    )


def _trace(text: str) -> Trace:
    trace = parse_traceparent(text)
    if trace is None:
        raise ValueError("a malformed trace")
    return trace


def _decode_disconnect(fields: list[str]) -> DisconnectCommand:
    _, id_, user, namespaces, at, flags, exclude = fields
    moment = float(at)
    if not id_ or not user or not namespaces or not math.isfinite(moment) or flags not in {"", "r"}:
        raise ValueError("an empty or malformed field")
    return DisconnectCommand(
        id_, user, _list(namespaces), moment, frozenset(_list(exclude)), revoke=flags == "r"
    )


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
    _, id_, flags = fields
    if not id_ or flags not in {"", "v"}:
        raise ValueError("an empty or malformed field")
    return Pointer(id_, volatile=flags == "v")


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
        "M": _decode_message,
        "K": _decode_disconnect,
        "T": _decode_takeover,
        "L": _decode_loss_marker,
        "N": _decode_pointer,
        "C": _decode_probe,
        "W": _decode_wake,
    }
)
FORMS: Final[Mapping[str, Decode]] = MappingProxyType(
    {number + letter: decode for number in "234" for letter, decode in _DECODERS.items()}
)
"""The decoders of this release: its own format and the two before."""
WRITERS: Final[Mapping[int, Encode]] = MappingProxyType(
    {number: partial(_encode, str(number)) for number in (2, 3, 4)}
)
"""The encoders of this release: the newest format, and earlier ones while a living replica reads nothing newer."""


class Codec:
    """Records and frames as one release reads and writes them. ``Codec()`` is this release; tests make others."""

    def __init__(
        self, *, forms: Mapping[str, Decode] = FORMS, writers: Mapping[int, Encode] = WRITERS
    ) -> None:
        self._forms = forms
        self._writers = writers
        self.newest = max(writers)
        self._writes = self.newest

    def negotiate(self, newest_of_all: int) -> None:
        """Write from now on the newest format that every replica reads, if this release can write it.

        ``newest_of_all`` is the lowest of the newest formats of all replicas that live or may become reachable again.
        """
        self._writes = max(min(newest_of_all, self.newest), min(self._writers))

    @property
    def tags_frames(self) -> bool:
        """Whether frames of all replicas name the generation of their log: no replica reads only a former format."""
        return self._writes >= TAGGED_FORMAT

    def encode(self, entry: LogEntry) -> bytes:
        """Encode an entry. Raises ValueError for a control character, which no validated entry holds."""
        return self._writers[self._writes](entry)

    def loss_marker(self, marker: LossMarker) -> bytes:
        """Encode a marker of a loss."""
        return FIELD.join((f"{self._writes}L", marker.id)).encode()

    def pointer(self, entry: LogEntry) -> bytes:
        """Encode the pointer that stands for a large record."""
        return FIELD.join((f"{self._writes}N", entry.id, "v" if is_volatile(entry) else "")).encode()

    def probe(self, token: str) -> bytes:
        """Encode a probe without the generation of the log, which the script appends."""
        return FIELD.join((f"{self._writes}C", token, "")).encode()

    def decode_frame(self, data: bytes) -> Frame:
        """Decode a frame. Raises DecodeError for anything that is not exactly one."""
        head, _, record = data.partition(b"\n")
        try:
            position = positions.parse(head.decode("ascii"))
        except (UnicodeDecodeError, MalformedPosition) as error:
            raise DecodeError("no position") from error
        generation = b""
        if record[:1] >= _TAGGED and record[1:2] not in _UNTAGGED:
            record, _, generation = record.rpartition(_FIELD)
        named = generation.decode(errors="replace")
        try:
            return Frame(position, self._decode(record), named)
        except DecodeError as error:
            error.position, error.generation = position, named
            raise

    def decode_entry(self, record: bytes) -> Logged:
        """Decode a record of the log. Raises DecodeError."""
        sent = self._decode(record)
        if isinstance(sent, Pointer | Probe | QueueWake):
            raise DecodeError("no entry")
        return sent

    def _decode(self, record: bytes) -> Sent:
        try:
            fields = record.decode().split(FIELD)
            return self._forms[fields[0]](fields)
        except KeyError:
            raise DecodeError("an unknown format") from None
        except (ValueError, RecursionError) as error:
            raise DecodeError("malformed") from error


def decode_publish_result(value: bytes) -> PublishResult:
    """Decode what the scripts keep of an accepted entry: id, position, connections, exact, replayed.

    The fourth is ``exact``, or ``exact+recoverable``.

    Raises:
        DecodeError: the value is no result.
    """
    try:
        id_, position, connections, exact, replayed = value.decode().split(" ")
        exact, _, recoverable = exact.partition("+")
        return PublishResult(
            id_,
            positions.parse(position),
            int(connections),
            exact == "1",
            replayed == "1",
            int(recoverable or "0"),
        )
    except (ValueError, MalformedPosition) as error:
        raise DecodeError("no result") from error
