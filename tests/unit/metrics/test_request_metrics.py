"""Metrics of requests, and of the ingest keys that they name."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from gateway.metrics import MetricFactory, RequestMetrics

NOW = 1_700_000_000.0
ROUTE = "/broadcast"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def requests(registry: CollectorRegistry) -> RequestMetrics:
    metrics = RequestMetrics(MetricFactory(registry), now=lambda: NOW)
    metrics.init_labels([ROUTE], {"ok": 200, "bad_signature": 401})
    metrics.init_key_labels(["shop"])
    return metrics


def last_used(registry: CollectorRegistry, key: str = "shop") -> float | None:
    return registry.get_sample_value("sio_gateway_ingest_key_last_used_timestamp_seconds", {"key": key})


def by_key(registry: CollectorRegistry, code: str, key: str = "shop") -> float | None:
    return registry.get_sample_value("sio_gateway_ingest_key_requests_total", {"key": key, "code": code})


def finished(registry: CollectorRegistry, code: str, status: str) -> float | None:
    labels = {"route": ROUTE, "status": status, "code": code}
    return registry.get_sample_value("sio_gateway_requests_total", labels)


def test_metrics_are_zero_before_the_first_request(
    registry: CollectorRegistry, requests: RequestMetrics
) -> None:
    assert (finished(registry, "ok", "200"), finished(registry, "bad_signature", "401")) == (0, 0)
    assert (by_key(registry, "ok"), by_key(registry, "bad_signature"), last_used(registry)) == (0, 0, 0)


def test_request_is_counted_by_its_response_and_by_its_key(
    registry: CollectorRegistry, requests: RequestMetrics
) -> None:
    for key in ("shop", "shop", None):
        requests.request_finished(
            route=ROUTE, status=200, code="ok", seconds=0.002, key=key, signed=key is not None
        )

    assert finished(registry, "ok", "200") == 3
    assert by_key(registry, "ok") == 2
    count = registry.get_sample_value("sio_gateway_request_duration_seconds_count", {"route": ROUTE})
    assert count == 3
    assert last_used(registry) == NOW


@pytest.mark.parametrize(
    ("status", "signed", "used"),
    [(200, True, True), (429, True, True), (413, False, False), (401, False, False), (401, True, False)],
)
def test_key_counts_as_used_only_by_a_signed_request_that_was_not_replayed(
    registry: CollectorRegistry, requests: RequestMetrics, status: int, signed: bool, used: bool
) -> None:
    requests.request_finished(route=ROUTE, status=status, code="c", seconds=0.1, key="shop", signed=signed)

    assert last_used(registry) == (NOW if used else 0)


def test_request_without_a_start_time_is_not_in_the_duration(
    registry: CollectorRegistry, requests: RequestMetrics
) -> None:
    requests.request_finished(route="unmatched", status=400, code="bad_request")

    counted = {"route": "unmatched", "status": "400", "code": "bad_request"}
    assert registry.get_sample_value("sio_gateway_requests_total", counted) == 1
    assert (
        registry.get_sample_value("sio_gateway_request_duration_seconds_count", {"route": "unmatched"})
        is None
    )


def test_keys_that_are_shown_change_with_the_settings(
    registry: CollectorRegistry, requests: RequestMetrics
) -> None:
    requests.request_finished(route=ROUTE, status=200, code="ok", seconds=0.1, key="shop", signed=True)

    requests.init_key_labels(["warehouse"])
    requests.request_finished(route=ROUTE, status=200, code="ok", seconds=0.1, key="shop", signed=True)

    assert (by_key(registry, "ok"), last_used(registry)) == (None, None)
    assert (by_key(registry, "ok", "warehouse"), last_used(registry, "warehouse")) == (0, 0)
    assert finished(registry, "ok", "200") == 2
