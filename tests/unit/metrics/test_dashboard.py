"""The dashboard can be imported, and asks only for what is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import Metric

from tests.unit.metrics.page import FILES, described, faults, values_asked, values_shown
from tests.unit.metrics.promql import read

DASHBOARD = json.loads((FILES / "dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SHOWN_ELSEWHERE = {
    "sio_gateway_engineio_sessions_unauthenticated_limit",
    "sio_gateway_replica_status_changes_total",
    "sio_gateway_log_lines_dropped_total",
    "sio_gateway_redis_connected",
    "sio_gateway_redis_messages_received_total",
    "process_virtual_memory_bytes",
    "python_gc_objects_collected_total",
    "python_gc_objects_uncollectable_total",
}
"""What somebody asks for who looks for something particular."""


def queries() -> Iterator[tuple[str, str]]:
    """Each query and where it stands."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], annotation["expr"]


QUERIES = list(queries())


@pytest.mark.parametrize(("where", "text"), QUERIES, ids=[where for where, _ in QUERIES])
def test_a_query_names_only_what_there_is(where: str, text: str) -> None:
    query = read(text)

    assert query.selected
    assert faults(query) == []


@pytest.mark.parametrize(("where", "text"), QUERIES, ids=[where for where, _ in QUERIES])
def test_a_query_asks_for_the_chosen_replicas_alone(where: str, text: str) -> None:
    chosen = {"namespace": "$namespace", "job": "$job", "instance": "$instance"}

    asked = [
        matchers for name, matchers in read(text).selected if name != "sio_gateway_build_info" or matchers
    ]

    assert [matchers for matchers in asked if not chosen.items() <= matchers.items()] == []


@pytest.mark.parametrize(("where", "text"), QUERIES, ids=[where for where, _ in QUERIES])
def test_a_query_asks_for_values_that_there_are(
    where: str, text: str, first_scrape: dict[str, Metric]
) -> None:
    assert values_asked(read(text)) - values_shown(first_scrape) == set()


def test_a_query_is_as_clever_as_the_data_source() -> None:
    """A rate over a fixed time is empty where the scrape interval is longer, and hides peaks where it is shorter."""
    assert [text for _, text in QUERIES if re.search(r"\[(?!\$__rate_interval\])", text)] == []


def test_every_metric_is_on_the_dashboard_or_was_left_out_on_purpose() -> None:
    asked = {name for _, text in QUERIES for name, _ in read(text).selected}
    asked |= {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked}

    assert set(described()) - asked == SHOWN_ELSEWHERE


def test_every_panel_is_named_described_and_asks_the_chosen_data_source() -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}

    assert [panel["id"] for panel in PANELS if not (panel["title"] and panel["description"])] == []
    assert [panel["id"] for panel in PANELS if panel["datasource"] != source] == []
    assert [t for panel in PANELS for t in panel["targets"] if t["datasource"] != source] == []


def test_ids_are_unique_and_no_panel_covers_another() -> None:
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


def test_it_can_be_chosen_what_is_shown() -> None:
    variables: dict[str, Any] = {each["name"]: each for each in DASHBOARD["templating"]["list"]}

    assert list(variables) == ["datasource", "namespace", "job", "instance"]
    assert variables["datasource"]["query"] == "prometheus"
    for name in ("namespace", "job", "instance"):
        assert variables[name]["definition"].startswith("label_values(sio_gateway_build_info")
        # Outside of Kubernetes there is no namespace, which `.*` matches and a list of what was found does not.
        assert variables[name]["allValue"] == ".*"
    assert "__inputs" not in DASHBOARD, "a sidecar cannot answer questions"
