"""The alerts ask only for what is there, and tell whoever is woken what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

from tests.support.paths import ROOT
from tests.unit.metrics.page import FILES, TARGET, described, faults, series, values_asked, values_shown
from tests.unit.metrics.promql import read

DOCUMENT = yaml.safe_load((FILES / "alerts.yaml").read_text(encoding="utf-8"))
ALERTS: list[dict[str, Any]] = [rule for group in DOCUMENT["groups"] for rule in group["rules"]]
OPERATIONS = (ROOT / "docs/how-to/operate.md").read_text(encoding="utf-8")
EACH = pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])


def test_the_document_is_what_prometheus_loads() -> None:
    assert list(DOCUMENT) == ["groups"]
    assert all(set(group) == {"name", "rules"} for group in DOCUMENT["groups"])
    names = [alert["alert"] for alert in ALERTS]
    assert len(set(names)) == len(names)


@EACH
def test_an_alert_has_what_prometheus_knows_and_nothing_else(alert: dict[str, Any]) -> None:
    assert (
        {"alert", "expr", "labels", "annotations"}
        <= set(alert)
        <= {"alert", "expr", "for", "labels", "annotations"}
    )
    assert re.fullmatch(r"SioGateway[A-Za-z0-9]+", alert["alert"])
    assert re.fullmatch(r"\d+[smh]", alert.get("for", "1m"))


@EACH
def test_an_alert_asks_only_for_what_there_is(alert: dict[str, Any]) -> None:
    query = read(alert["expr"])

    assert query.selected
    assert faults(query) == []


@EACH
def test_an_alert_asks_for_one_job_alone(alert: dict[str, Any]) -> None:
    """Beside another release that is well, one that is gone would not be missed otherwise."""
    jobs = {matchers.get("job") for _, matchers in read(alert["expr"]).selected}

    assert jobs == {"sio-gateway"}


def test_a_release_that_is_gone_and_a_replica_that_does_not_answer_are_told() -> None:
    asked = {alert["alert"]: alert["expr"] for alert in ALERTS}

    assert asked["SioGatewayAbsent"] == 'absent(sio_gateway_build_info{job="sio-gateway"})'
    assert asked["SioGatewayReplicaUnreachable"] == 'up{job="sio-gateway"} == 0'


@EACH
def test_an_alert_asks_for_values_that_there_are(
    alert: dict[str, Any], first_scrape: dict[str, Metric]
) -> None:
    """A misspelled reason would never fire. What is asked for must be there before it happens for the first time."""
    asked = {each for each in values_asked(read(alert["expr"])) if each[1] not in TARGET}

    assert asked - values_shown(first_scrape) == set()


@EACH
def test_an_alert_says_how_bad_it_is_what_happened_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert len(alert["annotations"]["description"]) > len("what to make of it")
    assert re.fullmatch(r"docs/how-to/operate\.md#[a-z0-9]+(-[a-z0-9]+)*", alert["annotations"]["runbook"])


@EACH
def test_what_is_said_names_labels_that_the_alert_has(alert: dict[str, Any]) -> None:
    said = set(
        re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"] + alert["annotations"]["description"])
    )
    query = read(alert["expr"])
    known = series()
    is_grouped = bool(re.search(r"\bsum by\b|\bmax by\b", alert["expr"]))
    of_metrics = TARGET.union(*(known[name] for name, _ in query.selected)) - query.dropped

    assert said <= (query.grouped - {"le"} if is_grouped else of_metrics)


@EACH
def test_the_page_of_operations_has_the_section_and_names_the_alert_there(alert: dict[str, Any]) -> None:
    sections = re.split(r"^#+ ", OPERATIONS, flags=re.MULTILINE)
    by_anchor = {title_of(section).lower().replace(" ", "-"): section for section in sections}

    assert f"`{alert['alert']}`" in by_anchor[alert["annotations"]["runbook"].partition("#")[2]]


def test_every_metric_on_the_page_of_operations_is_there() -> None:
    named = set(re.findall(r"`((?:sio_gateway|process)_[a-z_]+)", OPERATIONS))
    known = set(described()) | set(series())

    assert named
    assert named - known == set()


def title_of(section: str) -> str:
    return section.partition("\n")[0].strip()
