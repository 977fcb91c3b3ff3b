"""``docs/reference/metrics.md`` describes exactly the metrics of a scrape."""

from __future__ import annotations

import re

from prometheus_client import Metric

from gateway.domain import disconnects
from gateway.transport import errors
from tests.unit.metrics.page import PAGE, described

INTERNAL = {"le"}


def test_page_lists_exactly_the_metrics_of_a_scrape(
    first_scrape: dict[str, Metric],
) -> None:
    assert sorted(described()) == sorted(first_scrape)


def test_types_are_those_of_the_page(first_scrape: dict[str, Metric]) -> None:
    shown = {name: family.type for name, family in first_scrape.items()}

    assert {name: each.type for name, each in described().items()} == shown


def test_labels_are_those_of_the_page(first_scrape: dict[str, Metric]) -> None:
    shown = {
        name: frozenset(label for sample in family.samples for label in sample.labels) - INTERNAL
        for name, family in first_scrape.items()
    }

    assert {name: each.labels for name, each in described().items()} == shown


def test_every_metric_has_a_series_in_the_first_scrape(first_scrape: dict[str, Metric]) -> None:
    assert [name for name, family in first_scrape.items() if not family.samples] == []


def test_counters_are_zero_in_the_first_scrape(first_scrape: dict[str, Metric]) -> None:
    counted = {
        (sample.name, *sample.labels.values())
        for name, family in first_scrape.items()
        if name.startswith("sio_gateway_") and family.type == "counter"
        for sample in family.samples
        if sample.value
    }

    assert counted == set()


def test_every_metric_has_a_description_on_the_page() -> None:
    assert [name for name, each in described().items() if len(each.text) < 1] == []


def test_every_close_reason_is_on_the_page() -> None:
    section = PAGE.partition("## Reasons")[2].partition("\n## ")[0]
    explained = set(re.findall(r"`([a-z_]+)`", section)) - {"client_disconnect"}

    assert {*errors.CLOSE_REASONS, *(ending.reason for ending in disconnects.ALL)} <= explained


def test_every_rejection_reason_is_on_the_page() -> None:
    words = set(re.findall(r"`([a-z_]+)`", PAGE))

    assert set(errors.REJECTIONS) - words == set()


def test_labels_are_those_with_values_of_our_own() -> None:
    allowed = {
        "nsp", "transport", "reason", "code", "outcome", "kind", "route", "status", "key", "part", "connection",
        "command", "version", "python", "generation", "webhook", "event", "claim", "listener", "consumer", "state",
    }  # fmt: skip

    assert {label for each in described().values() for label in each.labels} == allowed
