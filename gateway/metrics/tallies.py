"""Numbers that are counted for every request or delivery: plain arithmetic, made into metrics when somebody looks.

prometheus-client's own counters take a lock and several calls for each step, because threads may share them; here
everything runs on one event loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Labels = tuple[str, ...]


class Tally(Collector):
    """A counter. ``name`` without the suffix ``_total``."""

    _family: type[CounterMetricFamily | GaugeMetricFamily] = CounterMetricFamily

    def __init__(self, name: str, text: str, labels: Labels = ()) -> None:
        self._describe = name, text, labels
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}

    def count(self, labels: Labels = (), amount: float = 1.0) -> None:
        """Add to the number under these values of the labels."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def collect(self) -> Iterable[Metric]:
        name, text, labels = self._describe
        family = self._family(name, text, labels=labels)
        for values, amount in self._values.items():
            family.add_metric(values, amount)
        yield family


class Level(Tally):
    """A gauge: counted up and down."""

    _family = GaugeMetricFamily


class _Series(NamedTuple):
    """The observations under one value of the label: how many in each bucket, and their sum in a list of one."""

    counts: list[int]
    total: list[float]


class Spread(Collector):
    """A histogram with one label. ``bounds`` are the upper ends of its buckets; one without an end comes after."""

    def __init__(self, name: str, text: str, label: str, *, bounds: Sequence[float]) -> None:
        self._describe = name, text, label
        self._bounds = tuple(bounds)
        self._series: dict[str, _Series] = {}

    def observe(self, label: str, amount: float) -> None:
        """Count an amount in its bucket."""
        series = self._series.get(label)
        if series is None:
            series = self._series[label] = _Series([0] * (len(self._bounds) + 1), [0.0])
        series.counts[bisect_left(self._bounds, amount)] += 1
        series.total[0] += amount

    def collect(self) -> Iterable[HistogramMetricFamily]:
        name, text, label = self._describe
        family = HistogramMetricFamily(name, text, labels=(label,))
        ends = [*map(str, self._bounds), "+Inf"]
        for value, series in self._series.items():
            buckets = list(zip(ends, accumulate(series.counts), strict=True))
            family.add_metric((value,), buckets=buckets, sum_value=series.total[0])
        yield family
