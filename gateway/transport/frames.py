"""WebSocket frames of a client, put together to messages (RFC 6455 §5): bytes in, messages out, nothing else.

A head is judged before any of its payload is kept, so that a limit holds whoever sends what.
"""

from __future__ import annotations

from typing import Final, NamedTuple

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_OPCODES: Final = frozenset({0x0, TEXT, BINARY, CLOSE, PING, PONG})
_OPCODE: Final = 0x0F
_FIN: Final = 0x80
_RSV: Final = 0x70
_RSV1: Final = 0x40
_MASKED: Final = 0x80
_MAX_CONTROL_BYTES: Final = 125

PROTOCOL_ERROR: Final = 1002
INVALID_TEXT: Final = 1007
TOO_BIG: Final = 1009


class FrameError(Exception):
    """Bytes after which nothing more can be read; ``close_code`` tells the client why (RFC 6455 §7.4.1)."""

    def __init__(self, close_code: int) -> None:
        super().__init__(close_code)
        self.close_code = close_code


class ReceivedFrame(NamedTuple):
    """A whole message or a control frame. ``compressed``: as the client sent it, to be inflated (RFC 7692)."""

    opcode: int
    data: bytes
    compressed: bool


FRAGMENT: Final = ReceivedFrame(0x0, b"", compressed=False)
"""A frame after which its message is not whole yet."""
MESSAGES: Final = frozenset({TEXT, BINARY})


class FrameReader:
    """One direction of one connection."""

    __slots__ = ("_buffer", "_compressed", "_deflated", "_message", "_opcode")

    def __init__(self, *, deflated: bool) -> None:
        """``deflated``: compression was negotiated, so messages may be marked as compressed."""
        self._deflated = deflated
        self._buffer = _NOTHING
        self._opcode = 0
        """Of the message whose fragments are coming."""
        self._compressed = False
        self._message = _NOTHING

    def feed(self, data: bytes) -> None:
        """Bytes of the connection, cut anywhere; ``next`` finds the messages in them."""
        if self._buffer:
            self._buffer += data
        else:
            self._buffer = bytearray(data)

    def next(self, max_bytes: int) -> ReceivedFrame | None:
        """What the next frame brings: a message or control frame, or of a message one more FRAGMENT; None: no frame is
        whole. Raises BrokenFrame; then nothing more may be read.

        ``max_bytes`` bounds a message, all its fragments together, before they are inflated.
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
        self._opcode, self._compressed, self._message = 0, False, _NOTHING
        return whole

    def _next_frame(self, max_bytes: int) -> tuple[int, bytes] | None:
        """The first byte of a frame and its payload, unmasked."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
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
            self._buffer = _NOTHING
        return first, payload

    def _check_header(self, first: int, second: int) -> None:
        """Raises BrokenFrame for what RFC 6455 §5.1, §5.2, §5.4, §5.5 and RFC 7692 §6 forbid."""
        opcode = first & _OPCODE
        allowed = _RSV1 if self._deflated and opcode in {TEXT, BINARY} else 0
        is_control = opcode >= CLOSE
        broken = (
            not second & _MASKED
            or opcode not in _OPCODES
            or first & _RSV & ~allowed
            or (is_control and (not first & _FIN or second & ~_MASKED > _MAX_CONTROL_BYTES))
            # Fragments follow each other: nothing begins within a message, and nothing continues outside of one.
            or (not is_control and bool(opcode) == bool(self._opcode))
        )
        if broken:
            raise FrameError(PROTOCOL_ERROR)


def close_code_of(payload: bytes) -> int | None:
    """The code in a close frame; None: it has none. Raises BrokenFrame for what RFC 6455 §5.5.1 and §7.4 forbid."""
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
    """§5.3. As numbers, because Python has no other way to combine many bytes at once."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


_CODES: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
_NOTHING: Final = bytearray()
"""Stands for an empty buffer, one for all connections; never added to."""
