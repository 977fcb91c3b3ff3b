"""Frames that are no messages are counted too: a flood of them ends soon and costs little."""

from __future__ import annotations

import asyncio

import pytest

from tests.load.attacks.frame_flood import CLIENTS, KINDS, attack, send_frames
from tests.load.attacks.measures import cpu_share_under, metric
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket, http_session
from tests.support.waiter import TIMEOUT_SECONDS, await_until

CLOSED = 'engineio_sessions_closed_total{reason="frame_rate"}'
ATTACK_SECONDS = 8.0
MAX_CPU_SHARE = 0.3
"""0.09 on an idle machine; 0.64 before frames were counted."""


async def test_flood_of_frames_takes_a_small_part_of_the_cpu_time() -> None:
    gateway = GatewayProcess()
    try:
        used = await cpu_share_under(
            attack,
            gateway,
            seconds=ATTACK_SECONDS,
            is_reached=lambda: metric(gateway, CLOSED) >= CLIENTS,
        )
    finally:
        gateway.stop()

    assert used < MAX_CPU_SHARE


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_of_frame_ends_its_connection(kind: str) -> None:
    gateway = GatewayProcess()
    try:
        async with http_session() as http, asyncio.timeout(TIMEOUT_SECONDS):
            socket = await RawSocket.open(http, gateway.url)
            await send_frames(socket, kind, asyncio.Event())
        await await_until(lambda: metric(gateway, CLOSED) == 1, "a closed session")
    finally:
        gateway.stop()
