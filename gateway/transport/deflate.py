"""Compression: of WebSocket messages (permessage-deflate, RFC 7692) and of HTTP answers (gzip), with their negotiation.

WebSocket: neither side keeps a context between messages. So a message is compressed once for all its recipients, and a
connection holds no window of 32 KiB.

HTTP: equal answers to polls, such as one broadcast to many clients, are compressed once. Large ones are compressed in a
thread, one at a time, so that the event loop is not blocked.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

_NAME: Final = "permessage-deflate"
_ANSWER: Final = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
_WINDOW_BITS: Final = 15
_TAIL: Final = b"\x00\x00\xff\xff"
"""Bytes that the sender removes and the receiver appends again (§7.2.1, §7.2.2)."""
MAX_LOOP_BYTES: Final = 32 * 1024
"""Larger payloads are compressed in a thread: this one takes less than a millisecond, 1 MiB more than ten."""
MAX_RUNNING_BYTES: Final = 8 * 1024 * 1024
"""While as many bytes are being compressed or wait for it, further large payloads are sent as they are."""
_CONNECT: Final = b"40"
_SEPARATED_CONNECT: Final = b"\x1e40"
_QUALITY: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


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


class Accepted:
    """What the lines of an ``Accept-Encoding`` header accept. Without such a header nothing is compressed."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._qualities: dict[str, float] = {}
        for item in ",".join(lines).lower().split(","):
            coding, *parameters = (part.strip() for part in item.split(";"))
            if coding:
                name = "gzip" if coding == "x-gzip" else coding
                self._qualities[name] = _quality(parameters)

    @property
    def gzip(self) -> bool:
        """Whether gzip is accepted, and no less wanted than the answer as it is."""
        quality = self._qualities.get("gzip", self._qualities.get("*", 0.0))
        return quality > 0 and quality >= self._qualities.get("identity", 0.0)

    @property
    def identity(self) -> bool:
        """Whether the answer as it is is accepted."""
        return self._qualities.get("identity", self._qualities.get("*", 1.0)) > 0


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            text = value.strip()
            return float(text) if _QUALITY.fullmatch(text) else 0.0
    return 1.0


class PollCompressor:
    """Compresses the answers to polls from a size on."""

    def __init__(self, from_bytes: int | None) -> None:
        """``from_bytes``: payloads of this size and above are compressed; None: none is."""
        self._from_bytes = from_bytes
        self._one_thread = asyncio.Semaphore(1)
        self._running: dict[bytes, asyncio.Task[bytes]] = {}
        """The compression of each large payload that is not finished."""
        self._running_bytes = 0
        self._latest: tuple[bytes, bytes] = (b"", b"")
        """The large payload that was compressed last, and its compressed form."""

    async def compress(self, payload: bytes, lines: Sequence[str]) -> bytes | None:
        """Compress a payload with gzip; return None if it is to be sent as it is.

        ``lines``: those of ``Accept-Encoding``. A payload with a CONNECT packet is not compressed. It holds the secret
        of the recovery session, perhaps beside a text of another client, and its length must not depend on both.
        """
        if self._from_bytes is None or len(payload) < self._from_bytes or not lines:
            return None
        if not Accepted(lines).gzip or payload.startswith(_CONNECT) or _SEPARATED_CONNECT in payload:
            return None
        if len(payload) <= MAX_LOOP_BYTES:
            compressed = _gzip(payload)
        elif self._latest[0] == payload:
            compressed = self._latest[1]
        elif payload in self._running or self._running_bytes < MAX_RUNNING_BYTES:
            compressed = await self._compress_in_thread(payload)
        else:
            return None
        return compressed if len(compressed) < len(payload) else None

    async def _compress_in_thread(self, payload: bytes) -> bytes:
        task = self._running.get(payload)
        if task is None:
            self._running_bytes += len(payload)
            task = asyncio.create_task(self._run(payload), name="compress poll")
            self._running[payload] = task
        # A client that closes its connection must not end the compression that others wait for.
        return await asyncio.shield(task)

    async def _run(self, payload: bytes) -> bytes:
        try:
            async with self._one_thread:
                compressed = await asyncio.to_thread(gzip.compress, payload, zlib.Z_BEST_SPEED, mtime=0)
            self._latest = payload, compressed
            return compressed
        finally:
            self._running_bytes -= len(payload)
            del self._running[payload]


@lru_cache(maxsize=16)
def _gzip(payload: bytes) -> bytes:
    return gzip.compress(payload, zlib.Z_BEST_SPEED, mtime=0)
