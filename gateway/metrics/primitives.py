"""Counters, gauges and histograms, and the factory that creates and registers them.

An observation is plain arithmetic on a dictionary. The families of prometheus-client are built at a scrape. Counters of
prometheus-client take a lock and several calls for each step, because threads may share them; here everything runs on
one event loop.

Names: ``sio_gateway_<what>_<unit>``, the unit spelled out (``seconds``, ``bytes``); counters end in ``_total``
(https://prometheus.io/docs/practices/naming/). A label takes values from a list in the code or from the
configuration, never a user, room, sid or another value that a client or a backend can choose.
``docs/reference/metrics.md`` describes each metric, and a test compares that page with a scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX: Final = "sio_gateway_"
Labels = tuple[str, ...]
"""The values of the labels of one series, in the order of the label names."""
Read = Callable[[], Mapping[Labels, float] | float]
"""Returns the current value of each series, or one value for a metric without labels."""

_FamilyType = type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]


class _Family(Collector):
    """A name, a help text and label names; a subclass has the series."""

    _type: _FamilyType

    def __init__(self, name: str, text: str, labels: Labels) -> None:
        self._description = name, text, labels

    def describe(self) -> Iterable[Metric]:
        name, text, labels = self._description
        yield self._type(name, text, labels=labels)

    def collect(self) -> Iterable[Metric]:
        name, text, labels = self._description
        family = self._type(name, text, labels=labels)
        for series in self._collect_series():
            family.add_metric(*series)
        yield family

    def _collect_series(self) -> Iterable[tuple[Any, ...]]:
        """Return the arguments of ``add_metric`` of the family for each series: its labels, then its values."""
        raise NotImplementedError


class Counter(_Family):
    """A counter. ``name`` has no suffix ``_total``."""

    _type: _FamilyType = CounterMetricFamily

    def __init__(self, name: str, text: str, labels: Labels = (), initial: Iterable[Labels] = ()) -> None:
        """``text`` is the help text, ``initial`` the series that exist from the start."""
        super().__init__(name, text, labels)
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}
        self.init_labels(initial)

    def init_labels(self, initial: Iterable[Labels]) -> None:
        """Show these series as zero until something is counted, so that a rate sees the first event."""
        for labels in initial:
            self._values.setdefault(labels, 0.0)

    def count(self, labels: Labels = (), amount: float = 1.0) -> None:
        """Add an amount to one series."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def _collect_series(self) -> Iterable[tuple[Any, ...]]:
        return self._values.items()


class Gauge(Counter):
    """A gauge that is counted up and down."""

    _type: _FamilyType = GaugeMetricFamily


class CallbackGauge(_Family):
    """A gauge whose values are read at each scrape."""

    _type: _FamilyType = GaugeMetricFamily

    def __init__(self, name: str, text: str, labels: Labels = (), *, read: Read) -> None:
        super().__init__(name, text, labels)
        self._read = read

    def _collect_series(self) -> Iterable[tuple[Any, ...]]:
        found = self._read()
        return found.items() if isinstance(found, Mapping) else [((), found)]


class CallbackCounter(CallbackGauge):
    """A counter whose values are read at each scrape. ``name`` has no suffix ``_total``."""

    _type: _FamilyType = CounterMetricFamily


class _Series(NamedTuple):
    """The observations of one series: the count of each bucket, and their sum in a list of one item."""

    counts: list[int]
    total: list[float]


class Histogram(_Family):
    """A histogram. ``bounds`` are the upper ends of its buckets; a bucket without an end follows them."""

    _type: _FamilyType = HistogramMetricFamily

    def __init__(self, name: str, text: str, labels: Labels = (), *, bounds: Sequence[float]) -> None:
        super().__init__(name, text, labels)
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

    def _collect_series(self) -> Iterable[tuple[Any, ...]]:
        for labels, series in self._series.items():
            yield labels, list(zip(self._ends, accumulate(series.counts), strict=True)), series.total[0]


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

    def callback_gauge(self, name: str, text: str, labels: Labels = (), *, read: Read) -> CallbackGauge:
        """Create a gauge that is read at each scrape."""
        gauge = CallbackGauge(PREFIX + name, text, labels, read=read)
        self.registry.register(gauge)
        return gauge

    def callback_counter(self, name: str, text: str, labels: Labels = (), *, read: Read) -> CallbackCounter:
        """Create a counter that is read at each scrape."""
        counter = CallbackCounter(PREFIX + name, text, labels, read=read)
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
