"""Metrics of the process, of the state and of the log."""

from __future__ import annotations

import asyncio
import time

from gateway.metrics import MetricFactory, ProcessMetrics
from gateway.metrics.process import INTERVAL_SECONDS
from gateway.runtime.metrics_setup import create_state_metrics
from tests.support.metrics import counted
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


def test_sizes_of_the_state_are_read_at_each_scrape() -> None:
    metrics = MetricFactory()
    sizes = {"nonces": 1.0, "history_entries": 2.0, "history_bytes": 30.0, "history_age_seconds": 4.5}
    create_state_metrics(metrics, lambda: sizes, history_length=100, history_bytes=1000)

    sizes["nonces"] = 7

    assert counted(metrics, "state_items") == {"nonces": 7}
    assert counted(metrics, "history_entries") == {"": 2}
    assert counted(metrics, "history_bytes") == {"": 30}
    assert counted(metrics, "history_oldest_age_seconds") == {"": 4.5}
    assert counted(metrics, "history_limit_entries") == {"": 100}
    assert counted(metrics, "history_limit_bytes") == {"": 1000}
