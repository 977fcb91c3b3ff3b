"""No signed body takes much CPU time, and all are answered."""

from __future__ import annotations

import asyncio

from tests.load.attacks.long_requests import BODIES, attack, send_body
from tests.load.attacks.measures import cpu_seconds, push_latency, slowness, under_attack
from tests.load.attacks.wire import status_of
from tests.support.gateway_process import GatewayProcess

CPU_SECONDS = 0.3
"""Of one request of 1 MiB with the slowest body, in slices. Before, it was 0.8 s, in one piece.

``make soak ARGS=--attacks`` shows how long pushes take meanwhile.
"""


async def test_body_of_one_mebibyte_takes_little_cpu_and_pushes_are_answered_meanwhile() -> None:
    gateway = GatewayProcess()
    try:
        await send_body(gateway, b'{"event":"news"}')
        spent = {}
        for name, body in BODIES.items():
            before = cpu_seconds(gateway.pid)
            status = status_of(await send_body(gateway, body))
            spent[name] = round((cpu_seconds(gateway.pid) - before) / slowness(), 3)
            assert status in {200, 400, 422}, name
        assert {name: seconds for name, seconds in spent.items() if seconds > CPU_SECONDS} == {}
        async with under_attack(attack, gateway):
            await asyncio.sleep(0.5)
            latency = await push_latency(gateway)
        assert set(latency.statuses) == {200}
        assert gateway.stop() == 0
        assert gateway.failures() == []
    finally:
        gateway.kill()
