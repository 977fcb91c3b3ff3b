"""Bodies that never end and name the id of a key, and connections that are kept alive after a rejected body.

Before: a wave of 200 uploads that were cut off after 1 MiB took the gateway from 80 to 1 028 MB, and 1 000 idle
connections kept the bodies of requests that were answered long before, 250 kB each.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

from tests.load.attacks.wire import encode_request
from tests.support.gateway_process import GatewayProcess

UPLOADS = 200
IDLE_CONNECTIONS = 300
BODY_BYTES = 1_000_000
IDLE_BYTES = 250_000
HOLD_SECONDS = 3.0
"""Less than REQUEST_TIMEOUT_SECONDS, so that nothing but a bound of the gateway ends an upload."""


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Hold unfinished uploads in waves, and connections whose requests were rejected, until the event is set."""
    target = "/emit/user/1"
    announced = {"Content-Type": "application/json", "Content-Length": str(BODY_BYTES + 1)}
    unknown = "/socket.io/?EIO=4&transport=polling&sid=unknown"
    idle = encode_request("POST", unknown, {}, b"x" * IDLE_BYTES)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(IDLE_CONNECTIONS):
            tasks.create_task(_hold(gateway.url, idle, until, seconds=10 * HOLD_SECONDS))
        while not until.is_set():
            async with asyncio.TaskGroup() as wave:
                for _ in range(UPLOADS):
                    headers = gateway.backend.sign("POST", target) | announced
                    upload = encode_request("POST", target, headers) + b"x" * BODY_BYTES
                    wave.create_task(_hold(gateway.ingest_url, upload, until, seconds=HOLD_SECONDS))


async def _hold(url: str, data: bytes, until: asyncio.Event, *, seconds: float) -> None:
    """Send bytes, hold the connection for a time, and cut it off."""
    address = urlsplit(url)
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                writer.write(data)
                await writer.drain()
                await until.wait()
            finally:
                writer.transport.abort()
