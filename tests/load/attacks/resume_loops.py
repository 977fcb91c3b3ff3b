"""One user whose clients reconnect in a loop and ask for the whole history each time.

Twenty clients side by side: half of them send an old position as ``auth.resume``, half resume one session again and
again with an old offset. The rooms hold a few thousand messages for the user, and as many that the user is excluded
from, so that pages are read of which nothing is sent. Each client leaves as soon as something arrived.

Before replays had a budget, pushes of others took 146 to 172 ms at the median with Redis, and 2 ms without the attack.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, NamedTuple, cast

import aiohttp

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import connect_packet, http_session

CLIENTS = 20
MESSAGES = 2_000
MESSAGE_BYTES = 2_000
PUSHES_AT_ONCE = 20
READ_SECONDS = 2.0
PAUSE_SECONDS = 0.05
"""Between two connects of a client that failed, so that the attack itself needs little."""
ROOM = "org:resume-loops"

Frames = aiohttp.ClientWebSocketResponse


class Session(NamedTuple):
    """What a client needs to resume its connection."""

    pid: str
    position: str


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Fill the history, then reconnect until the event is set."""
    async with http_session() as http:
        while (session := await begin(http, gateway)) is None:
            if until.is_set():
                return
            await asyncio.sleep(PAUSE_SECONDS)  # other attacks take all connections at times
        await fill_history(http, gateway, until)
        await reconnect(http, gateway, session, until)


async def begin(http: aiohttp.ClientSession, gateway: GatewayProcess) -> Session | None:
    """Connect once; return the pid and the position of the connection."""
    return cast("Session | None", await _connect(http, gateway, {"token": token(gateway)}, _read_session))


async def reconnect(
    http: aiohttp.ClientSession, gateway: GatewayProcess, session: Session, until: asyncio.Event
) -> None:
    """Reconnect with all clients until the event is set."""
    requests = (
        {"token": token(gateway), "resume": session.position},
        {"token": token(gateway), "pid": session.pid, "offset": session.position},
    )
    await asyncio.gather(*(_loop(http, gateway, requests[n % 2], until) for n in range(CLIENTS)))


async def fill_history(http: aiohttp.ClientSession, gateway: GatewayProcess, until: asyncio.Event) -> int:
    """Push to the room; return the number of messages that are for the user, which is every other one."""
    numbers = count()
    text = "x" * MESSAGE_BYTES
    for_user = 0

    async def push() -> None:
        nonlocal for_user
        while (number := next(numbers)) < 2 * MESSAGES and not until.is_set():
            body: dict[str, Any] = {"room": ROOM, "event": "e", "data": text}
            if number % 2:
                body["except"] = ["user:resume-loops"]
            content = json.dumps(body).encode()
            headers = gateway.backend.sign("POST", "/emit/room", content)
            headers["Content-Type"] = "application/json"
            with suppress(aiohttp.ClientError, TimeoutError):
                async with http.post(
                    f"{gateway.ingest_url}/emit/room", data=content, headers=headers
                ) as answer:
                    for_user += answer.status == 200 and not number % 2

    await asyncio.gather(*(push() for _ in range(PUSHES_AT_ONCE)))
    return for_user


def token(gateway: GatewayProcess) -> str:
    """Return a token of the user."""
    return gateway.token("resume-loops", orgId=ROOM.removeprefix("org:"))


async def _loop(
    http: aiohttp.ClientSession, gateway: GatewayProcess, auth: dict[str, str], until: asyncio.Event
) -> None:
    while not until.is_set():
        if await _connect(http, gateway, auth, partial(_read_until_replayed, until)) is None:
            await asyncio.sleep(PAUSE_SECONDS)


async def _connect(
    http: aiohttp.ClientSession,
    gateway: GatewayProcess,
    auth: dict[str, str],
    read: Callable[[Frames], Awaitable[Any]],
) -> Any:
    """Open a WebSocket, send CONNECT and read; None if that failed."""
    url = f"{gateway.url.replace('http', 'ws', 1)}/socket.io/?EIO=4&transport=websocket"
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(60):
            socket = await http.ws_connect(url, max_msg_size=0)
            try:
                await socket.send_str(connect_packet(recovery=True, **auth))
                return await read(socket)
            finally:
                # As a page that is left: no close handshake, so the session can be resumed.
                if (connection := socket._response.connection) is not None and connection.transport:
                    connection.transport.abort()
    return None


async def _read_session(socket: Frames) -> Session | None:
    """Return the pid and the position of a new connection."""
    pid = ""
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        if message.data.startswith("40"):
            pid = json.loads(message.data[2:])["pid"]
        elif message.data.startswith('42["authenticated"'):
            return Session(pid, json.loads(message.data[2:])[2])
    return None


async def _read_until_replayed(until: asyncio.Event, socket: Frames) -> bool | None:
    """Read until messages or ``authenticated`` arrive; None if the connection ended instead."""
    with suppress(TimeoutError):
        async with asyncio.timeout(READ_SECONDS):
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return None
                if message.data.startswith("42"):
                    return True
                if message.data == "2":
                    await socket.send_str("3")
            return None
    return True
