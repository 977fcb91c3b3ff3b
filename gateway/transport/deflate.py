"""permessage-deflate (RFC 7692): what is negotiated, and the payload of one message compressed and inflated.

Neither side keeps a context between messages. So a message is compressed once and sent to everyone, and a connection
holds no window of 32 KiB.
"""

from __future__ import annotations

import zlib
from typing import Final

_NAME: Final = "permessage-deflate"
_ANSWER: Final = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
_WINDOW_BITS: Final = 15
_TAIL: Final = b"\x00\x00\xff\xff"
"""What the sender leaves out and the receiver puts back (§7.2.1, §7.2.2)."""


class CannotInflate(Exception):
    """No compressed message, or one that is too large; ``too_large`` tells which."""

    def __init__(self, *, too_large: bool) -> None:
        super().__init__("too large" if too_large else "not compressed as RFC 7692 has it")
        self.too_large = too_large


def answer_offers(offers: str) -> str | None:
    """The answer to a ``Sec-WebSocket-Extensions``; None: nothing there that can be accepted.

    Who asks for a smaller window could not read what the others get; that offer is passed over (§7.1.2.1).
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
    """A message as it goes out; at the fastest level, since pushes are compressed on the event loop."""
    compressor = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, -_WINDOW_BITS)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)


def inflate(payload: bytes, *, limit_bytes: int) -> bytes:
    """A message as it was before; never makes more than ``limit_bytes`` and one. Raises CannotInflate."""
    inflater = zlib.decompressobj(-_WINDOW_BITS)
    try:
        inflated = inflater.decompress(payload + _TAIL, limit_bytes + 1)
    except zlib.error as error:
        raise CannotInflate(too_large=False) from error
    if len(inflated) > limit_bytes:
        raise CannotInflate(too_large=True)
    # A sender may mark its last block as the last; then an empty one follows, put together with our tail (§7.2.3.4).
    if inflater.eof and inflater.unused_data not in {_TAIL, b"\x00" + _TAIL}:
        raise CannotInflate(too_large=False)
    return inflated
