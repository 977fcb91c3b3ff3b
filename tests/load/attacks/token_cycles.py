"""One user joins and leaves a namespace in a loop, and sends its token in a loop; others send bad tokens in a loop.

Each join costs several round trips of the shared state, each token the check of its signature. ``connect_and_leave``
opens a transport for each join; here each transport sends as much as MESSAGE_RATE allows.

Before: 90 transports took 57 % of a core with Redis, and the median push rose from 1.6 to 4 ms.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import aiohttp

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket, connect_packet, http_session

CLIENTS_OF_A_KIND = 30
USER = "cycling"
PAUSE_SECONDS = 1.0
PER_SECOND = 40
"""Packets of each client: less than MESSAGE_RATE."""


def packets_of(kind: str, gateway: GatewayProcess) -> list[str]:
    """Return the packets that a client of a kind repeats."""
    token = gateway.token(USER)
    return {
        "join and leave": [connect_packet(token, recovery=True), "41"],
        "refresh": [f'420["auth:refresh",{json.dumps(token)}]'],
        "bad tokens": [connect_packet(token[:-10] + "A" * 10)],
    }[kind]


KINDS = ("join and leave", "refresh", "bad tokens")


async def attack(gateway: GatewayProcess, until: asyncio.Event, *, kinds: tuple[str, ...] = KINDS) -> None:
    """Repeat the packets of each kind on transports of its own; one that ended is replaced after a pause."""
    async with http_session() as http:
        await asyncio.gather(
            *(_repeat(kind, gateway, http, until) for kind in kinds for _ in range(CLIENTS_OF_A_KIND))
        )


async def _repeat(
    kind: str, gateway: GatewayProcess, http: aiohttp.ClientSession, until: asyncio.Event
) -> None:
    while not until.is_set():
        with suppress(OSError, aiohttp.ClientError, TimeoutError, AssertionError):
            socket = await RawSocket.open(http, gateway.url)
            await send_packets(socket, kind, gateway, until)
        with suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), PAUSE_SECONDS)


async def send_packets(socket: RawSocket, kind: str, gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Send packets of a kind until the gateway closes the WebSocket."""
    if kind == "refresh":
        await socket.join(gateway.token(USER))
    packets = packets_of(kind, gateway)
    ended = asyncio.create_task(socket.closed(seconds=60))
    try:
        while not (until.is_set() or ended.done()):
            await socket.send(*packets)
            await asyncio.wait([ended], timeout=len(packets) / PER_SECOND)
    finally:
        ended.cancel()
        with suppress(asyncio.CancelledError, aiohttp.ClientError, TimeoutError):
            await ended
        socket.socket._response.close()
