"""Bodies are collected up to their limit."""

from __future__ import annotations

import pytest

from gateway.domain.bounded_body import BodyTooLarge, read_bounded


class Chunks:
    """A reader of chunks that counts those that were read; empty at the end."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = iter(chunks)
        self.read = 0

    async def read_chunk(self) -> bytes:
        self.read += 1
        return next(self._chunks, b"")


@pytest.mark.parametrize("chunks", [(), (b"hello",), (b"he", b"llo!")])
async def test_chunks_are_joined_up_to_the_limit(chunks: tuple[bytes, ...]) -> None:
    assert await read_bounded(Chunks(*chunks).read_chunk, 6) == b"".join(chunks)


async def test_reading_stops_at_the_chunk_that_exceeds_the_limit() -> None:
    chunks = Chunks(b"123", b"4567", b"8")

    with pytest.raises(BodyTooLarge):
        await read_bounded(chunks.read_chunk, 6)

    assert chunks.read == 2
