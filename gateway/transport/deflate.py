"""permessage-deflate (RFC 7692): its negotiation, and compressing and inflating the payload of one message.

Neither side keeps a context between messages. So a message is compressed once for all its recipients, and a connection
holds no window of 32 KiB.
"""

from __future__ import annotations

import zlib
from typing import Final

_NAME: Final = "permessage-deflate"
_ANSWER: Final = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
_WINDOW_BITS: Final = 15
_TAIL: Final = b"\x00\x00\xff\xff"
"""Bytes that the sender removes and the receiver appends again (§7.2.1, §7.2.2)."""


class InflateError(Exception):
    """A message that is not compressed as RFC 7692 requires or, if ``too_large``, inflates beyond its limit."""

    def __init__(self, *, too_large: bool) -> None:
        super().__init__("too large" if too_large else "not compressed as RFC 7692 has it")
        self.too_large = too_large


def answer_offers(offers: str) -> str | None:
    """Return the answer to a ``Sec-WebSocket-Extensions`` header; None if it offers nothing that can be accepted.

    An offer that asks for a smaller window of the server is skipped (§7.1.2.1): such a client could not read a message
    that was compressed for the others.
    """
    for offer in offers.split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name == _NAME:
            answer = _answer(parameters)
            if answer is not None:
                return answer
    return None


def _answer(parameters: list[str]) -> str | None:
    answer, seen = _ANSWER, set()
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        value = value.strip('"')
        if name in seen:
            return None
        seen.add(name)
        match name:
            case "server_no_context_takeover" | "client_no_context_takeover" if not equals:
                continue
            case "client_max_window_bits" if not equals or _is_window(value):
                continue
            case "server_max_window_bits" if value == str(_WINDOW_BITS):
                answer += f"; {name}={value}"
            case _:
                return None
    return answer


def _is_window(value: str) -> bool:
    return value in {str(bits) for bits in range(8, _WINDOW_BITS + 1)}


def deflate(payload: bytes) -> bytes:
    """Compress a message, at the fastest level: messages are compressed on the event loop."""
    compressor = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, -_WINDOW_BITS)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)


def inflate(payload: bytes, *, limit_bytes: int) -> bytes:
    """Inflate a message. At most ``limit_bytes`` and one byte are produced.

    Raises: InflateError.
    """
    inflater = zlib.decompressobj(-_WINDOW_BITS)
    try:
        inflated = inflater.decompress(payload + _TAIL, limit_bytes + 1)
    except zlib.error as error:
        raise InflateError(too_large=False) from error
    if len(inflated) > limit_bytes:
        raise InflateError(too_large=True)
    # A sender may set the final bit of its last block; then an empty block follows, which _TAIL ends (§7.2.3.4).
    if inflater.eof and inflater.unused_data not in {_TAIL, b"\x00" + _TAIL}:
        raise InflateError(too_large=False)
    return inflated
