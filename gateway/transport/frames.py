"""Received WebSocket frames, joined to messages (RFC 6455 §5): bytes in, messages out, no I/O.

The header of a frame is checked before any of its payload is kept, so that the limit holds whatever a client sends.
"""

from __future__ import annotations

from typing import Final, NamedTuple

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

MESSAGES: Final = frozenset({TEXT, BINARY})

_OPCODES: Final = frozenset({0x0, TEXT, BINARY, CLOSE, PING, PONG})
_OPCODE: Final = 0x0F
_FIN: Final = 0x80
_RSV: Final = 0x70
_RSV1: Final = 0x40
_MASKED: Final = 0x80
_WHOLE_TEXT: Final = _FIN | TEXT
"""The first byte of nearly every frame: an unfragmented text that is not compressed."""
_MAX_CONTROL_BYTES: Final = 125
_CODES: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
_EMPTY: Final = bytearray()
"""The empty buffer of all connections; nothing is ever added to it."""

PROTOCOL_ERROR: Final = 1002
INVALID_TEXT: Final = 1007
TOO_BIG: Final = 1009


class FrameError(Exception):
    """Bytes after which nothing more can be read; ``close_code`` is the reason for the client (RFC 6455 §7.4.1)."""

    def __init__(self, close_code: int) -> None:
        super().__init__(close_code)
        self.close_code = close_code


class ReceivedFrame(NamedTuple):
    """A whole message or a control frame. ``compressed``: ``data`` has still to be inflated (RFC 7692)."""

    opcode: int
    data: bytes
    compressed: bool


FRAGMENT: Final = ReceivedFrame(0x0, b"", compressed=False)
"""Stands for a frame whose message is not complete yet."""


class FrameReader:
    """Reads the frames of one connection."""

    __slots__ = ("_buffer", "_compressed", "_deflated", "_message", "_opcode")

    def __init__(self, *, deflated: bool) -> None:
        """``deflated``: compression was negotiated, so messages may be marked as compressed."""
        self._deflated = deflated
        self._buffer = _EMPTY
        self._opcode = 0
        """Opcode of the message whose fragments are being read; 0 outside a fragmented message."""
        self._compressed = False
        self._message = _EMPTY

    @property
    def bytes_held(self) -> int:
        """Bytes that have arrived of frames and messages that are not complete."""
        return len(self._buffer) + len(self._message)

    def feed(self, data: bytes) -> None:
        """Add bytes of the connection, which may be split anywhere; ``next`` finds the messages in them."""
        if self._buffer:
            self._buffer += data
        else:
            self._buffer = bytearray(data)

    def next(self, max_bytes: int) -> ReceivedFrame | None:
        """Read the next frame: return a message, a control frame or FRAGMENT; None if no whole frame has arrived.

        ``max_bytes`` limits a message, all its fragments together, before it is inflated.

        Raises: FrameError; nothing more may be read then.
        """
        frame = self._next_frame(max_bytes)
        if frame is None:
            return None
        first, payload = frame
        opcode, compressed = first & _OPCODE, bool(first & _RSV1)
        if opcode >= CLOSE or (opcode and first & _FIN):
            return ReceivedFrame(opcode, payload, compressed)
        if opcode:
            self._opcode, self._compressed, self._message = opcode, compressed, bytearray(payload)
            return FRAGMENT
        self._message += payload
        if not first & _FIN:
            return FRAGMENT
        whole = ReceivedFrame(self._opcode, bytes(self._message), self._compressed)
        self._opcode, self._compressed, self._message = 0, False, _EMPTY
        return whole

    def _next_frame(self, max_bytes: int) -> tuple[int, bytes] | None:
        """Return the first byte of the next frame and its unmasked payload; None if it has not arrived whole."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        if first != _WHOLE_TEXT or second < _MASKED or self._opcode:
            self._check_header(first, second)
        length, at = second & ~_MASKED, 2
        if length > _MAX_CONTROL_BYTES:
            at += 2 if length == 126 else 8
            if len(buffer) < at:
                return None
            length = int.from_bytes(buffer[2:at], "big")
            if length >> 63 or length < (126 if at == 4 else 65_536):
                # §5.2: the shortest form that holds it, and never the highest bit.
                raise FrameError(PROTOCOL_ERROR)
        if not first & CLOSE and len(self._message) + length > max_bytes:
            raise FrameError(TOO_BIG)
        end = at + 4 + length
        if len(buffer) < end:
            return None
        payload = _unmask(buffer[at : at + 4], buffer[at + 4 : end])
        del buffer[:end]
        if not buffer:
            self._buffer = _EMPTY
        return first, payload

    def _check_header(self, first: int, second: int) -> None:
        """Check the first two bytes of a frame against RFC 6455 §5.1, §5.2, §5.4, §5.5 and RFC 7692 §6.

        Raises: FrameError.
        """
        opcode = first & _OPCODE
        allowed = _RSV1 if self._deflated and opcode in MESSAGES else 0
        is_control = opcode >= CLOSE
        is_malformed = (
            not second & _MASKED
            or opcode not in _OPCODES
            or first & _RSV & ~allowed
            or (is_control and (not first & _FIN or second & ~_MASKED > _MAX_CONTROL_BYTES))
            # No message starts within a fragmented message, and no frame continues a message outside of one.
            or (not is_control and bool(opcode) == bool(self._opcode))
        )
        if is_malformed:
            raise FrameError(PROTOCOL_ERROR)


def close_code_of(payload: bytes) -> int | None:
    """Return the code of a close frame, or None if it has no code.

    Raises: FrameError for a payload that RFC 6455 §5.5.1 or §7.4 forbids.
    """
    if not payload:
        return None
    if len(payload) == 1:
        raise FrameError(PROTOCOL_ERROR)
    code = int.from_bytes(payload[:2], "big")
    if not (code in _CODES or 3000 <= code < 5000):
        raise FrameError(PROTOCOL_ERROR)
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(INVALID_TEXT) from None
    return code


def _unmask(mask: bytearray, payload: bytearray) -> bytes:
    """Unmask a payload (§5.3), as one large number: Python has no other way to XOR many bytes at once."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
