"""Tokens whose key ids are made up, each another one, so that the gateway looks for their keys.

Before: such a token spent the one fetch of the key set in 30 seconds. After a rotation, tokens of the new key were held
for 5 seconds and then disconnected, again and again for up to 30 seconds.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from base64 import urlsafe_b64encode
from contextlib import suppress

import aiohttp

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket, connect_packet, http_session

CLIENTS = 40
PAUSE_SECONDS = 0.05
_ANSWER_SECONDS = 10.0


def made_up_token() -> str:
    """Return a token with a random key id and signature."""
    header = {"alg": "RS256", "typ": "JWT", "kid": secrets.token_hex(8)}
    claims = {"sub": "attacker", "exp": int(time.time()) + 3600}
    return ".".join(
        urlsafe_b64encode(part).rstrip(b"=").decode()
        for part in (json.dumps(header).encode(), json.dumps(claims).encode(), secrets.token_bytes(256))
    )


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Connect with such tokens from many clients at once, until the event is set."""

    async def connect_again(http: aiohttp.ClientSession) -> None:
        while not until.is_set():
            with suppress(aiohttp.ClientError, OSError, AssertionError, TimeoutError):
                socket = await RawSocket.open(http, gateway.url)
                await socket.send(connect_packet(made_up_token()))
                await socket.closed(_ANSWER_SECONDS)
                socket.abort()
            await asyncio.sleep(PAUSE_SECONDS)

    async with http_session() as http:
        clients = [asyncio.create_task(connect_again(http)) for _ in range(CLIENTS)]
        await until.wait()
        for client in clients:
            client.cancel()
        await asyncio.wait(clients)
