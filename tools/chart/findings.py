"""Every check of ``make chart``: the linter, every value set rendered and validated, the table of values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import helm_python

from tools.chart import schemas, table
from tools.chart.rendering import CHART, RenderError, Values, render, value_sets

_WARNING: Final = 2
"""Severities of Helm's linter: 1 is information, 2 a warning, 3 an error."""


def lint(values: Values) -> list[str]:
    """Return the warnings and errors of Helm's strict linter."""
    report = helm_python.lint(CHART, values, strict=True)
    return [f"{each['path']}: {each['error']}" for each in report["messages"] if each["severity"] >= _WARNING]


def check_value_set(values: Values) -> tuple[int, list[str]]:
    """Return the number of objects that a value set renders to, and every finding."""
    found = lint(values)
    try:
        rendered = render(values)
    except RenderError as error:
        return 0, [*found, str(error)]
    return len(rendered.documents), found + schemas.validate(rendered.documents)


def run_checks() -> Iterator[tuple[str, list[str]]]:
    """Yield a sentence for each check, with its findings."""
    yield "defaults: strictly linted", lint({})
    releases = " and ".join(schemas.RELEASES)
    for name, values in value_sets().items():
        count, found = check_value_set(values)
        yield (
            f"{name}: strictly linted, {count} objects validated for Kubernetes {releases} and for operators",
            found,
        )
    stale = [] if table.is_current() else [f"{table.PAGE.name} is stale: run python -m tools.chart table"]
    yield "docs/how-to/deploy-with-helm.md: the table is that of values.yaml", stale
