"""Bytes that clients write, and where a received frame ends (RFC 6455 §5.2)."""

from __future__ import annotations

import json
from typing import Final

MASK: Final = bytes(4)
"""A mask of zeros: the frame is valid, and masked bytes stay readable."""
PONG: Final = b"\x81\x81" + MASK + b"3"
DEFLATE: Final = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
"""The extension that every browser offers."""


def text(data: str) -> bytes:
    """Encode a masked text frame."""
    raw = data.encode()
    if len(raw) < 126:
        head = bytes((0x81, 0x80 | len(raw)))
    else:
        head = b"\x81\xfe" + len(raw).to_bytes(2, "big")
    return head + MASK + raw


def handshake(port: int, *, deflate: bool) -> bytes:
    """Encode the request that opens an Engine.IO session on a WebSocket."""
    return (
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"{DEFLATE if deflate else ''}\r\n"
    ).encode()


def connect(token: str) -> bytes:
    """Encode the CONNECT packet of Socket.IO."""
    return text("40" + json.dumps({"token": token}))


def event(*event: object) -> bytes:
    """Encode an event: its name and arguments."""
    return text(f"42{json.dumps(event, separators=(',', ':'))}")


def event_with_ack(number: int, *event: object) -> bytes:
    """Encode an event that requests acknowledgement ``number``."""
    return text(f"42{number}{json.dumps(event, separators=(',', ':'))}")


def split(data: bytes, at: int) -> tuple[int, int]:
    """Return where the payload of the frame at ``at`` starts and ends.

    While bytes of the frame are missing, the end is beyond the data.
    """
    if len(data) < at + 2:
        return at, len(data) + 1
    size = data[at + 1] & 127
    if size < 126:
        return at + 2, at + 2 + size
    start = at + (4 if size == 126 else 10)
    if len(data) < start:
        return start, len(data) + 1
    return start, start + int.from_bytes(data[at + 2 : start], "big")
