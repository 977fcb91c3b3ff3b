"""An HTTP server of a backend that answers with the bytes of a test, well or badly."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class Request:
    """A request as it was received; header names are lower case. ``number`` counts those of its connection from 1."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int
    number: int


Reply = Callable[[Request, asyncio.StreamWriter], Awaitable[bool | None]]
"""Writes an answer; returns whether the connection is kept alive."""


@dataclass
class WebhookServer:
    """Records requests and answers each by ``reply``. ``received`` is set by each request, ``ended`` by each end."""

    reply: Reply
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    received: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection, number = self.connections, 0
        try:
            while (request := await _read(reader, connection, number + 1)) is not None:
                number += 1
                self.requests.append(request)
                self.received.set()
                if not await self.reply(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended.set()
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, connection: int, number: int) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    line, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(line, headers, body, connection, number)


def answer(status: int, body: bytes = b"", *headers: str) -> Reply:
    """Return a reply that keeps the connection alive."""

    async def reply(_request: Request, writer: asyncio.StreamWriter) -> bool:
        writer.write(response(status, body, *headers))
        await writer.drain()
        return True

    return reply


def response(status: int, body: bytes = b"", *headers: str) -> bytes:
    """Return the bytes of a response."""
    lines = [f"HTTP/1.1 {status} Text", *headers, f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def serving(reply: Reply, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[WebhookServer]:
    """Run a server on a free port of the loopback address."""
    webhook_server = WebhookServer(reply)
    tasks: set[asyncio.Task[None]] = set()

    def on_connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(webhook_server.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(on_connected, "127.0.0.1", free_port(), ssl=tls)
    webhook_server.port = server.sockets[0].getsockname()[1]
    try:
        yield webhook_server
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
