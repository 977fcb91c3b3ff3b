"""Requests that never arrive whole: heads, trailers of bodies in chunks, requests behind a poll, and no byte at all.

Before, 300 clients with heads of 1 MB added 596 MB. With heads limited to 32 KiB each, 2 000 clients still added 141 MB
with them and 286 MB with bytes behind a poll, 60 with 3 MB of trailers 363 MB, and nothing limited how many there were.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import PATH

CLIENTS = 500
"""The clients of each kind."""
PAUSE_SECONDS = 0.5
HEAD = b"GET / HTTP/1.1\r\nHost: gateway\r\nCookie: "
POLL = f"{PATH}?EIO=4&transport=polling"


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Keep requests half sent on many connections, and open others for those that the gateway closes."""
    kinds = (_long_head, _many_pieces, _endless_trailers, _behind_a_poll, _nothing)
    tasks = [asyncio.create_task(_repeat(kind, gateway)) for kind in kinds for _ in range(CLIENTS)]
    try:
        await until.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _repeat(kind: Any, gateway: GatewayProcess) -> None:
    loop = asyncio.get_running_loop()
    while True:
        with suppress(OSError, ValueError), socket.socket() as connection:
            connection.setblocking(False)
            await loop.sock_connect(connection, ("127.0.0.1", gateway.ports[0]))
            sending: Coroutine[Any, Any, None] = kind(loop, connection)
            async with asyncio.timeout(60):
                await sending
                while await loop.sock_recv(connection, 4096):
                    pass
        await asyncio.sleep(PAUSE_SECONDS)


async def _long_head(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    await loop.sock_sendall(connection, HEAD + b"x" * (32_000 - len(HEAD)))


async def _many_pieces(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    await loop.sock_sendall(connection, HEAD)
    for _ in range(20):
        await loop.sock_sendall(connection, b"x" * 10)
        await asyncio.sleep(PAUSE_SECONDS)


async def _endless_trailers(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    sid = await _open_session(loop, connection)
    head = f"POST {POLL}&sid={sid} HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    await loop.sock_sendall(connection, head.encode())
    for number in range(100):
        await loop.sock_sendall(connection, f"X-{number}: ".encode() + b"x" * 30_000 + b"\r\n")


async def _behind_a_poll(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    sid = await _open_session(loop, connection)
    await loop.sock_sendall(connection, f"GET {POLL}&sid={sid} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
    await loop.sock_sendall(connection, b"x" * 200_000)


async def _open_session(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> str:
    """Open a polling session without a token; return its sid. Raises ValueError if that is rejected."""
    await loop.sock_sendall(connection, f"GET {POLL} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
    answer = await loop.sock_recv(connection, 65_536)
    body = answer.partition(b"\r\n\r\n")[2] or await loop.sock_recv(connection, 65_536)
    if b'"sid"' not in body:
        raise ValueError(body)
    return str(json.loads(body[1:])["sid"])


async def _nothing(_loop: asyncio.AbstractEventLoop, _connection: socket.socket) -> None:
    """Send no byte."""
