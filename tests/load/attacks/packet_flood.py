"""Unauthenticated clients flood the polling transport: POSTs with thousands of packets, POSTs and upgrades in a loop.

Before: 15 clients took 58 % of a core for as long as they liked, and the median push rose from 0.9 to 2.2 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import SEPARATOR, RawPolling, RawSocket, http_session

PONGS = SEPARATOR.join(["3"] * 16_000)
"""Just less than MAX_UNAUTHENTICATED_FRAME_BYTES."""
CLIENTS_OF_A_KIND = 5
PAUSE_SECONDS = 1.0


async def post_many(polling: RawPolling, http: aiohttp.ClientSession, gateway: GatewayProcess) -> bool:
    """Post thousands of packets; return whether the session is still open."""
    return (await polling.post(PONGS))[0] == 200


async def post_one(polling: RawPolling, http: aiohttp.ClientSession, gateway: GatewayProcess) -> bool:
    """Post one packet; return whether the session is still open."""
    return (await polling.post("3"))[0] == 200


async def upgrade(polling: RawPolling, http: aiohttp.ClientSession, gateway: GatewayProcess) -> bool:
    """Begin an upgrade and abandon it; return whether the session is still open."""
    address = f"{gateway.url.replace('http', 'ws', 1)}/socket.io/?EIO=4&transport=websocket&sid={polling.sid}"
    try:
        socket = RawSocket(await http.ws_connect(address))
    except aiohttp.WSServerHandshakeError:
        return False
    try:
        await socket.send("2probe")
        return await socket.frame() == "3probe"
    except AssertionError:
        return False
    finally:
        await socket.socket.close()


Step = Callable[[RawPolling, aiohttp.ClientSession, GatewayProcess], Awaitable[bool]]
STEPS: tuple[Step, ...] = (post_many, post_one, upgrade)


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Repeat each step in sessions of its own; a session that ended is replaced after a pause."""
    async with http_session() as http:
        await asyncio.gather(
            *(_repeat(step, gateway, http, until) for step in STEPS for _ in range(CLIENTS_OF_A_KIND))
        )


async def _repeat(
    step: Step, gateway: GatewayProcess, http: aiohttp.ClientSession, until: asyncio.Event
) -> None:
    while not until.is_set():
        with suppress(OSError, aiohttp.ClientError, TimeoutError, AssertionError):
            polling = await RawPolling(http, gateway.url).open()
            while not until.is_set() and await step(polling, http, gateway):
                pass
        with suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), PAUSE_SECONDS)
