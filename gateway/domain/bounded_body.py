"""The bodies of requests, each collected up to a limit and all within one; the caller supplies the reader of chunks.

WebSocket messages that have not arrived whole count as bodies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final


class BodyTooLarge(Exception):
    """A body has more bytes than its limit allows."""


async def read_bounded(read_chunk: Callable[[], Awaitable[bytes]], max_bytes: int) -> bytes:
    """Join the chunks of a body until an empty one is read. At most ``max_bytes`` and one chunk are held.

    Raises: BodyTooLarge at the first chunk that exceeds ``max_bytes``; the rest is not read.
    """
    body = bytearray()
    while chunk := await read_chunk():
        body += chunk
        if len(body) > max_bytes:
            raise BodyTooLarge
    return bytes(body)


MAX_ARRIVING_BYTES: Final = 64 * 1024 * 1024
"""Bytes of all bodies that have not arrived whole: 50 pushes of 1 MiB at once are within it."""
MIN_LARGEST_BODIES: Final = 8
"""Bodies of the largest size that are held at once at least."""


class BodyDropped(Exception):
    """A body was dropped while it arrived, to make room for others."""


class ArrivingBodies:
    """Bounds the bytes of all bodies that have not arrived whole; their signatures cannot be checked yet.

    The body that began first is dropped to make room: one that is sent at a normal speed is seldom that. So senders
    that stop in the middle do not keep others out.
    """

    def __init__(self, *, max_bytes: int = MAX_ARRIVING_BYTES) -> None:
        self.bytes = 0
        """Bytes that are held now."""
        self.dropped = 0
        """Number of bodies that were dropped."""
        self._max_bytes = max_bytes
        self._bodies: dict[ArrivingBody, None] = {}
        """In the order in which they began."""

    async def read(
        self, read_chunk: Callable[[], Awaitable[bytes]], max_bytes: int, *, drop: Callable[[], None]
    ) -> bytes:
        """Join the chunks of a body as ``read_bounded`` does. ``drop`` lets a waiting ``read_chunk`` raise BodyDropped.

        Raises: BodyTooLarge; BodyDropped; errors of ``read_chunk``.
        """
        body = self.begin(drop)

        async def read_counted() -> bytes:
            chunk = await read_chunk()
            self.hold(body, body.bytes + len(chunk))
            return chunk

        try:
            return await read_bounded(read_counted, max_bytes)
        finally:
            self.release(body)

    def begin(self, drop: Callable[[], None]) -> ArrivingBody:
        """Return a new body. ``drop`` is called when it makes room for others."""
        body = ArrivingBody(drop)
        self._bodies[body] = None
        return body

    def hold(self, body: ArrivingBody, count: int) -> None:
        """Note that ``count`` bytes of a body are held now; drop bodies if the sum exceeds the limit.

        Raises: BodyDropped if this one was or is dropped; its ``drop`` is not called now.
        """
        if body not in self._bodies:
            raise BodyDropped
        self.bytes += count - body.bytes
        body.bytes = count
        while self.bytes > self._max_bytes:
            first = next(iter(self._bodies))
            self.release(first)
            self.dropped += 1
            if first is body:
                raise BodyDropped
            first.drop()

    def release(self, body: ArrivingBody) -> None:
        """Note that a body has arrived whole, or that its sender is gone."""
        if body in self._bodies:
            del self._bodies[body]
            self.bytes -= body.bytes


class ArrivingBody:
    """A body that has not arrived whole."""

    __slots__ = ("bytes", "drop")

    def __init__(self, drop: Callable[[], None]) -> None:
        self.bytes = 0
        self.drop = drop
