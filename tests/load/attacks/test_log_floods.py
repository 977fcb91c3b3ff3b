"""Rejections write few log lines, whatever their number, and the log has the number of those that are missing."""

from __future__ import annotations

import asyncio
from collections import Counter

from gateway.domain.sampling import INTERVAL_SECONDS, LINES_PER_ADDRESS
from tests.load.attacks.log_floods import attack
from tests.load.attacks.measures import under_attack
from tests.support.gateway_process import GatewayProcess
from tests.support.metrics import read_metrics

ATTACK_SECONDS = 4.0
REASONS = 4
"""missing_signature, not_found, unsupported_protocol and the code of the token."""


async def test_flood_of_rejections_writes_few_lines_and_the_number_of_the_others() -> None:
    gateway = GatewayProcess()
    try:
        async with under_attack(attack, gateway):
            await asyncio.sleep(ATTACK_SECONDS)
        page = await asyncio.to_thread(read_metrics, gateway.url)
        rejected = sum(
            float(line.rpartition(" ")[2])
            for line in page.splitlines()
            if line.startswith(("sio_gateway_requests_total", "sio_gateway_engineio_requests_rejected_total"))
        )
        suppressed = await asyncio.to_thread(
            gateway.log.wait,
            lambda line: line.get("reason") == "missing_signature",
            timeout=3 * INTERVAL_SECONDS,
        )
        assert gateway.stop() == 0
    finally:
        gateway.kill()
    lines = Counter(line.get("event") for line in gateway.log.entries)
    intervals = 1 + ATTACK_SECONDS // INTERVAL_SECONDS + 1

    assert rejected > 1_000
    assert sum(lines.values()) < intervals * REASONS * (LINES_PER_ADDRESS + 1) + 50
    assert (suppressed["event"], suppressed["line"]) == ("log.lines_suppressed", "request.answered")
    assert suppressed["lines"] > 100
    assert suppressed["addresses"] == 1
