"""Requests without a signature, handshakes and tokens that are rejected, as many as the gateway answers.

Before: 12 864 of them in 10 s wrote as many log lines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from tests.load.attacks.wire import encode_request, send, text_frame
from tests.support.gateway_process import GatewayProcess

CONNECTIONS = 6
_PIPELINED = 50
_WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Send requests that are rejected on some connections, many before an answer is read, until the event is set."""
    requests = [
        encode_request("POST", "/broadcast", {}, b"{}"),
        encode_request("GET", "/socket.io/?EIO=3&transport=polling", {}),
        encode_request("GET", "/nowhere", {}),
    ]
    handshake = encode_request("GET", "/socket.io/?EIO=4&transport=websocket", _WEBSOCKET)
    bad_token = handshake + text_frame('40{"token":"a.b.c"}')
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(_pipeline(gateway.url, requests, until))
        while not until.is_set():
            await send(gateway.url, [bad_token], ends_with=b"44{")


async def _pipeline(url: str, requests: Sequence[bytes], until: asyncio.Event) -> None:
    address = urlsplit(url)
    while not until.is_set():
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                while not until.is_set():
                    writer.write(b"".join([*requests] * (_PIPELINED // len(requests))))
                    async with asyncio.timeout(10):
                        for _ in range(_PIPELINED // len(requests) * len(requests)):
                            head = await reader.readuntil(b"\r\n\r\n")
                            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                            await reader.readexactly(int(length))
            finally:
                writer.transport.abort()
