"""Packets, POSTs and upgrades on polling are counted: a flood of them ends soon and costs little."""

from __future__ import annotations

import pytest

from tests.load.attacks.measures import cpu_share_under, metric
from tests.load.attacks.packet_flood import CLIENTS_OF_A_KIND, STEPS, Step, attack
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawPolling, http_session
from tests.support.waiter import await_until

CLOSED = 'engineio_sessions_closed_total{reason="frame_rate"}'
ATTACK_SECONDS = 8.0
MAX_CPU_SHARE = 0.3
"""0.08 on an idle machine; 0.58 before packets were counted."""
MAX_STEPS = 100


async def test_flood_of_packets_takes_a_small_part_of_the_cpu_time() -> None:
    gateway = GatewayProcess()
    try:
        used = await cpu_share_under(
            attack,
            gateway,
            seconds=ATTACK_SECONDS,
            is_reached=lambda: metric(gateway, CLOSED) >= CLIENTS_OF_A_KIND * len(STEPS),
        )
    finally:
        gateway.stop()

    assert used < MAX_CPU_SHARE


@pytest.mark.parametrize("step", STEPS)
async def test_each_kind_of_request_ends_its_session(step: Step) -> None:
    gateway = GatewayProcess()
    try:
        async with http_session() as http:
            polling = await RawPolling(http, gateway.url).open()
            repeats = 0
            while await step(polling, http, gateway):
                repeats += 1
                assert repeats < MAX_STEPS
        await await_until(lambda: metric(gateway, CLOSED) == 1, "a closed session")
    finally:
        gateway.stop()
