"""Every browser offers permessage-deflate (RFC 7692). By default the gateway does not accept the offer."""

from __future__ import annotations

import json

import aiohttp

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket


async def test_compression_offer_is_not_accepted_and_large_messages_arrive_uncompressed(
    gateway_process: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    client = await RawSocket.open(http, gateway_process.url, compress=15)
    await client.join(gateway_process.token(user))

    gateway_process.push_user(user, "note", "x" * 100_000)

    assert json.loads((await client.frame())[2:])[:2] == ["note", "x" * 100_000]
    assert client.socket.compress == 0
    assert "Sec-WebSocket-Extensions" not in client.socket._response.headers
    await client.socket.close()
