"""Records and frames as one release reads and writes them.

A frame is the data that is published on a channel: a position, a line feed, a record (``records``), and from format 4
on a last field: the generation of the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.domain import positions
from gateway.domain.errors import MalformedPosition
from gateway.domain.messages import (
    LogEntry,
    Message,
    PublishResult,
    Reply,
    is_plain,
    is_volatile,
    wants_replies,
)
from gateway.domain.positions import Position
from gateway.state.redis.records import (
    FIELD,
    FORMS,
    REPLY_FORMAT,
    TAGGED_FORMAT,
    WRITERS,
    Decode,
    DecodeError,
    Encode,
    Logged,
    LossMarker,
    Pointer,
    Probe,
    QueueWake,
    Sent,
)

INLINE_BYTES: Final = 64 * 1024
"""The most that one entry puts on all its channels together. Above that they carry a pointer to the record.

Redis drops a subscriber that is 32 MiB behind (``client-output-buffer-limit pubsub``), so a subscriber can be at least
500 entries behind, whatever their size, before that happens.
"""
ID_MARK: Final = "\x1dI"
ROOM_MARK: Final = "\x1dR"
"""They stand in records of the offline queue. Like the separators, their first character is in no text of a record."""
_FIELD: Final = FIELD.encode()
_TAGGED: Final = b"%d" % TAGGED_FORMAT
_UNTAGGED: Final = (b"C", b"W", b"R")
"""The letters of frames to one replica: they do not name the log."""


class Frame(NamedTuple):
    """A decoded frame of a channel. ``generation`` is that of its log; empty in a frame of an earlier format."""

    position: Position
    sent: Sent
    generation: str = ""


class PlainMessage(NamedTuple):
    """A decoded frame with a plain message (``is_plain``)."""

    position: Position
    message: Message
    generation: str


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

    @property
    def may_erase(self) -> bool:
        """Whether every replica knows erased messages: none reads only a format of a release before them."""
        return self._writes >= REPLY_FORMAT

    @property
    def may_change_data(self) -> bool:
        """Whether every replica reads changes of socket data: none reads only a format of a release before them."""
        return self._writes >= REPLY_FORMAT

    def encode(self, entry: LogEntry) -> bytes:
        """Encode an entry.

        Raises: ValueError for a control character, which no validated entry holds; FormatTooOld.
        """
        return self._writers[self._writes](entry)

    def kept_record(self, message: Message) -> bytes:
        """Encode the copy of a message for one connection, with ID_MARK and ROOM_MARK for its id and its room.

        Raises: as ``encode``.
        """
        return self.encode(message._replace(id=ID_MARK, rooms=(ROOM_MARK,)))

    def kept_pointer(self) -> bytes:
        """Encode the pointer that stands for a large copy, with ID_MARK for its id."""
        return FIELD.join((f"{self._writes}N", ID_MARK, "")).encode()

    def loss_marker(self, marker: LossMarker) -> bytes:
        """Encode a marker of a loss."""
        return FIELD.join((f"{self._writes}L", marker.id)).encode()

    def pointer(self, entry: LogEntry) -> bytes:
        """Encode the pointer that stands for a large record."""
        flags = ("v" if is_volatile(entry) else "") + ("r" if wants_replies(entry) else "")
        return FIELD.join((f"{self._writes}N", entry.id, flags)).encode()

    def probe(self, token: str) -> bytes:
        """Encode a probe without the generation of the log, which the script appends."""
        return FIELD.join((f"{self._writes}C", token, "")).encode()

    def reply(self, reply: Reply) -> bytes:
        """Encode a reply. Raises: ValueError for a control character."""
        fields = (f"{REPLY_FORMAT}R", *reply)
        text = FIELD.join(fields)
        if text.count(FIELD) != len(fields) - 1:
            raise ValueError("a reply holds a control character")
        return text.encode()

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

    def decode_plain(self, data: bytes) -> PlainMessage | None:
        """Decode a frame with a plain message. Return None for every other frame, and while a replica reads no tags."""
        if not self.tags_frames:
            return None
        try:
            position, sent, generation = self.decode_frame(data)
        except DecodeError:
            return None
        if not isinstance(sent, Message) or not is_plain(sent):
            return None
        return PlainMessage(position, sent, generation)

    def decode_entry(self, record: bytes) -> Logged:
        """Decode a record of the log. Raises DecodeError."""
        sent = self._decode(record)
        if isinstance(sent, Pointer | Probe | QueueWake | Reply):
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

    The fourth is ``exact``, ``exact+recoverable``, or ``exact+recoverable+counts`` with a comma between the counts.

    Raises:
        DecodeError: the value is no result.
    """
    try:
        id_, position, connections, exact, replayed = value.decode().split(" ")
        exact, recoverable, counts, *_ = f"{exact}++".split("+")
        return PublishResult(
            id_,
            positions.parse(position),
            int(connections),
            exact == "1",
            replayed == "1",
            int(recoverable or "0"),
            counts=tuple(map(int, counts.split(","))) if counts else (),
        )
    except (ValueError, MalformedPosition) as error:
        raise DecodeError("no result") from error


def is_always_wanted(sent: Logged | Pointer) -> bool:
    """Whether to deliver what comes on a channel that no connection here needs.

    If the last one has just left, the result of an entry may still name this replica as one that replies.
    """
    if isinstance(sent, Pointer):
        return sent.wants_replies
    return isinstance(sent, LossMarker) or wants_replies(sent)
