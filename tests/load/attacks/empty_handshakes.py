"""Unauthenticated clients open Engine.IO sessions as fast as they can and never send a token.

Before: 5 000 handshakes of one address in 3.8 s filled MAX_UNAUTHENTICATED, and all others got 503 for 42 s.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

from tests.support.gateway_process import GatewayProcess

CLIENTS = 20
PIPELINED = 10
"""Handshakes in one write."""
READ_BYTES = 65_536


async def attack(gateway: GatewayProcess, until: asyncio.Event, *, address: str | None = None) -> None:
    """Open polling sessions and abandon them; with ``address`` as a trusted proxy would forward them from there."""
    await asyncio.gather(*(_open_sessions(gateway, until, address) for _ in range(CLIENTS)))


async def _open_sessions(gateway: GatewayProcess, until: asyncio.Event, address: str | None) -> None:
    forwarded = "" if address is None else f"X-Forwarded-For: {address}\r\n"
    request = f"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: gateway\r\n{forwarded}\r\n".encode()
    target = urlsplit(gateway.url)
    while not until.is_set():
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(target.hostname, target.port)
            try:
                await _repeat(reader, writer, request, until)
            finally:
                writer.transport.abort()


async def _repeat(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, until: asyncio.Event
) -> None:
    """Send requests until the gateway closes the connection, as it does after each 503."""
    answers = 0
    while not until.is_set():
        if not answers:
            writer.write(request * PIPELINED)
            answers = PIPELINED
        received = await reader.read(READ_BYTES)
        if not received:
            return
        answers = max(0, answers - received.count(b"HTTP/1.1 "))
