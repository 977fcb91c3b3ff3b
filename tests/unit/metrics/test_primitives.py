"""Counters, gauges and histograms, before and after the first observation."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from gateway.metrics.primitives import (
    CallbackCounter,
    CallbackGauge,
    Counter,
    Gauge,
    Histogram,
    Labels,
    MetricFactory,
)


def read(collector: Collector, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry.get_sample_value(name, labels)


def test_initial_series_is_zero_until_something_is_counted() -> None:
    counter = Counter("rejected", "Rejected.", ("code",), [("full",), ("rate",)])

    counter.count(("rate",), 2)

    assert read(counter, "rejected_total", code="full") == 0
    assert read(counter, "rejected_total", code="rate") == 2


def test_series_that_was_not_initialised_is_counted() -> None:
    counter = Counter("rejected", "Rejected.", ("code",))

    counter.count(("new",))

    assert read(counter, "rejected_total", code="new") == 1


def test_name_that_is_registered_cannot_be_used_again() -> None:
    metrics = MetricFactory()
    metrics.counter("rejected", "Rejected.")

    with pytest.raises(ValueError, match="sio_gateway_rejected"):
        metrics.callback_counter("rejected", "Rejected.", read=dict)


def test_init_labels_changes_no_existing_series() -> None:
    counter, histogram = Counter("t", "T.", ("a",)), Histogram("s", "S.", ("a",), bounds=(1.0,))
    counter.count(("x",))
    histogram.observe(0.5, ("x",))

    counter.init_labels([("x",)])
    histogram.init_labels([("x",)])

    assert read(counter, "t_total", a="x") == 1
    assert read(histogram, "s_count", a="x") == 1


def test_gauge_goes_up_and_down() -> None:
    gauge = Gauge("open", "Open.")

    gauge.count((), 3)
    gauge.count((), -1)

    assert read(gauge, "open") == 2


@pytest.mark.parametrize(("kind", "name"), [(CallbackGauge, "held"), (CallbackCounter, "held_total")])
def test_callback_is_read_at_each_scrape_and_may_return_no_series(
    kind: type[CallbackGauge], name: str
) -> None:
    now: dict[Labels, float] = {}
    callback_gauge = kind("held", "Held.", read=lambda: now)
    assert read(callback_gauge, name) is None

    now[()] = 7

    assert read(callback_gauge, name) == 7


@pytest.mark.parametrize(
    ("amount", "within"), [(0.5, [1, 1, 1]), (1.0, [1, 1, 1]), (1.5, [0, 1, 1]), (3.0, [0, 0, 1])]
)
def test_amount_is_in_its_bucket_and_in_all_above(amount: float, within: list[int]) -> None:
    histogram = Histogram("s", "S.", bounds=(1.0, 2.0))

    histogram.observe(amount)

    assert [read(histogram, "s_bucket", le=end) for end in ("1.0", "2.0", "+Inf")] == within
    assert (read(histogram, "s_count"), read(histogram, "s_sum")) == (1, amount)


def test_histogram_without_labels_has_a_series_from_the_start() -> None:
    assert read(Histogram("s", "S.", bounds=(1.0,)), "s_count") == 0
