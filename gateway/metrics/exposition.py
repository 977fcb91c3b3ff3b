"""The text format of Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.metrics.primitives import MetricFactory

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


async def exposition(metrics: MetricFactory) -> bytes:
    """Return all metrics as text. The event loop runs other tasks after each of them."""
    for update in metrics.before_scrape:
        await update()
    pieces = []
    for metric in metrics.registry.collect():
        pieces.append(generate_latest(_OneMetric(metric)))
        await asyncio.sleep(0)
    return b"".join(pieces)


class _OneMetric(Collector):
    """A registry of one metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)
