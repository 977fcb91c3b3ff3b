"""One user who parks connections and then resumes all of them.

As many connections as one user may have are opened and dropped, again and again, so that none of them is rejected. Then
all of them are resumed and kept open.

Before resumed connections counted, a user with a limit of 20 had 120 connections at once.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import aiohttp

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import connect_packet, http_session

USER = "parker"
ROUNDS = 6
CONNECTIONS = 20
"""Connections of a round."""
SECONDS = 10.0


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Park connections and resume them, again and again, until the event is set."""
    token = gateway.token(USER)
    while not until.is_set():
        async with http_session() as http:
            pids: list[str] = []
            for _ in range(ROUNDS):
                opened = await _open(http, gateway, [{"token": token}] * CONNECTIONS)
                pids += [pid for _, pid in opened]
                for socket, _ in opened:
                    socket._response.close()  # without a close frame: the session is parked
            await _open(http, gateway, [{"token": token, "pid": pid} for pid in pids])
            with suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), timeout=2)


async def _open(
    http: aiohttp.ClientSession, gateway: GatewayProcess, auths: list[dict[str, str]]
) -> list[tuple[aiohttp.ClientWebSocketResponse, str]]:
    """Connect with each; return those that were accepted, with their pids."""
    opened = await asyncio.gather(*(_connect(http, gateway, auth) for auth in auths))
    return [each for each in opened if each is not None]


async def _connect(
    http: aiohttp.ClientSession, gateway: GatewayProcess, auth: dict[str, str]
) -> tuple[aiohttp.ClientWebSocketResponse, str] | None:
    url = f"{gateway.url.replace('http', 'ws', 1)}/socket.io/?EIO=4&transport=websocket"
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(SECONDS):
            socket = await http.ws_connect(url, max_msg_size=0)
            await socket.send_str(connect_packet(recovery=True, **auth))
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT and message.data.startswith("40"):
                    return socket, json.loads(message.data[2:])["pid"]
                if message.type is not aiohttp.WSMsgType.TEXT or message.data.startswith("44"):
                    socket._response.close()
                    return None
    return None
