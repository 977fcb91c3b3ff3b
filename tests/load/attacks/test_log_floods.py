"""Rejections write few log lines, whatever their number, and the log has the number of those that are missing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from gateway.domain.sampling import INTERVAL_SECONDS, LINES_PER_ADDRESS
from tests.load.attacks.log_floods import attack
from tests.load.attacks.measures import under_attack
from tests.support.gateway_process import GatewayProcess
from tests.support.metrics import read_metrics
from tests.support.waiter import TIMEOUT_SECONDS, await_until

ATTACK_SECONDS = 4.0
REASONS = 4
"""missing_signature, not_found, unsupported_protocol and the code of the token."""


def rejected(gateway: GatewayProcess) -> float:
    """Return how many requests were rejected."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in read_metrics(gateway.url).splitlines()
        if line.startswith(("sio_gateway_requests_total", "sio_gateway_engineio_requests_rejected_total"))
    )


async def test_flood_of_rejections_writes_few_lines_and_the_number_of_the_others() -> None:
    gateway = GatewayProcess()
    try:
        began = time.monotonic()
        async with under_attack(attack, gateway):
            await asyncio.sleep(ATTACK_SECONDS)
            await await_until(lambda: rejected(gateway) > 1_000, "many are rejected", pause_seconds=0.5)
        passed = time.monotonic() - began
        suppressed = await asyncio.to_thread(
            gateway.log.wait,
            lambda line: line.get("reason") == "missing_signature",
            timeout=3 * INTERVAL_SECONDS + TIMEOUT_SECONDS,
        )
        assert gateway.stop() == 0
    finally:
        gateway.kill()
    lines = Counter(line.get("event") for line in gateway.log.entries)
    intervals = 1 + passed // INTERVAL_SECONDS + 1

    assert sum(lines.values()) < intervals * REASONS * (LINES_PER_ADDRESS + 1) + 50
    assert (suppressed["event"], suppressed["line"]) == ("log.lines_suppressed", "request.answered")
    assert suppressed["lines"] > 100
    assert suppressed["addresses"] == 1
