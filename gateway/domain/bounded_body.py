"""The body of a request, collected up to a limit; the caller awaits the chunks."""

from __future__ import annotations

from collections.abc import AsyncIterable


class BodyTooLarge(Exception):
    """A body has more bytes than its limit allows."""


async def read_bounded(chunks: AsyncIterable[bytes], max_bytes: int) -> bytes:
    """Join the chunks of a body. At most ``max_bytes`` and one chunk are held.

    Raises:
        BodyTooLarge: at the first chunk that exceeds ``max_bytes``. The rest is not read.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise BodyTooLarge
    return bytes(body)
