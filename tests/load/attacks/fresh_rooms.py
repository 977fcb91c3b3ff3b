"""A backend pushes one number to a hundred rooms at a time, which have long names and got no push before.

Before: Redis took 100 kB and more for each push, most of it for indexes, which ``HISTORY_BYTES`` did not count: with a
bound of 4 MiB it took 55 MB after eight seconds, and kept them for the recovery window.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from contextlib import suppress
from itertools import count
from urllib.parse import urlsplit

from tests.support.gateway_process import GatewayProcess

BACKENDS = 2
ROOMS = 100
NAME = "x" * 280
SECONDS = 5.0


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Push until the event is set."""
    numbers = count()
    await asyncio.gather(*(asyncio.to_thread(_push, gateway, numbers, until) for _ in range(BACKENDS)))


def _push(gateway: GatewayProcess, numbers: count[int], until: asyncio.Event) -> None:
    address, backend, target = urlsplit(gateway.ingest_url), gateway.backend, "/emit/room"
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=SECONDS)
    while not until.is_set():
        number = next(numbers)
        rooms = [f"{number}:{each}:{NAME}" for each in range(ROOMS)]
        body = json.dumps({"event": "news", "data": 5, "rooms": rooms}).encode()
        headers = backend.sign("POST", target, body) | {"Content-Type": "application/json"}
        with suppress(OSError, http.client.HTTPException):
            connection.request("POST", target, body, headers)
            with connection.getresponse() as answer:
                answer.read()
            continue
        connection.close()
    connection.close()
