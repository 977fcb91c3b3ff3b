"""The bytes of Engine.IO 4: packets, polling payloads, and WebSocket frames ready to write.

A packet is a type character and its data (protocol, §Packet encoding). A polling payload is packets joined by the
record separator, binary ones as ``b`` and base64. On a WebSocket each packet is one frame, a binary message one
binary frame without a type.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
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

_TYPES: Final = frozenset("0123456")
_SEPARATOR: Final = "\x1e"
_TEXT_OPCODE: Final = 0x81
_BINARY_OPCODE: Final = 0x82
_CLOSE_OPCODE: Final = 0x88
_PONG_OPCODE: Final = 0x8A
_COMPRESSED_FLAG: Final = 0x40
"""RSV1 (RFC 7692 §6)."""

COMPRESSED_AT_MOST_BYTES: Final = 512 * 1024
"""Larger ones go out as they are: compressing them would hold the event loop for more than 20 ms."""


class MalformedPacket(Exception):
    """Bytes that are no Engine.IO packet. ``reason`` and ``close_code`` (RFC 6455 §7.4.1): how the client is let go."""

    reason = "malformed_packet"
    close_code = 1002


class Packet(NamedTuple):
    """A received packet; ``data`` is bytes for a binary message only."""

    type: str
    data: str | bytes


class Frames:
    """One packet to send, encoded once, whatever the number of recipients and carriers (law 1).

    It is kept as the WebSocket frame, a plain attribute because a fan-out reads it for every recipient; the record of
    a polling payload is a part of it.
    """

    __slots__ = ("_binary", "_compressed", "_payload_at", "frame")

    def __init__(self, packet: str | bytes) -> None:
        """``packet``: type character and data, or the bytes of a binary message."""
        self._binary = isinstance(packet, bytes)
        payload = packet if isinstance(packet, bytes) else packet.encode()
        head = frame_header(self._opcode, len(payload))
        self._payload_at = len(head)
        self._compressed: bytes | None = None
        self.frame = head + payload
        """The WebSocket frame, unmasked as a server's are (RFC 6455 §5.1)."""

    @property
    def compressed(self) -> bytes:
        """The same for those who negotiated compression; the plain one where compressing does not pay."""
        if self._compressed is None:
            self._compressed = self._compress()
        return self._compressed

    @property
    def record(self) -> bytes:
        """The packet inside a polling payload."""
        payload = self.frame[self._payload_at :]
        return b"b" + base64.b64encode(payload) if self._binary else payload

    @property
    def record_bytes(self) -> int:
        """The length of the record."""
        size = len(self.frame) - self._payload_at
        return 1 + (size + 2) // 3 * 4 if self._binary else size

    @property
    def _opcode(self) -> int:
        return _BINARY_OPCODE if self._binary else _TEXT_OPCODE

    def _compress(self) -> bytes:
        size = len(self.frame) - self._payload_at
        if size > COMPRESSED_AT_MOST_BYTES:
            return self.frame
        payload = deflate(self.frame[self._payload_at :])
        if len(payload) >= size:
            return self.frame
        return frame_header(self._opcode | _COMPRESSED_FLAG, len(payload)) + payload


def open_packet(
    sid: str,
    *,
    upgrades: list[str],
    ping_interval_seconds: float,
    ping_timeout_seconds: float,
    max_payload_bytes: int,
) -> Frames:
    """§Handshake: the sid, what the session may upgrade to, and the limits; times go out in milliseconds."""
    body = {
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": round(ping_interval_seconds * 1000),
        "pingTimeout": round(ping_timeout_seconds * 1000),
        "maxPayload": max_payload_bytes,
    }
    return Frames(OPEN + orjson.dumps(body).decode())


def message(text: str) -> Frames:
    """A text message on its way to a client."""
    return Frames(MESSAGE + text)


def frame_header(opcode: int, length: int) -> bytes:
    """The head of a final, unmasked WebSocket frame (RFC 6455 §5.2)."""
    if length < 126:
        return bytes((opcode, length))
    if length < 65536:
        return bytes((opcode, 126)) + length.to_bytes(2, "big")
    return bytes((opcode, 127)) + length.to_bytes(8, "big")


def close_frame(code: int) -> bytes:
    """A WebSocket close frame with a status code and no reason."""
    return frame_header(_CLOSE_OPCODE, 2) + code.to_bytes(2, "big")


def pong_frame(payload: bytes) -> bytes:
    """The answer to a WebSocket ping (RFC 6455 §5.5.3)."""
    return frame_header(_PONG_OPCODE, len(payload)) + payload


def decode_text(text: str) -> Packet:
    """The packet in a text frame; raises MalformedPacket."""
    if text[:1] not in _TYPES or not text:
        raise MalformedPacket("no packet type")
    return Packet(text[0], text[1:])


def decode_payload(body: bytes) -> Iterator[Packet]:
    """The packets of a posted payload, in order; raises MalformedPacket at the first that is none."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket("a payload is UTF-8") from error
    return map(_decode_record, text.split(_SEPARATOR))


def encode_payload(packets: Iterable[interfaces.Frames]) -> bytes:
    """The body that answers a poll."""
    return b"\x1e".join(packet.record for packet in packets)


def _decode_record(record: str) -> Packet:
    if record[:1] != "b":
        return decode_text(record)
    try:
        return Packet(MESSAGE, base64.b64decode(record[1:], validate=True))
    except (binascii.Error, ValueError) as error:
        raise MalformedPacket("binary data is base64") from error


CLOSE_PACKET: Final = Frames(CLOSE)
PING_PACKET: Final = Frames(PING)
NOOP_PACKET: Final = Frames(NOOP)
PROBE_ANSWER: Final = Frames(PONG + "probe")
