"""The body of a request, collected up to a limit; the caller supplies the reader of its chunks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable


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
