"""Uploads that never end share a bound, and shut out no backend."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.load.attacks.measures import MIB, peak_rss_bytes, rss_bytes, under_attack
from tests.load.attacks.unfinished_uploads import BODY_BYTES, attack
from tests.support.gateway_process import GatewayProcess
from tests.unit.metrics.scraping import Scrape

ATTACK_SECONDS = 8.0
GROWTH_BYTES = 320 * MIB
"""64 MiB of bodies that arrive, and what 500 connections have ready to be read in one turn of the event loop: 214 to
252 MiB together, by how busy the machine is. Without the bound it was 614 MiB, without an upper end."""


def dropped(gateway: GatewayProcess) -> float:
    """Return how many bodies were dropped, which had not arrived whole."""
    return Scrape(gateway).value("arriving_bodies_dropped_total")


@pytest.mark.timeout(300)
async def test_uploads_that_never_end_share_a_bound_and_large_pushes_are_accepted() -> None:
    gateway = GatewayProcess()
    try:
        before = rss_bytes(gateway.pid)
        statuses: Counter[int] = Counter()
        async with under_attack(attack, gateway):
            until = asyncio.get_running_loop().time() + ATTACK_SECONDS
            while asyncio.get_running_loop().time() < until or not await asyncio.to_thread(dropped, gateway):
                push = gateway.backend.push_user
                answer = await asyncio.to_thread(push, "1", "news", "x" * (BODY_BYTES - 100))
                statuses[answer.status] += 1
                await asyncio.sleep(0.1)
        growth = peak_rss_bytes(gateway.pid) - before
        assert gateway.stop() == 0
    finally:
        gateway.kill()

    assert set(statuses) == {200}
    assert growth < GROWTH_BYTES
