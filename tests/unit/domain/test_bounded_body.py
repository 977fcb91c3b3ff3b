"""Bodies are collected up to their limit."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.bounded_body import ArrivingBodies, BodyDropped, BodyTooLarge, read_bounded


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


class Sender:
    """A body of which each ``send`` adds a chunk."""

    def __init__(self, arriving: ArrivingBodies, *, max_bytes: int = 100) -> None:
        self._chunks: asyncio.Queue[bytes | BodyDropped] = asyncio.Queue()
        self.body = asyncio.ensure_future(arriving.read(self._read, max_bytes, drop=self._drop))

    async def send(self, chunk: bytes) -> None:
        self._chunks.put_nowait(chunk)
        for _ in range(5):
            await asyncio.sleep(0)

    async def _read(self) -> bytes:
        chunk = await self._chunks.get()
        if isinstance(chunk, BodyDropped):
            raise chunk
        return chunk

    def _drop(self) -> None:
        self._chunks.put_nowait(BodyDropped())


async def test_body_that_began_first_makes_room_for_the_others() -> None:
    arriving = ArrivingBodies(max_bytes=10)
    first, second, third = (Sender(arriving) for _ in range(3))
    await second.send(b"12345")
    await first.send(b"123")
    await third.send(b"123")

    with pytest.raises(BodyDropped):
        await first.body
    assert (arriving.bytes, arriving.dropped) == (8, 1)

    await second.send(b"")
    await third.send(b"")
    assert (await second.body, await third.body) == (b"12345", b"123")
    assert (arriving.bytes, arriving.dropped) == (0, 1)


async def test_body_that_is_larger_than_the_room_for_all_is_dropped_itself() -> None:
    arriving = ArrivingBodies(max_bytes=10)
    body = Sender(arriving)
    await body.send(b"12345678901")

    with pytest.raises(BodyDropped):
        await body.body
    assert (arriving.bytes, arriving.dropped) == (0, 1)


async def test_body_that_is_too_large_or_cut_off_no_longer_counts() -> None:
    arriving = ArrivingBodies(max_bytes=10)
    large, cut_off = Sender(arriving, max_bytes=4), Sender(arriving)
    await large.send(b"12345")
    await cut_off.send(b"1234")
    cut_off.body.cancel()

    with pytest.raises(BodyTooLarge):
        await large.body
    await asyncio.wait([cut_off.body])
    assert (arriving.bytes, arriving.dropped) == (0, 0)
