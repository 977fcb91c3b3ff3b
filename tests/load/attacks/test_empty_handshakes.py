"""A flood of handshakes keeps no client out: the oldest session that has joined no namespace makes room."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import aiohttp
import pytest

from tests.load.attacks.empty_handshakes import attack
from tests.load.attacks.measures import metric, under_attack
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket, http_session
from tests.support.waiter import await_until

pytestmark = pytest.mark.timeout(120)

MAX_UNAUTHENTICATED = 5_000
BURST, PER_SECOND = 2_000, 100
"""Of one address, as docs/reference/limits.md has it."""
CLIENTS = 10
ATTEMPTS = 5
BACK_OFF_SECONDS = 1.0
"""As the stock client waits after its first failures."""


def unauthenticated(gateway: GatewayProcess) -> int:
    """Return how many sessions have joined no namespace."""
    return int(metric(gateway, "engineio_sessions_unauthenticated"))


async def attempts_of(gateway: GatewayProcess, http: aiohttp.ClientSession, address: str) -> int:
    """Connect as a client at this address; return how many handshakes it needed."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            socket = await RawSocket.open(http, gateway.url, headers={"X-Forwarded-For": address})
        except aiohttp.WSServerHandshakeError:
            await asyncio.sleep(BACK_OFF_SECONDS)
            continue
        await socket.join(gateway.token("honest"))
        socket.abort()
        return attempt
    return ATTEMPTS + 1


async def test_clients_connect_within_their_back_off_during_a_flood_of_one_address() -> None:
    gateway = GatewayProcess()
    try:
        async with http_session() as http, under_attack(attack, gateway):
            await await_until(
                lambda: unauthenticated(gateway) >= MAX_UNAUTHENTICATED, "the limit", pause_seconds=0.5
            )
            attempts = [await attempts_of(gateway, http, "") for _ in range(CLIENTS)]
            assert unauthenticated(gateway) <= MAX_UNAUTHENTICATED
    finally:
        gateway.stop()

    assert max(attempts) <= ATTEMPTS, attempts


async def test_flood_of_an_address_behind_a_proxy_stays_within_the_rate_of_that_address() -> None:
    gateway = GatewayProcess(trusted_proxies="127.0.0.0/8")
    try:
        flood = partial(attack, address="203.0.113.66")
        started = time.monotonic()
        async with http_session() as http, under_attack(flood, gateway):
            await await_until(lambda: unauthenticated(gateway) >= BURST, "the burst", pause_seconds=0.5)
            attempts = [await attempts_of(gateway, http, f"203.0.113.{number}") for number in range(CLIENTS)]
            opened = unauthenticated(gateway)
            allowed = BURST + PER_SECOND * (time.monotonic() - started)
    finally:
        gateway.stop()

    assert attempts == [1] * CLIENTS
    assert BURST <= opened <= allowed
