"""Value sets of tests/chart/values and what Helm makes of them."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import yaml

from tools.chart.rendering import Document, Rendered, Values, render, value_sets

SETS = value_sets()


@cache
def rendered_set(name: str) -> Rendered:
    return render(SETS[name])


@pytest.fixture(params=list(SETS))
def name(request: pytest.FixtureRequest) -> str:
    """Each value set in turn."""
    return str(request.param)


@pytest.fixture
def rendered(name: str) -> Rendered:
    """What Helm makes of each value set in turn."""
    return rendered_set(name)


@pytest.fixture
def minimal() -> Values:
    """The smallest value set, to be changed by a test."""
    return deepcopy(SETS["minimal"])


@pytest.fixture
def shared(minimal: Values) -> Values:
    """The smallest value set with a Redis, to be changed by a test."""
    minimal["secrets"]["redisUrl"] = "redis://redis.data.svc:6379/0"
    return minimal


def with_(values: Values, **changes: Any) -> Values:
    """Value sets with further values, ``a__b`` for a value within a mapping."""
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
    name = gateway(rendered)["metadata"]["name"]
    settings: dict[str, Any] = yaml.safe_load(rendered.one("ConfigMap", name)["data"]["gateway.yaml"])
    return settings
