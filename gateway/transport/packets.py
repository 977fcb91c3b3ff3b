"""The bytes of Engine.IO 4: packets, polling payloads, and WebSocket frames ready to write.

A packet is a type character and its data (§Packet encoding). A polling payload is packets joined by the record
separator; a binary one is ``b`` and base64. On a WebSocket each packet is one frame; a binary message is a binary frame
without a type.
"""

from __future__ import annotations

import base64
import binascii
import string
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import orjson

from gateway import interfaces
from gateway.transport.deflate import deflate

OPEN: Final = "0"
CLOSE: Final = "1"
PING: Final = "2"
PONG: Final = "3"
MESSAGE: Final = "4"
UPGRADE: Final = "5"
NOOP: Final = "6"

BINARY: Final = "b"
_TYPES: Final = frozenset("0123456")
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_NO_BASE64: Final = bytes(set(range(256)) - set((string.ascii_letters + string.digits + "+/-_").encode()))
_SEPARATOR: Final = "\x1e"
_TEXT_OPCODE: Final = 0x81
_BINARY_OPCODE: Final = 0x82
_CLOSE_OPCODE: Final = 0x88
_PONG_OPCODE: Final = 0x8A
_COMPRESSED_FLAG: Final = 0x40
"""RSV1 (RFC 7692 §6)."""

MAX_COMPRESSED_BYTES: Final = 512 * 1024
"""Larger payloads are sent as they are: compressing one would block the event loop for more than 20 ms."""


class MalformedPacket(Exception):
    """Bytes that are not an Engine.IO packet.

    Their session is closed for ``reason``, its WebSocket with ``close_code`` (RFC 6455 §7.4.1).
    """

    reason = "malformed_packet"
    close_code = 1002


class Packet(NamedTuple):
    """A received packet. ``data`` is bytes for a binary message only."""

    type: str
    data: str | bytes


_SHORT_TEXT: Final = tuple(bytes((_TEXT_OPCODE, size)) for size in range(126))
"""The headers of text frames up to this size (``frame_header``)."""


class Frames:
    """One packet to send, encoded once for all recipients and transports.

    That is invariant 1 of docs/explanation/architecture.md.
    The packet is kept as its WebSocket frame, in a plain attribute because a fan-out reads it for every recipient. The
    record of a polling payload is made from a part of that frame.
    """

    __slots__ = ("_compressed", "_opcode", "_payload_at", "frame")

    def __init__(self, packet: str | bytes) -> None:
        """``packet``: type character and data, or the bytes of a binary message."""
        if isinstance(packet, bytes):
            payload, self._opcode = packet, _BINARY_OPCODE
        else:
            payload, self._opcode = packet.encode(), _TEXT_OPCODE
        size = len(payload)
        head = (
            _SHORT_TEXT[size]
            if size < 126 and self._opcode == _TEXT_OPCODE
            else frame_header(self._opcode, size)
        )
        self._payload_at = len(head)
        self._compressed: bytes | None = None
        self.frame = head + payload
        """The WebSocket frame, unmasked as every frame of a server (RFC 6455 §5.1)."""

    @property
    def compressed(self) -> bytes:
        """The WebSocket frame with a compressed payload; ``frame`` if compression does not make it smaller."""
        if self._compressed is None:
            self._compressed = self._compress()
        return self._compressed

    @property
    def record(self) -> bytes:
        """The packet as a record of a polling payload."""
        payload = self.frame[self._payload_at :]
        return BINARY.encode() + base64.b64encode(payload) if self._opcode == _BINARY_OPCODE else payload

    @property
    def record_bytes(self) -> int:
        """The length of ``record``, known without making it."""
        size = len(self.frame) - self._payload_at
        return 1 + (size + 2) // 3 * 4 if self._opcode == _BINARY_OPCODE else size

    @property
    def as_text(self) -> Frames:
        """The packet in a text frame, for a WebSocket whose client takes no binary ones (``b64`` in its query)."""
        return Frames(self.record.decode()) if self._opcode == _BINARY_OPCODE else self

    def _compress(self) -> bytes:
        size = len(self.frame) - self._payload_at
        if size > MAX_COMPRESSED_BYTES:
            return self.frame
        payload = deflate(self.frame[self._payload_at :])
        if len(payload) >= size:
            return self.frame
        return frame_header(self._opcode | _COMPRESSED_FLAG, len(payload)) + payload


