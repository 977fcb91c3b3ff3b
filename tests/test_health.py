"""What probes are told."""

from __future__ import annotations

import pytest

from gateway.domain.condition import Condition
from gateway.health import Health


@pytest.mark.parametrize(
    ("listening", "draining", "condition", "status"),
    [
        (False, False, Condition.HEARING, "starting"),
        (True, False, Condition.HEARING, "ready"),
        (True, False, Condition.AWAY, "ready"),
        (True, False, Condition.DEAF, "deaf"),
        (True, True, Condition.DEAF, "draining"),
        (False, True, Condition.HEARING, "draining"),
    ],
)
def test_a_replica_is_ready_or_says_why_not(
    listening: bool, draining: bool, condition: Condition, status: str
) -> None:
    health = Health(lambda: condition)
    health.listening, health.draining = listening, draining

    assert health.status == status


@pytest.mark.parametrize("condition", list(Condition))
def test_only_a_state_that_is_away_makes_it_degraded(condition: Condition) -> None:
    assert Health(lambda: condition).degraded is (condition is Condition.AWAY)
