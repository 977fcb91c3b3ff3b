"""Metrics of the process."""

from __future__ import annotations

import asyncio
import time

from gateway.metrics import MetricFactory, ProcessMetrics
from gateway.metrics.process import INTERVAL_SECONDS
from tests.support.waiter import TIMEOUT_SECONDS

LAG = "sio_gateway_event_loop_lag_seconds"


async def test_block_of_the_event_loop_is_measured() -> None:
    metrics = MetricFactory()
    watching = asyncio.create_task(ProcessMetrics(metrics, version="1.2.3").watch_loop())
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await _wait_for_observations(metrics, 1)
        before = metrics.registry.get_sample_value(f"{LAG}_bucket", {"le": "0.25"})
        time.sleep(INTERVAL_SECONDS + 0.4)  # noqa: ASYNC251  # this blocks the event loop
        await _wait_for_observations(metrics, 2)
    watching.cancel()

    late = (metrics.registry.get_sample_value(f"{LAG}_count") or 0) - (
        metrics.registry.get_sample_value(f"{LAG}_bucket", {"le": "0.25"}) or 0
    )
    assert before is not None
    assert late >= 1
    assert (metrics.registry.get_sample_value(f"{LAG}_sum") or 0) >= 0.4


async def _wait_for_observations(metrics: MetricFactory, number: int) -> None:
    while (metrics.registry.get_sample_value(f"{LAG}_count") or 0) < number:  # noqa: ASYNC110  # no event for it
        await asyncio.sleep(INTERVAL_SECONDS / 10)
