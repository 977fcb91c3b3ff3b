"""``docs/reference/metrics.md`` as data, and whether a query names only what is there."""

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
"""Labels that Prometheus gives to what it scrapes."""
OF_PROMETHEUS = {"up": frozenset[str]()}
"""What Prometheus itself says of what it scrapes."""
OF_A_HISTOGRAM = {"_bucket": {"le"}, "_sum": set(), "_count": set()}


class Described(NamedTuple):
    """One row of the page."""

    name: str
    type: str
    labels: frozenset[str]
    text: str


def described() -> dict[str, Described]:
    """Every metric of the page by its name."""
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
    assert sorted(set(names)) == sorted(names), "a metric is described twice"
    return {each.name: each for each in found}


def series() -> dict[str, frozenset[str]]:
    """Every name that a query may select, and the labels that there are."""
    found = dict(OF_PROMETHEUS)
    for each in described().values():
        if each.type != "histogram":
            found[each.name] = each.labels
            continue
        for ending, more in OF_A_HISTOGRAM.items():
            found[each.name + ending] = each.labels | more
    return found


def faults(query: Query) -> list[str]:
    """What a query names that is not on the page."""
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
    """The values that a matcher names, where it names them one by one."""
    return matcher.split("|") if re.fullmatch(r"[a-z0-9_|]+", matcher) else []


Value = tuple[str, str, str]
"""A metric, a label, a value of that."""


def values_asked(query: Query) -> set[Value]:
    """The values of labels that a query names."""
    return {
        (name, label, value)
        for name, matchers in query.selected
        for label, matcher in matchers.items()
        for value in values_of(matcher)
    }


def values_shown(families: Mapping[str, Metric]) -> set[Value]:
    """Those that a gateway shows."""
    return {
        (sample.name, label, value)
        for family in families.values()
        for sample in family.samples
        for label, value in sample.labels.items()
    }
