"""A TCP connection on which a test writes any bytes and reads HTTP responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawConnection:
    """One connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    @property
    def bytes_waiting(self) -> int:
        """Bytes that were sent and have not left this process."""
        return self._writer.transport.get_write_buffer_size()

    async def read_response(self) -> Response:
        """Read the next response."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)
            }
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Response(int(first.split()[1]), headers, body)

    async def read_to_end(self) -> bytes:
        """Read everything until the server closes."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    async def read_until(self, end: bytes) -> bytes:
        """Read until these bytes have arrived."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            received = b""
            while end not in received:
                received += await self._reader.read(65_536)
            return received

    async def is_silent_for(self, seconds: float) -> bool:
        """Whether the server neither sends anything nor closes in that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._reader.read(1)
        except TimeoutError:
            return True
        return False

    def reset(self) -> None:
        """Abort the connection."""
        self._writer.transport.abort()


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[RawConnection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
