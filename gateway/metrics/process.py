"""The process: its version, its memory and files, its garbage collector, and the lag of its event loop."""

from __future__ import annotations

import asyncio
import platform
import time
from typing import Final

from prometheus_client import GCCollector, ProcessCollector

from gateway.metrics.primitives import MetricFactory

_LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
INTERVAL_SECONDS: Final = 0.1
"""Between two measurements of the event loop. A block that is shorter may fall between two of them, a longer one is
always measured."""


class ProcessMetrics:
    """Metrics of the process, and the task that measures its event loop."""

    def __init__(self, metrics: MetricFactory, *, version: str) -> None:
        # With the names of every Prometheus client library, so that common dashboards work.
        ProcessCollector(registry=metrics.registry)
        GCCollector(registry=metrics.registry)
        metrics.callback_gauge(
            "build_info",
            "Always 1; the version is in the labels.",
            ("version", "python"),
            read=lambda: {(version, platform.python_version()): 1},
        )
        self._lag = metrics.histogram(
            "event_loop_lag_seconds", "How late the event loop runs a task that is due.", bounds=_LAG_BOUNDS
        )

    async def watch_loop(self) -> None:
        """Measure the lag of the event loop until cancelled: how late a task wakes that sleeps for INTERVAL_SECONDS."""
        # Not by the clock of the loop: uvloop's stands still within a turn, and knows whole milliseconds only.
        while True:
            due = time.monotonic() + INTERVAL_SECONDS
            await asyncio.sleep(INTERVAL_SECONDS)
            self._lag.observe(max(0.0, time.monotonic() - due))
