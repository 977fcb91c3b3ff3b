"""Fixtures: each value set in turn, and small value sets that tests change."""

from __future__ import annotations

from copy import deepcopy

import pytest

from tests.integration.chart.sets import SETS, rendered_set
from tools.chart.rendering import Rendered, Values


@pytest.fixture(params=list(SETS))
def name(request: pytest.FixtureRequest) -> str:
    """The name of each value set in turn."""
    return str(request.param)


@pytest.fixture
def rendered(name: str) -> Rendered:
    """The objects that Helm renders for each value set in turn."""
    return rendered_set(name)


@pytest.fixture
def minimal() -> Values:
    """The smallest value set; a test may change it."""
    return deepcopy(SETS["minimal"])


@pytest.fixture
def shared(minimal: Values) -> Values:
    """The smallest value set with a Redis; a test may change it."""
    minimal["secrets"]["redisUrl"] = "redis://redis.data.svc:6379/0"
    return minimal
