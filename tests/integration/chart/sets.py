"""Value sets of tests/integration/chart/values, what Helm makes of them, and where in it things are."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import yaml

from tools.chart.rendering import Document, Rendered, Values, render, value_sets

SETS: Final = value_sets()


@cache
def rendered_set(name: str) -> Rendered:
    """What Helm makes of a value set."""
    return render(SETS[name])


def with_(values: Values, **changes: Any) -> Values:
    """A value set with further values, ``a__b`` for a value within a mapping; changed in place."""
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return values


def gateway(rendered: Rendered) -> Document:
    """The Deployment of the gateway, beside which there may be that of the bundled Redis."""
    component = "app.kubernetes.io/component"
    found = [
        each for each in rendered.of_kind("Deployment") if each["metadata"]["labels"][component] == "gateway"
    ]
    assert len(found) == 1
    return found[0]


def settings_of(rendered: Rendered) -> dict[str, Any]:
    """The YAML file of settings that the gateway is given."""
    name = mounted(rendered)["config"]["configMap"]["name"]
    settings: dict[str, Any] = yaml.safe_load(rendered.one("ConfigMap", name)["data"]["gateway.yaml"])
    return settings


def mounted(rendered: Rendered) -> dict[str, dict[str, Any]]:
    """The volumes of the gateway's pods by their names."""
    return {each["name"]: each for each in gateway(rendered)["spec"]["template"]["spec"]["volumes"]}
