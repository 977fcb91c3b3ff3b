"""Every browser offers permessage-deflate (RFC 7692); by default the gateway does not take it up."""

from __future__ import annotations

import json

import aiohttp

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket


async def test_compression_is_not_negotiated_and_large_messages_arrive_as_they_are(
    gateway_process: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    offering = await RawSocket.open(http, gateway_process.url, compress=15)
    await offering.join(gateway_process.token(user))

    gateway_process.push_user(user, "note", "x" * 100_000)

    assert json.loads((await offering.frame())[2:])[:2] == ["note", "x" * 100_000]
    assert offering.socket.compress == 0
    assert "Sec-WebSocket-Extensions" not in offering.socket._response.headers
    await offering.socket.close()
