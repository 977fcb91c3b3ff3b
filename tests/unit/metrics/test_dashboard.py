"""The dashboard can be imported and queries existing metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import Metric

from tests.unit.metrics.page import FILES, described, faults, values_in_query, values_in_scrape
from tests.unit.metrics.promql import read

DASHBOARD = json.loads((FILES / "dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
WITHOUT_PANEL = {
    "sio_gateway_ack_waits_bytes",
    "sio_gateway_arriving_bodies_dropped_total",
    "sio_gateway_arriving_body_bytes",
    "sio_gateway_arriving_body_limit_bytes",
    "sio_gateway_emit_asks_bytes",
    "sio_gateway_files_exhausted_total",
    "sio_gateway_http_connections_aborted_total",
    "sio_gateway_http_unfinished_request_bytes",
    "sio_gateway_http_unread_answer_bytes",
    "sio_gateway_http_unread_answers",
    "sio_gateway_tcp_connections",
    "sio_gateway_tcp_connections_limit",
    "sio_gateway_tcp_connections_rejected_total",
    "sio_gateway_tcp_connections_replaced_total",
    "sio_gateway_token_claims_ignored_total",
    "sio_gateway_tokens_held",
    "sio_gateway_engineio_sessions_unauthenticated_limit",
    "sio_gateway_offline_dropped_total",
    "sio_gateway_offline_received_total",
    "sio_gateway_replica_status_changes_total",
    "sio_gateway_log_lines_dropped_total",
    "sio_gateway_replays_waiting",
    "sio_gateway_presence_updates_oldest_age_seconds",
    "sio_gateway_redis_connected",
    "sio_gateway_redis_messages_received_total",
    "sio_gateway_user_lists_total",
    "sio_gateway_webhook_deliveries_total",
    "sio_gateway_webhook_delivery_seconds",
    "process_virtual_memory_bytes",
    "python_gc_objects_collected_total",
    "python_gc_objects_uncollectable_total",
}
"""Metrics without a panel: they are for special questions."""


def queries() -> Iterator[tuple[str, str]]:
    """Yield each query with the title of its panel or the name of its annotation."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], annotation["expr"]


QUERIES = list(queries())


@pytest.mark.parametrize(("where", "text"), QUERIES, ids=[where for where, _ in QUERIES])
def test_query_names_existing_metrics_and_labels(where: str, text: str) -> None:
    query = read(text)

    assert query.selected
    assert faults(query) == []


@pytest.mark.parametrize(("where", "text"), QUERIES, ids=[where for where, _ in QUERIES])
def test_query_selects_the_chosen_replicas(where: str, text: str) -> None:
    chosen = {"namespace": "$namespace", "job": "$job", "instance": "$instance"}

    asked = [
        matchers for name, matchers in read(text).selected if name != "sio_gateway_build_info" or matchers
    ]

    assert [matchers for matchers in asked if not chosen.items() <= matchers.items()] == []


@pytest.mark.parametrize(("where", "text"), QUERIES, ids=[where for where, _ in QUERIES])
def test_query_names_existing_label_values(where: str, text: str, first_scrape: dict[str, Metric]) -> None:
    assert values_in_query(read(text)) - values_in_scrape(first_scrape) == set()


def test_rate_uses_the_interval_of_the_data_source() -> None:
    """A rate over a fixed time is empty if the scrape interval is longer, and hides peaks if it is shorter."""
    assert [text for _, text in QUERIES if re.search(r"\[(?!\$__rate_interval\])", text)] == []


def test_every_metric_has_a_panel_or_is_listed_as_without() -> None:
    asked = {name for _, text in QUERIES for name, _ in read(text).selected}
    asked |= {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked}

    assert set(described()) - asked == WITHOUT_PANEL


def test_panel_has_a_title_a_description_and_the_chosen_data_source() -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}

    assert [panel["id"] for panel in PANELS if not (panel["title"] and panel["description"])] == []
    assert [panel["id"] for panel in PANELS if panel["datasource"] != source] == []
    assert [t for panel in PANELS for t in panel["targets"] if t["datasource"] != source] == []


def test_panels_have_unique_ids_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(set(ids)) == len(ids)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_dashboard_has_its_variables() -> None:
    variables: dict[str, Any] = {each["name"]: each for each in DASHBOARD["templating"]["list"]}

    assert list(variables) == ["datasource", "namespace", "job", "instance"]
    assert variables["datasource"]["query"] == "prometheus"
    for name in ("namespace", "job", "instance"):
        assert variables[name]["definition"].startswith("label_values(sio_gateway_build_info")
        # Outside of Kubernetes there is no namespace: `.*` matches that, and a list of found values does not.
        assert variables[name]["allValue"] == ".*"
    assert "__inputs" not in DASHBOARD, "a sidecar cannot fill in inputs"
