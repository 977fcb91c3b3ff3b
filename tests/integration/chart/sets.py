"""The value sets of tests/integration/chart/values, and access to the objects that Helm renders for them."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import yaml

from tools.chart.rendering import CHART, Document, Rendered, Values, render, value_sets

SETS: Final = value_sets()
NAMES_OF_OTHERS: Final[dict[str, str]] = yaml.safe_load(
    (CHART / "files" / "names.yaml").read_text(encoding="utf-8")
)
"""Names of values that other charts use, with what this chart has instead."""


@cache
def rendered_set(name: str) -> Rendered:
    """Return the objects that Helm renders for a value set."""
    return render(SETS[name])


def with_(values: Values, **changes: Any) -> Values:
    """Change values in place and return them; ``a__b`` is the value ``b`` in the mapping ``a``."""
    for path, value in changes.items():
        *parents, last = path.split("__")
        mapping = values
        for parent in parents:
            mapping = mapping.setdefault(parent, {})
        mapping[last] = value
    return values


def gateway(rendered: Rendered) -> Document:
    """Return the Deployment of the gateway, not that of the bundled Redis."""
    component = "app.kubernetes.io/component"
    found = [
        each for each in rendered.of_kind("Deployment") if each["metadata"]["labels"][component] == "gateway"
    ]
    assert len(found) == 1
    return found[0]


def settings_of(rendered: Rendered) -> dict[str, Any]:
    """Return the content of the YAML file of settings."""
    name = mounted(rendered)["config"]["configMap"]["name"]
    settings: dict[str, Any] = yaml.safe_load(rendered.one("ConfigMap", name)["data"]["gateway.yaml"])
    return settings


def mounted(rendered: Rendered) -> dict[str, dict[str, Any]]:
    """Return the volumes of the gateway's pods by name."""
    return {each["name"]: each for each in gateway(rendered)["spec"]["template"]["spec"]["volumes"]}