class FrameSequence:
    """Packets that follow each other without another between them: one with its attachments, encoded once.

    Satisfies ``interfaces.Frames``. A transport that takes them takes all of them.
    """

    __slots__ = ("_as_text", "_compressed", "_packets", "_record", "frame", "record_bytes")

    def __init__(self, packets: Sequence[Frames]) -> None:
        self._packets = tuple(packets)
        self._as_text: FrameSequence | None = None
        self._compressed: bytes | None = None
        self._record: bytes | None = None
        self.frame = b"".join([packet.frame for packet in packets])
        """The WebSocket frames, to be written in one step."""
        self.record_bytes = sum([packet.record_bytes for packet in packets]) + len(packets) - 1

    @property
    def compressed(self) -> bytes:
        """The WebSocket frames, each compressed if that makes it smaller; ``frame`` if they are too large together."""
        if self._compressed is None:
            is_large = len(self.frame) > MAX_COMPRESSED_BYTES
            self._compressed = (
                self.frame if is_large else b"".join([packet.compressed for packet in self._packets])
            )
        return self._compressed

    @property
    def record(self) -> bytes:
        """The packets as records of a polling payload."""
        if self._record is None:
            self._record = encode_payload(self._packets)
        return self._record

    @property
    def as_text(self) -> FrameSequence:
        """The packets in text frames (``Frames.as_text``)."""
        if self._as_text is None:
            self._as_text = FrameSequence([packet.as_text for packet in self._packets])
        return self._as_text


def open_packet(
    sid: str,
    *,
    upgrades: list[str],
    ping_interval_seconds: float,
    ping_timeout_seconds: float,
    max_payload_bytes: int,
) -> Frames:
    """Encode the answer to a handshake (§Handshake): sid, possible upgrades and limits. Its times are milliseconds."""
    body = {
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": round(ping_interval_seconds * 1000),
        "pingTimeout": round(ping_timeout_seconds * 1000),
        "maxPayload": max_payload_bytes,
    }
    return Frames(OPEN + orjson.dumps(body).decode())


def message(text: str) -> Frames:
    """Encode a text message to a client."""
    return Frames(MESSAGE + text)


def frame_header(opcode: int, length: int) -> bytes:
    """Encode the header of a final, unmasked WebSocket frame (RFC 6455 §5.2)."""
    if length < 126:
        return bytes((opcode, length))
    if length < 65536:
        return bytes((opcode, 126)) + length.to_bytes(2, "big")
    return bytes((opcode, 127)) + length.to_bytes(8, "big")


def close_frame(code: int) -> bytes:
    """Encode a WebSocket close frame with a status code and without a reason."""
    return frame_header(_CLOSE_OPCODE, 2) + code.to_bytes(2, "big")


def pong_frame(payload: bytes) -> bytes:
    """Encode the answer to a WebSocket ping (RFC 6455 §5.5.3)."""
    return frame_header(_PONG_OPCODE, len(payload)) + payload


def decode_text(text: str) -> Packet:
    """Decode the packet of a text frame, or a record of a payload.

    Binary data is ``b`` and base64, also on a WebSocket if a client was given ``forceBase64``.

    Raises: MalformedPacket.
    """
    kind = text[:1]
    if kind == BINARY:
        return Packet(MESSAGE, decode_base64(text[1:]))
    if kind not in _TYPES or not kind:
        raise MalformedPacket("no packet type")
    return Packet(kind, text[1:])


def decode_base64(text: str) -> bytes:
    """Decode as ``Buffer.from(text, "base64")`` of the reference server does, which rejects nothing.

    Both alphabets are read; line breaks, as the Java client sends them, and all other characters are ignored, and so is
    padding that is missing. Bits that make no whole byte are dropped.
    """
    digits = text.encode("ascii", "ignore").translate(_TO_STANDARD, _NO_BASE64)
    digits = digits[: len(digits) - (len(digits) % 4 == 1)]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def count_packets(body: bytes) -> int:
    """Return how many packets a posted payload has, without decoding it."""
    return body.count(_SEPARATOR.encode()) + 1


def decode_payload(body: bytes) -> Iterator[Packet]:
    """Decode the packets of a posted payload one by one, in order.

    Raises: MalformedPacket, also from the iterator when it reaches a malformed packet.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket("a payload is UTF-8") from error
    return map(decode_text, text.split(_SEPARATOR))


def encode_payload(packets: Iterable[interfaces.Frames]) -> bytes:
    """Encode the body that answers a poll."""
    return b"\x1e".join(packet.record for packet in packets)


CLOSE_PACKET: Final = Frames(CLOSE)
PING_PACKET: Final = Frames(PING)
NOOP_PACKET: Final = Frames(NOOP)
PROBE_ANSWER: Final = Frames(PONG + "probe")
