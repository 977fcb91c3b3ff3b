"""The alerts query existing metrics, and name the section that says what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

from tests.support.paths import ROOT
from tests.unit.metrics.page import (
    FILES,
    TARGET,
    described,
    faults,
    series,
    values_in_query,
    values_in_scrape,
)
from tests.unit.metrics.promql import read

DOCUMENT = yaml.safe_load((FILES / "alerts.yaml").read_text(encoding="utf-8"))
ALERTS: list[dict[str, Any]] = [rule for group in DOCUMENT["groups"] for rule in group["rules"]]
OPERATIONS = (ROOT / "docs/how-to/operate.md").read_text(encoding="utf-8")
EACH = pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])


def test_document_has_the_form_that_prometheus_loads() -> None:
    assert list(DOCUMENT) == ["groups"]
    assert all(set(group) == {"name", "rules"} for group in DOCUMENT["groups"])
    names = [alert["alert"] for alert in ALERTS]
    assert len(set(names)) == len(names)


@EACH
def test_alert_has_only_fields_that_prometheus_knows(alert: dict[str, Any]) -> None:
    assert (
        {"alert", "expr", "labels", "annotations"}
        <= set(alert)
        <= {"alert", "expr", "for", "labels", "annotations"}
    )
    assert re.fullmatch(r"SioGateway[A-Za-z0-9]+", alert["alert"])
    assert re.fullmatch(r"\d+[smh]", alert.get("for", "1m"))


@EACH
def test_alert_queries_existing_metrics_and_labels(alert: dict[str, Any]) -> None:
    query = read(alert["expr"])

    assert query.selected
    assert faults(query) == []


@EACH
def test_alert_queries_one_job(alert: dict[str, Any]) -> None:
    """Otherwise a release that is gone would not be noticed beside another one in the same Prometheus."""
    jobs = {matchers.get("job") for _, matchers in read(alert["expr"]).selected}

    assert jobs == {"sio-gateway"}


def test_absent_release_and_unreachable_replica_have_alerts() -> None:
    queries = {alert["alert"]: alert["expr"] for alert in ALERTS}

    assert queries["SioGatewayAbsent"] == 'absent(sio_gateway_build_info{job="sio-gateway"})'
    assert queries["SioGatewayReplicaUnreachable"] == 'up{job="sio-gateway"} == 0'


@EACH
def test_alert_queries_existing_label_values(alert: dict[str, Any], first_scrape: dict[str, Metric]) -> None:
    """An alert with a misspelled reason would never fire. The series must exist before its first event."""
    queried = {each for each in values_in_query(read(alert["expr"])) if each[1] not in TARGET}

    assert queried - values_in_scrape(first_scrape) == set()


@EACH
def test_alert_has_a_severity_a_description_and_a_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert len(alert["annotations"]["description"]) > len("what to make of it")
    assert re.fullmatch(
        r"docs/how-to/operate\.md#[a-z0-9]+(-[a-z0-9]+)*", alert["annotations"]["runbook_url"]
    )


@EACH
def test_annotations_use_labels_of_the_alert(alert: dict[str, Any]) -> None:
    used = set(
        re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"] + alert["annotations"]["description"])
    )
    query = read(alert["expr"])
    known = series()
    is_grouped = bool(re.search(r"\bsum by\b|\bmax by\b", alert["expr"]))
    of_metrics = TARGET.union(*(known[name] for name, _ in query.selected)) - query.dropped

    assert used <= (query.grouped - {"le"} if is_grouped else of_metrics)


@EACH
def test_runbook_section_names_the_alert(alert: dict[str, Any]) -> None:
    sections = re.split(r"^#+ ", OPERATIONS, flags=re.MULTILINE)
    by_anchor = {title_of(section).lower().replace(" ", "-"): section for section in sections}

    assert f"`{alert['alert']}`" in by_anchor[alert["annotations"]["runbook_url"].partition("#")[2]]


def test_metrics_on_the_page_of_operations_exist() -> None:
    named = set(re.findall(r"`((?:sio_gateway|process)_[a-z_]+)", OPERATIONS))
    known = set(described()) | set(series())

    assert named
    assert named - known == set()


def title_of(section: str) -> str:
    return section.partition("\n")[0].strip()
