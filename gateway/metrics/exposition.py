"""The text format of Prometheus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.metrics.primitives import MetricFactory

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_AGE_SECONDS: Final = 1.0
"""How long a text is used again: it costs some milliseconds, and on a port for clients it is not signed."""
SAMPLES_PER_SLICE: Final = 200
"""Lines that are written in one piece, in about a millisecond."""
_HEADER_LINES: Final = 2


class Exposition:
    """All metrics as text. Scrapes within MAX_AGE_SECONDS get the same text, and those at once wait for one."""

    def __init__(self, metrics: MetricFactory) -> None:
        self._metrics = metrics
        self._rendering = asyncio.Lock()
        self._text = b""
        self._fresh_until = 0.0

    async def text(self) -> bytes:
        """Return the text. While it is made, the event loop runs other tasks every SAMPLES_PER_SLICE samples."""
        async with self._rendering:
            if time.monotonic() >= self._fresh_until:
                self._text = await self._render()
                self._fresh_until = time.monotonic() + MAX_AGE_SECONDS
            return self._text

    async def _render(self) -> bytes:
        for update in self._metrics.before_scrape:
            await update()
        pieces = []
        for metric in self._metrics.registry.collect():
            for piece in _pieces(metric):
                pieces.append(piece)
                await asyncio.sleep(0)
        return b"".join(pieces)


def _pieces(metric: Metric) -> Iterator[bytes]:
    """Yield the text of a metric in pieces."""
    samples = iter(metric.samples)
    is_first = True
    while (some := list(islice(samples, SAMPLES_PER_SLICE))) or is_first:
        part = Metric(metric.name, metric.documentation, metric.type)
        part.samples = some
        text = generate_latest(_OneMetric(part))
        yield text if is_first else text.split(b"\n", _HEADER_LINES)[_HEADER_LINES]
        is_first = False


class _OneMetric(Collector):
    """A registry of one metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)
