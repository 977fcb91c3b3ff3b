"""Numbers that are counted for every request or delivery: plain arithmetic, made into metrics when somebody looks.

prometheus-client's own counters take a lock and several calls for each step, because threads may share them; here
everything runs on one event loop.

Where metrics are made and registered: under one prefix, by one rule.

Names: ``sio_gateway_<what>_<unit>``, the unit spelled out (``seconds``, ``bytes``), counters end in ``_total``
(https://prometheus.io/docs/practices/naming/). A label takes values from a list that we know, never a user, room, sid,
event or anything else that a client or backend can make up. ``docs/reference/metrics.md`` describes each, and a test compares.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Labels = tuple[str, ...]
Read = Callable[[], Mapping[Labels, float]]
"""Answers what there is now under each combination of the values of the labels."""


class Counter(Collector):
    """A counter. ``name`` without the suffix ``_total``; ``known`` values of its labels are there from the start."""

    _family: type[CounterMetricFamily | GaugeMetricFamily] = CounterMetricFamily

    def __init__(self, name: str, text: str, labels: Labels = (), known: Iterable[Labels] = ()) -> None:
        self._describe = name, text, labels
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}
        self.init_labels(known)

    def init_labels(self, known: Iterable[Labels]) -> None:
        """Show these values of the labels as zero until something is counted: a rate begins with the first look."""
        for labels in known:
            self._values.setdefault(labels, 0.0)

    def count(self, labels: Labels = (), amount: float = 1.0) -> None:
        """Add to the number under these values of the labels."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def collect(self) -> Iterable[Metric]:
        name, text, labels = self._describe
        family = self._family(name, text, labels=labels)
        for values, amount in self._values.items():
            family.add_metric(values, amount)
        yield family


class Gauge(Counter):
    """A gauge: counted up and down."""

    _family = GaugeMetricFamily


class CallbackGauge(Collector):
    """A gauge that is read where the number already is, whenever somebody looks; nothing is shown before there is a
    place to look at."""

    _family: type[CounterMetricFamily | GaugeMetricFamily] = GaugeMetricFamily

    def __init__(self, name: str, text: str, labels: Labels = ()) -> None:
        self._describe = name, text, labels
        self.read: Read = dict

    def collect(self) -> Iterable[Metric]:
        name, text, labels = self._describe
        family = self._family(name, text, labels=labels)
        for values, amount in self.read().items():
            family.add_metric(values, amount)
        yield family


class CallbackCounter(CallbackGauge):
    """The same for a number that only grows. ``name`` without the suffix ``_total``."""

    _family = CounterMetricFamily


class _Series(NamedTuple):
    """The observations under one combination of labels: how many in each bucket, and their sum in a list of one."""

    counts: list[int]
    total: list[float]


class Histogram(Collector):
    """A histogram. ``bounds`` are the upper ends of its buckets; one without an end comes after."""

    def __init__(self, name: str, text: str, labels: Labels = (), *, bounds: Sequence[float]) -> None:
        self._describe = name, text, labels
        self._bounds = tuple(bounds)
        self._ends = [*map(str, self._bounds), "+Inf"]
        self._series: dict[Labels, _Series] = {}
        if not labels:
            self.init_labels([()])

    def init_labels(self, known: Iterable[Labels]) -> None:
        """Show these values of the labels as never observed until something is."""
        for labels in known:
            if labels not in self._series:
                self._series[labels] = _Series([0] * (len(self._bounds) + 1), [0.0])

    def observe(self, amount: float, labels: Labels = ()) -> None:
        """Count an amount in its bucket."""
        series = self._series.get(labels)
        if series is None:
            self.init_labels([labels])
            series = self._series[labels]
        series.counts[bisect_left(self._bounds, amount)] += 1
        series.total[0] += amount

    def collect(self) -> Iterable[HistogramMetricFamily]:
        name, text, labels = self._describe
        family = HistogramMetricFamily(name, text, labels=labels)
        for values, series in self._series.items():
            buckets = list(zip(self._ends, accumulate(series.counts), strict=True))
            family.add_metric(values, buckets=buckets, sum_value=series.total[0])
        yield family


PREFIX: Final = "sio_gateway_"


class MetricFactory:
    """Makes the metrics of one room of the house; names go without the prefix and without ``_total``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, labels: Labels = (), known: Iterable[Labels] = ()) -> Counter:
        """A counter."""
        counter = Counter(PREFIX + name, text, labels, known)
        self._registry.register(counter)
        return counter

    def gauge(self, name: str, text: str, labels: Labels = (), known: Iterable[Labels] = ()) -> Gauge:
        """A gauge that is counted up and down."""
        level = Gauge(PREFIX + name, text, labels, known)
        self._registry.register(level)
        return level

    def callback_gauge(self, name: str, text: str, labels: Labels = ()) -> CallbackGauge:
        """A gauge that is read elsewhere."""
        callback_gauge = CallbackGauge(PREFIX + name, text, labels)
        self._registry.register(callback_gauge)
        return callback_gauge

    def callback_counter(self, name: str, text: str, labels: Labels = ()) -> CallbackCounter:
        """A counter that is read elsewhere."""
        callback_gauge = CallbackCounter(PREFIX + name, text, labels)
        self._registry.register(callback_gauge)
        return callback_gauge

    def histogram(self, name: str, text: str, labels: Labels = (), *, bounds: Sequence[float]) -> Histogram:
        """A histogram."""
        histogram = Histogram(PREFIX + name, text, labels, bounds=bounds)
        self._registry.register(histogram)
        return histogram


def singles(words: Iterable[str]) -> list[Labels]:
    """The values of a single label."""
    return [(word,) for word in words]
