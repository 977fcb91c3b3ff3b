"""Counters, gauges and histograms, and the factory that creates and registers them.

An observation is plain arithmetic on a dictionary. The families of prometheus-client are built at a scrape. Counters of
prometheus-client take a lock and several calls for each step, because threads may share them; here everything runs on
one event loop.

Names: ``sio_gateway_<what>_<unit>``, the unit spelled out (``seconds``, ``bytes``); counters end in ``_total``
(https://prometheus.io/docs/practices/naming/). A label takes values from a list in the code, never a user, room, sid,
event or another value that a client or a backend can choose. ``docs/reference/metrics.md`` describes each metric, and a
test compares that page with a scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX: Final = "sio_gateway_"
Labels = tuple[str, ...]
"""The values of the labels of one series, in the order of the label names."""
Read = Callable[[], Mapping[Labels, float] | float]
"""Returns the current value of each series, or one value for a metric without labels."""


class Counter(Collector):
    """A counter. ``name`` has no suffix ``_total``."""

    _family: type[CounterMetricFamily | GaugeMetricFamily] = CounterMetricFamily

    def __init__(self, name: str, text: str, labels: Labels = (), initial: Iterable[Labels] = ()) -> None:
        """``text`` is the help text, ``initial`` the series that exist from the start."""
        self._description = name, text, labels
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}
        self.init_labels(initial)

    def init_labels(self, initial: Iterable[Labels]) -> None:
        """Show these series as zero until something is counted, so that a rate sees the first event."""
        for labels in initial:
            self._values.setdefault(labels, 0.0)

    def count(self, labels: Labels = (), amount: float = 1.0) -> None:
        """Add an amount to one series."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def describe(self) -> Iterable[Metric]:
        name, text, labels = self._description
        yield self._family(name, text, labels=labels)

    def collect(self) -> Iterable[Metric]:
        name, text, labels = self._description
        family = self._family(name, text, labels=labels)
        for values, amount in self._values.items():
            family.add_metric(values, amount)
        yield family


class Gauge(Counter):
    """A gauge that is counted up and down."""

    _family = GaugeMetricFamily


class CallbackGauge(Collector):
    """A gauge whose values are read at each scrape. It has no series until ``read`` is set."""

    _family: type[CounterMetricFamily | GaugeMetricFamily] = GaugeMetricFamily

    def __init__(self, name: str, text: str, labels: Labels = (), read: Read = dict) -> None:
        self._description = name, text, labels
        self.read = read

    def describe(self) -> Iterable[Metric]:
        name, text, labels = self._description
        yield self._family(name, text, labels=labels)

    def collect(self) -> Iterable[Metric]:
        name, text, labels = self._description
        family = self._family(name, text, labels=labels)
        found = self.read()
        for values, amount in found.items() if isinstance(found, Mapping) else [((), found)]:
            family.add_metric(values, amount)
        yield family


class CallbackCounter(CallbackGauge):
    """A counter whose values are read at each scrape. ``name`` has no suffix ``_total``."""

    _family = CounterMetricFamily


class _Series(NamedTuple):
    """The observations of one series: the count of each bucket, and their sum in a list of one item."""

    counts: list[int]
    total: list[float]


class Histogram(Collector):
    """A histogram. ``bounds`` are the upper ends of its buckets; a bucket without an end follows them."""

    def __init__(self, name: str, text: str, labels: Labels = (), *, bounds: Sequence[float]) -> None:
        self._description = name, text, labels
        self._bounds = tuple(bounds)
        self._ends = [*map(str, self._bounds), "+Inf"]
        self._series: dict[Labels, _Series] = {}
        if not labels:
            self.init_labels([()])

    def init_labels(self, initial: Iterable[Labels]) -> None:
        """Show these series as empty until something is observed."""
        for labels in initial:
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

    def describe(self) -> Iterable[Metric]:
        name, text, labels = self._description
        yield HistogramMetricFamily(name, text, labels=labels)

    def collect(self) -> Iterable[Metric]:
        name, text, labels = self._description
        family = HistogramMetricFamily(name, text, labels=labels)
        for values, series in self._series.items():
            buckets = list(zip(self._ends, accumulate(series.counts), strict=True))
            family.add_metric(values, buckets=buckets, sum_value=series.total[0])
        yield family


class MetricFactory:
    """Creates the metrics of one process, each under one prefix, and registers them.

    A component takes the factory, creates its metrics in its constructor and counts on them itself. Names are given
    without the prefix and without ``_total``. Raises ValueError for a name that is already registered.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """``registry``: None creates a new one."""
        self.registry = CollectorRegistry() if registry is None else registry
        self.before_scrape: list[Callable[[], Awaitable[None]]] = []
        """Called before each scrape, for values that take more than one turn of the event loop to collect."""

    def counter(self, name: str, text: str, labels: Labels = (), initial: Iterable[Labels] = ()) -> Counter:
        """Create a counter."""
        counter = Counter(PREFIX + name, text, labels, initial)
        self.registry.register(counter)
        return counter

    def gauge(self, name: str, text: str, labels: Labels = (), initial: Iterable[Labels] = ()) -> Gauge:
        """Create a gauge that is counted up and down."""
        gauge = Gauge(PREFIX + name, text, labels, initial)
        self.registry.register(gauge)
        return gauge

    def callback_gauge(self, name: str, text: str, labels: Labels = (), read: Read = dict) -> CallbackGauge:
        """Create a gauge that is read at each scrape."""
        gauge = CallbackGauge(PREFIX + name, text, labels, read)
        self.registry.register(gauge)
        return gauge

    def callback_counter(
        self, name: str, text: str, labels: Labels = (), read: Read = dict
    ) -> CallbackCounter:
        """Create a counter that is read at each scrape."""
        counter = CallbackCounter(PREFIX + name, text, labels, read)
        self.registry.register(counter)
        return counter

    def histogram(self, name: str, text: str, labels: Labels = (), *, bounds: Sequence[float]) -> Histogram:
        """Create a histogram."""
        histogram = Histogram(PREFIX + name, text, labels, bounds=bounds)
        self.registry.register(histogram)
        return histogram


def one_label(values: Iterable[str]) -> list[Labels]:
    """Return the series of a metric with one label that has these values."""
    return [(value,) for value in values]
