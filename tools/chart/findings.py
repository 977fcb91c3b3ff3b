"""All that ``make chart`` looks at: lint, every value set rendered and held to schemas, the table of values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import helm_python

from tools.chart import schemas, table
from tools.chart.rendering import CHART, Refused, Values, render, value_sets

_WARNING: Final = 2
"""Severities of Helm's linter: 1 is information, 2 a warning, 3 an error."""


def lint(values: Values) -> list[str]:
    """What Helm's linter warns of or refuses, strictly."""
    report = helm_python.lint(CHART, values, strict=True)
    return [f"{each['path']}: {each['error']}" for each in report["messages"] if each["severity"] >= _WARNING]


def of_value_set(values: Values) -> tuple[int, list[str]]:
    """How many objects a value set makes, and everything that is wrong with them."""
    wrong = lint(values)
    try:
        rendered = render(values)
    except Refused as refusal:
        return 0, [*wrong, str(refusal)]
    return len(rendered.documents), wrong + schemas.findings(rendered.documents)


def all_of_them() -> Iterator[tuple[str, list[str]]]:
    """A sentence for each thing that was looked at, and what was wrong with it."""
    releases = " and ".join(schemas.RELEASES)
    for name, values in value_sets().items():
        count, wrong = of_value_set(values)
        yield (
            f"{name}: linted strictly, {count} objects held to Kubernetes {releases} and to operators",
            wrong,
        )
    stale = [] if table.is_current() else [f"{table.PAGE.name} is not: python -m tools.chart table writes it"]
    yield "docs/how-to/deploy-with-helm.md: the table is that of values.yaml", stale
