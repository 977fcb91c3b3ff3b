"""docs/how-to/deploy-with-helm.md, values.yaml, values.schema.json and Chart.yaml agree."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.integration.chart.sets import NAMES_OF_OTHERS, SETS
from tests.support.paths import ROOT
from tools.chart import table
from tools.chart.rendering import CHART, render, value_sets
from tools.chart.schemas import RELEASES

PAGE = table.PAGE.read_text(encoding="utf-8")
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
DESCRIPTION = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))


def documented() -> dict[str, tuple[str, str]]:
    """Return default and meaning of each value in the table."""
    rows = re.findall(r"^\| `([A-Za-z.]+)` \| (?:`(.*?)`)? ?\| (.+) \|$", PAGE, re.MULTILINE)
    return {path: (default, meaning) for path, default, meaning in rows}


def at(path: str) -> Any:
    """Return the default at a dotted path."""
    value = DEFAULTS
    for part in path.split("."):
        value = value[part]
    return value


def leaves(value: Any, path: str, known: set[str]) -> Iterator[str]:
    """Yield the paths of all values, none deeper than a documented path."""
    if path in known and not any(each.startswith(f"{path}.") for each in known):
        yield path
    elif isinstance(value, dict) and value:
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}" if path else name, known)
    else:
        yield path


def test_table_has_every_value_and_nothing_else() -> None:
    known = set(documented())

    assert set(leaves(DEFAULTS, "", known)) == known - {"drain"}  # which has a row for the whole mapping, too


def test_table_has_the_defaults_of_values_yaml() -> None:
    shown = {path: yaml.safe_load(default) for path, (default, _) in documented().items() if path != "drain"}
    # An empty string has an empty cell, like a value that is not set.
    defaults = {path: None if at(path) == "" else at(path) for path in shown}

    assert shown == defaults


def test_every_value_has_a_meaning() -> None:
    assert [
        path for path, (_, meaning) in documented().items() if len(meaning) < 10 or meaning[-1] != "."
    ] == []


def test_table_is_generated_from_values_yaml() -> None:
    assert table.is_current(), "run `python -m tools.chart table`"


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the definition that a schema refers to, or the schema itself."""
    if "$ref" in schema:
        found: dict[str, Any] = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def test_schema_has_every_value_and_nothing_else() -> None:
    def compare(schema: dict[str, Any], values: dict[str, Any], path: str) -> None:
        known = resolved(schema).get("properties")
        if known is None or path == "/config" or not values:
            return
        # Helm passes `global` to every chart of a release.
        assert resolved(schema).get("additionalProperties", True) is (path == "/global"), path
        # Names of other charts are allowed by the schema and rejected with a sentence.
        ours = {name for name in known if f"{path}/{name}"[1:].replace("/", ".") not in NAMES_OF_OTHERS}
        assert ours - {"claims"} == set(values), path
        for name, each in values.items():
            if isinstance(each, dict):
                compare(known[name], each, f"{path}/{name}")

    compare(SCHEMA, DEFAULTS, "")


def test_chart_has_the_version_of_the_gateway() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert DESCRIPTION["appVersion"] == DESCRIPTION["version"] == project["version"]


def test_oldest_checked_kubernetes_is_the_oldest_supported_one() -> None:
    assert DESCRIPTION["kubeVersion"] == f">={RELEASES[0]}.0-0"


@pytest.mark.parametrize("example", re.findall(r"```yaml\n# values.yaml\n(.*?)```", PAGE, re.DOTALL))
def test_example_of_values_in_the_documentation_can_be_installed(example: str) -> None:
    values = value_sets()["split-ports"] | yaml.safe_load(example)
    if "existingSecret" in values:
        del values["secrets"]

    assert render(values).documents


def test_example_for_production_is_the_value_set_that_all_tests_render() -> None:
    (example,) = re.findall(
        r"## Install for production\n.*?```yaml\n# values.yaml\n(.*?)```", PAGE, re.DOTALL
    )

    assert yaml.safe_load(example) == SETS["production"]


def test_documentation_has_examples_of_values() -> None:
    assert PAGE.count("```yaml\n# values.yaml\n") >= 5
