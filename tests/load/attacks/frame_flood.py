"""Unauthenticated clients flood WebSockets with frames that are no messages.

Pings, pongs, empty fragments, and Engine.IO pongs. A client that is disconnected opens another WebSocket a second
later; ``empty_handshakes`` is the attack by handshakes.

Before: one client at 0.9 MB/s took 47 % of a core, and 50 with 5 MB/s together 64 %; the median push rose from 0.7 to
22 ms.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress

import aiohttp

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket, http_session

CLIENTS = 50
BYTES_PER_SECOND = 100_000
"""Of each client."""
INTERVAL_SECONDS = 0.1
PAUSE_SECONDS = 1.0
MASK = bytes(4)
PING = b"\x89\x80" + MASK
PONG = b"\x8a\x80" + MASK
FRAGMENTS = b"\x01\x80" + MASK + (b"\x00\x80" + MASK) * 1000
ENGINE_PONG = b"\x81\x81" + MASK + b"3"
KINDS = {"pings": PING, "pongs": PONG, "fragments": FRAGMENTS, "Engine.IO pongs": ENGINE_PONG}


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Flood the gateway from CLIENTS WebSockets, each with one kind of frame."""
    kinds = itertools.islice(itertools.cycle(KINDS), CLIENTS)
    async with http_session() as http:
        await asyncio.gather(*(_flood(gateway, http, kind, until) for kind in kinds))


async def _flood(
    gateway: GatewayProcess, http: aiohttp.ClientSession, kind: str, until: asyncio.Event
) -> None:
    while not until.is_set():
        with suppress(OSError, aiohttp.ClientError, TimeoutError, AssertionError):
            socket = await RawSocket.open(http, gateway.url)
            await send_frames(socket, kind, until)
        with suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), PAUSE_SECONDS)


async def send_frames(socket: RawSocket, kind: str, until: asyncio.Event) -> None:
    """Send frames of a kind at BYTES_PER_SECOND until the gateway closes the WebSocket."""
    frame = KINDS[kind]
    size = int(BYTES_PER_SECOND * INTERVAL_SECONDS)
    # A fragmented message begins once; after that there are only further fragments.
    first, rest = frame, FRAGMENTS[6:] if kind == "fragments" else frame
    ended = asyncio.create_task(_read_to_end(socket))
    try:
        socket.write(first)
        while not (until.is_set() or ended.done()):
            socket.write(rest * (size // len(rest) + 1))
            await asyncio.wait([ended], timeout=INTERVAL_SECONDS)
    finally:
        ended.cancel()
        with suppress(asyncio.CancelledError, aiohttp.ClientError):
            await ended
        socket.socket._response.close()


async def _read_to_end(socket: RawSocket) -> None:
    while not socket.socket.closed:
        message = await socket.socket.receive()
        if message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSE}:
            return
