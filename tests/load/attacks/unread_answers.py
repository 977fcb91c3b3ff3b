"""Answers that are not read: files of the browser client for anyone, and messages for clients that poll.

Before answers had a deadline and a bound, 500 clients without a token added 164 MB to the process and 1.5 GB to the
kernel, and 100 polling sessions 729 MB, for as long as they kept their connections open.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import aiohttp

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import PATH, RawPolling, http_session

CLIENTS = 500
PIPELINED = 20
SESSIONS = 100
MESSAGE_BYTES = 900_000
MESSAGES = 4
"""The messages that wait for each session. Together they are less than SEND_BUFFER_BYTES."""
ROOM = "unread-answers"
PAUSE_SECONDS = 0.5
"""Between two attempts of an attacker whose connection was closed."""
FILE = f"{PATH}socket.io.js.map"


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Leave answers unread on many connections, and open others for those that the gateway closes."""
    await asyncio.gather(leave_files_unread(gateway, until), leave_polls_unread(gateway, until))


async def leave_files_unread(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Request the largest file of the browser client on many connections, and read nothing."""
    request = f"GET {FILE} HTTP/1.1\r\nHost: gateway\r\nAccept-Encoding: identity\r\n\r\n".encode()
    await _until(until, *[_repeat(gateway, request * PIPELINED) for _ in range(CLIENTS)])


async def leave_polls_unread(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Open polling sessions of one user, wait until megabytes wait for each, and send polls without reading."""
    await _until(until, _leave_polls_unread(gateway))


async def _leave_polls_unread(gateway: GatewayProcess) -> None:
    token = gateway.token(f"unread-{secrets.token_hex(4)}", rooms=[ROOM])
    while True:
        with suppress(AssertionError, TimeoutError, aiohttp.ClientError, OSError):
            async with http_session() as http:
                sessions = [await RawPolling(http, gateway.url).open() for _ in range(SESSIONS)]
                for session in sessions:
                    await session.join(token)
                for _ in range(MESSAGES):
                    await asyncio.to_thread(
                        gateway.backend.push_room, ROOM, "large", secrets.token_hex(MESSAGE_BYTES // 2)
                    )
                async with asyncio.TaskGroup() as group:
                    for number, session in enumerate(sessions):
                        target = session.address.removeprefix(gateway.url)
                        coding = "gzip" if number % 2 else "identity"
                        head = f"GET {target} HTTP/1.1\r\nHost: gateway\r\nAccept-Encoding: {coding}\r\n\r\n"
                        request = head.encode()
                        group.create_task(_send_unread(gateway, request))
        await asyncio.sleep(PAUSE_SECONDS)


async def _repeat(gateway: GatewayProcess, requests: bytes) -> None:
    while True:
        with suppress(OSError):
            await _send_unread(gateway, requests)
        await asyncio.sleep(PAUSE_SECONDS)


async def _send_unread(gateway: GatewayProcess, requests: bytes) -> None:
    """Send requests on a connection and wait without reading until the gateway has closed it."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(connection, ("127.0.0.1", gateway.ports[0]))
        await loop.sock_sendall(connection, requests)
        while not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # noqa: ASYNC110  # no event for it
            await asyncio.sleep(PAUSE_SECONDS)


async def _until(until: asyncio.Event, *attackers: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.create_task(attacker) for attacker in attackers]
    try:
        await until.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
