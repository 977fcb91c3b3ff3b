"""Metrics of the shared state."""

from __future__ import annotations

from gateway.metrics import MetricFactory
from gateway.runtime.metrics_setup import create_state_metrics
from tests.support.metrics import counted


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
