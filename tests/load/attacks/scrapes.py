"""Scrapes of ``/metrics`` on a single port, where they are not signed, as many as the gateway answers.

Before: each took 8 to 18 ms of CPU time.
"""

from __future__ import annotations

import asyncio

from tests.load.attacks.wire import encode_request, send
from tests.support.gateway_process import GatewayProcess

AT_ONCE = 8


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Scrape over several connections at once until the event is set."""
    scrape = encode_request("GET", "/metrics", {"Connection": "close"})

    async def scrape_on() -> None:
        while not until.is_set():
            await send(gateway.ingest_url, [scrape], ends_with=b"python_info")

    await asyncio.gather(*(scrape_on() for _ in range(AT_ONCE)))
