"""One user with one token connects, joins and drops the transport, in a loop, from many sockets at once.

Before: disconnects went to Redis one after the other, 39 a second with a round trip of 10 ms, from a queue without
bound. Pushes answered ``connections: 14377`` while no client was connected, and for minutes afterwards. Each time a
session was left for four minutes.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import PATH, connect_packet, http_session

SOCKETS = 32
USER = "leaver"
SECONDS = 5.0


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Connect and leave until the event is set."""
    token = gateway.token(USER)
    async with http_session() as http:
        await asyncio.gather(*(_connect_and_leave(http, gateway, token, until) for _ in range(SOCKETS)))


async def _connect_and_leave(
    http: aiohttp.ClientSession, gateway: GatewayProcess, token: str, until: asyncio.Event
) -> None:
    address = f"{gateway.url.replace('http', 'ws', 1)}{PATH}?EIO=4&transport=websocket"
    while not until.is_set():
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with asyncio.timeout(SECONDS):
                socket = await http.ws_connect(address, autoclose=False)
                await socket.receive()
                await socket.send_str(connect_packet(token, recovery=True))
                await socket.receive()
                socket._response.close()  # without a close frame, as a client that loses its network
