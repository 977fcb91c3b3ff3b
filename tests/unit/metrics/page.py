"""``docs/reference/metrics.md`` as data, and queries compared with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client import Metric

from tests.support.paths import ROOT
from tests.unit.metrics.promql import Query

PAGE = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
FILES = ROOT / "helm/sio-gateway/files"
TARGET = {"namespace", "job", "instance", "pod", "container", "service", "endpoint"}
"""Labels that Prometheus adds to the series that it scrapes."""
PROMETHEUS_SERIES = {"up": frozenset[str]()}
"""Series that Prometheus itself records of a target."""
HISTOGRAM_SUFFIXES = {"_bucket": {"le"}, "_sum": set(), "_count": set()}


class Described(NamedTuple):
    """One row of the page."""

    name: str
    type: str
    labels: frozenset[str]
    text: str


def described() -> dict[str, Described]:
    """Return every metric of the page by its name."""
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for line in PAGE.splitlines()
        if re.match(r"\| `(sio_gateway|process|python)_", line)
    ]
    found = [
        Described(name.strip("`"), kind, frozenset(re.findall(r"`(\w+)`", labels)), text)
        for name, kind, labels, text in rows
    ]
    names = [each.name for each in found]
    assert sorted(set(names)) == sorted(names), "a metric is on the page twice"
    return {each.name: each for each in found}


def series() -> dict[str, frozenset[str]]:
    """Return every name that a query may select, with its labels."""
    found = dict(PROMETHEUS_SERIES)
    for each in described().values():
        if each.type != "histogram":
            found[each.name] = each.labels
            continue
        for suffix, labels in HISTOGRAM_SUFFIXES.items():
            found[each.name + suffix] = each.labels | labels
    return found


def faults(query: Query) -> list[str]:
    """Return the metrics and labels in a query that are not on the page."""
    known = series()
    wrong = [f"no metric {name}" for name, _ in query.selected if name not in known]
    available = TARGET.union(*(known.get(name, frozenset()) for name, _ in query.selected))
    for name, matchers in query.selected:
        wrong += [
            f"no label {label} of {name}"
            for label in matchers
            if label not in known.get(name, set()) | TARGET
        ]
    wrong += [f"no label {label} to group by" for label in (query.grouped | query.dropped) - available]
    return wrong


def values_of(matcher: str) -> list[str]:
    """Return the values that a matcher lists, none if it is another regular expression."""
    return matcher.split("|") if re.fullmatch(r"[a-z0-9_|]+", matcher) else []


Value = tuple[str, str, str]
"""A metric, a label and a value of the label."""


def values_in_query(query: Query) -> set[Value]:
    """Return the label values in a query."""
    return {
        (name, label, value)
        for name, matchers in query.selected
        for label, matcher in matchers.items()
        for value in values_of(matcher)
    }


def values_in_scrape(families: Mapping[str, Metric]) -> set[Value]:
    """Return the label values in a scrape."""
    return {
        (sample.name, label, value)
        for family in families.values()
        for sample in family.samples
        for label, value in sample.labels.items()
    }
