"""What stands between a WebSocket's connection and aiohttp's reader of frames: looks at heads, never at payloads.

It holds strangers to small messages before a byte of a large one is kept, and tells compressed messages apart from
others. aiohttp would inflate them too, but with a window kept for each connection; so it gets them as plain binary
messages, and they are inflated one by one as they are read (``deflate.inflate``).
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

_FIN: Final = 0x80
_RSV1: Final = 0x40
_OPCODES: Final = 0x0F
_BINARY: Final = 0x02
_FIRST_CONTROL: Final = 0x08
_MASKED: Final = 0x80
_TOO_LARGE: Final = b"\x82\x7f\x40" + bytes(7)
"""The head of a frame of 2^62 bytes, which any reader refuses: so that it is aiohttp's who closes with 1009."""


class FrameReader(Protocol):
    """What aiohttp feeds with bytes of a connection."""

    def feed_data(self, data: bytes, /) -> tuple[bool, bytes]: ...

    def feed_eof(self) -> None: ...


class Sender(Protocol):
    """Whose messages they are."""

    @property
    def joined(self) -> bool:
        """Whether it proved who it is."""
        ...


class Intake:
    """Satisfies ``FrameReader``, in front of another one. It steps aside once there is nothing more to look for."""

    __slots__ = (
        "_finishing",
        "_head",
        "_left",
        "_newcomer_bytes",
        "_reader",
        "_size",
        "_stands_aside",
        "kinds",
        "sender",
    )

    _reader: FrameReader
    """Set by ``stand_before``; nothing is fed before."""

    def __init__(self, *, newcomer_bytes: int, deflated: bool) -> None:
        """``newcomer_bytes``: the largest message of a stranger; the reader has the limit of those who joined.
        ``deflated``: compression was negotiated.
        """
        self.sender: Sender | None = None
        """None: not known yet."""
        self._newcomer_bytes = newcomer_bytes
        self.kinds: deque[int] | None = deque() if deflated else None
        """Of each message on its way to the reader: the opcode it had, if it is compressed, else 0."""
        self._stands_aside = False
        self._head = b""
        """The beginning of a head whose rest did not come yet."""
        self._left = 0
        """Bytes of the payload that are still to come."""
        self._size = 0
        """Of the message so far, as its heads say."""
        self._finishing = 0
        """What goes to ``kinds`` when the message is whole."""

    def stand_before(self, reader: FrameReader) -> Intake:
        """From now on bytes go to that reader."""
        self._reader = reader
        return self

    def feed_eof(self) -> None:
        self._reader.feed_eof()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Bytes of the connection, cut anywhere."""
        if not self._stands_aside:
            data = self._look_through(data)
            self._stands_aside = self._sees_nothing_more()
        return self._reader.feed_data(data)

    def _sees_nothing_more(self) -> bool:
        return self.kinds is None and self._has_joined() and not self._head and not self._left

    def _has_joined(self) -> bool:
        return self.sender is not None and self.sender.joined

    def _look_through(self, data: bytes) -> bytes:
        """The same bytes without marks of compression; those of a head that is not whole wait for its rest."""
        data, self._head = self._head + data, b""
        changed: bytearray | None = None
        at, self._left = self._left, 0
        while at < len(data):
            head = _read_head(data, at)
            if head is None:
                self._head = data[at:]
                break
            first, payload_bytes, next_at = head
            plain = self._take(first, payload_bytes)
            if plain is None:
                return bytes(changed or data)[:at] + _TOO_LARGE
            if plain != first:
                changed = changed or bytearray(data)
                changed[at] = plain
            at = next_at
        else:
            self._left = at - len(data)
        return bytes(changed or data)[: len(data) - len(self._head)]

    def _take(self, first: int, payload_bytes: int) -> int | None:
        """What the first byte of this head becomes; None: the message is too large."""
        opcode = first & _OPCODES
        if opcode >= _FIRST_CONTROL:
            return first
        if opcode:
            # Others continue the message that began before them (RFC 6455 §5.4), marked by its first frame alone.
            self._size, self._finishing = 0, 0
            if self.kinds is not None and first & _RSV1 and opcode <= _BINARY:
                self._finishing = opcode
                first = first & ~_RSV1 & ~_OPCODES | _BINARY
        self._size += payload_bytes
        if self._size > self._newcomer_bytes and not self._has_joined():
            return None
        if self.kinds is not None and first & _FIN:
            self.kinds.append(self._finishing)
        return first


def _read_head(data: bytes, at: int) -> tuple[int, int, int] | None:
    """The first byte of the frame there, the length of its payload, and where the next one begins (RFC 6455 §5.2).

    None: more bytes are needed.
    """
    if len(data) < at + 2:
        return None
    first, length = data[at], data[at + 1] & ~_MASKED
    payload_at = at + 2
    if length >= 126:
        payload_at += 2 if length == 126 else 8
        if len(data) < payload_at:
            return None
        length = int.from_bytes(data[at + 2 : payload_at], "big")
    return first, length, payload_at + (4 if data[at + 1] & _MASKED else 0) + length
