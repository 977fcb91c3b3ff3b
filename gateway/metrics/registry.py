"""Everything that this process counts, under one registry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.metrics.primitives import MetricFactory
from gateway.metrics.replica import ReplicaMetrics
from gateway.metrics.requests import RequestMetrics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The meter of each room; a room is handed its own and knows no other."""

    def __init__(self) -> None:
        self.factory = MetricFactory()
        self.registry = self.factory.registry
        self.replica = ReplicaMetrics(self.registry)
        self.requests = RequestMetrics(self.registry)

    async def exposition(self) -> bytes:
        """All of it in the text format of Prometheus, with turns for others in between."""
        for update in self.factory.before_scrape:
            await update()
        pieces = []
        for metric in self.registry.collect():
            pieces.append(generate_latest(_One(metric)))
            await asyncio.sleep(0)
        return b"".join(pieces)


class _One(Collector):
    """A registry with one metric in it."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)
