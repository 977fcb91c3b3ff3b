"""Scrapes cost little: those of one second share one text."""

from __future__ import annotations

import asyncio

from tests.load.attacks.measures import cpu_seconds, slowness
from tests.load.attacks.wire import encode_request, send, status_of
from tests.support.gateway_process import GatewayProcess

SCRAPES = 300
CPU_SECONDS = 0.004
"""Of one scrape on average: a connection, and 60 kB to send. Before, the text alone took 8 to 18 ms."""


async def test_scrapes_in_quick_succession_cost_little() -> None:
    gateway = GatewayProcess()
    scrape = encode_request("GET", "/metrics", {"Connection": "close"})
    try:
        assert status_of(await send(gateway.url, [scrape])) == 200
        before = cpu_seconds(gateway.pid)
        for _ in range(SCRAPES // 10):
            answers = await asyncio.gather(*(send(gateway.url, [scrape]) for _ in range(10)))
            assert {status_of(answer) for answer in answers} == {200}
        spent = (cpu_seconds(gateway.pid) - before) / SCRAPES / slowness()
        assert gateway.stop() == 0
    finally:
        gateway.kill()

    assert spent < CPU_SECONDS
