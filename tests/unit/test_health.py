"""What probes are told."""

from __future__ import annotations

import pytest

from gateway.domain.status import StateStatus
from gateway.health import Health, Phase
from gateway.metrics import MetricFactory
from tests.support.metrics import counted

STARTED, SERVING, CHANGED = 1_795_262_400.0, 1_795_262_401.5, 1_795_262_460.25
"""2026-11-21T12:00:00Z, 1.5 s later, a minute later."""


class Replica:
    """A health over a clock and a condition that a test sets."""

    def __init__(self, phase: Phase, condition: StateStatus) -> None:
        self.now, self.condition, self.since = STARTED, condition, CHANGED
        self.metrics = MetricFactory()
        self.health = Health(
            now=lambda: self.now, status=lambda: (self.condition, self.since), metrics=self.metrics
        )
        self.now = SERVING
        if phase is not Phase.STARTING:
            self.health.enter(phase)


@pytest.mark.parametrize(
    ("phase", "condition", "status", "part", "since"),
    [
        (Phase.STARTING, StateStatus.HEALTHY, "starting", "process", "2026-11-21T12:00:00.000Z"),
        (Phase.STARTING, StateStatus.SUBSCRIPTION_STALLED, "starting", "process", "2026-11-21T12:00:00.000Z"),
        (Phase.DRAINING, StateStatus.SUBSCRIPTION_STALLED, "draining", "process", "2026-11-21T12:00:01.500Z"),
        (Phase.DRAINING, StateStatus.HEALTHY, "draining", "process", "2026-11-21T12:00:01.500Z"),
        (
            Phase.SERVING,
            StateStatus.SUBSCRIPTION_STALLED,
            "subscription_stalled",
            "state",
            "2026-11-21T12:01:00.250Z",
        ),
    ],
)
def test_a_replica_that_is_not_ready_says_which_part_and_since_when(
    phase: Phase, condition: StateStatus, status: str, part: str, since: str
) -> None:
    health = Replica(phase, condition).health

    assert not health.ready
    report = health.report()
    assert (report["status"], report["part"], report["since"]) == (status, part, since)


@pytest.mark.parametrize("condition", [StateStatus.HEALTHY, StateStatus.UNAVAILABLE])
def test_a_replica_that_serves_and_is_not_deaf_is_ready(condition: StateStatus) -> None:
    health = Replica(Phase.SERVING, condition).health

    assert health.ready
    assert health.report()["status"] == "ready"
    assert health.report()["parts"] == {
        "process": {"status": "serving", "since": "2026-11-21T12:00:01.500Z"},
        "state": {"status": str(condition), "since": "2026-11-21T12:01:00.250Z"},
    }


@pytest.mark.parametrize("condition", list(StateStatus))
def test_only_a_state_that_is_away_makes_it_degraded(condition: StateStatus) -> None:
    report = Replica(Phase.SERVING, condition).health.report()

    told = "the shared state is away since 2026-11-21T12:01:00.250Z"
    assert report.get("degraded") == (told if condition is StateStatus.UNAVAILABLE else None)


def test_what_the_state_refuses_is_the_reason() -> None:
    health = Health(
        now=lambda: STARTED,
        status=lambda: (StateStatus.UNAVAILABLE, CHANGED),
        metrics=MetricFactory(),
        rejection=lambda: "it is full (OOM)",
    )
    health.enter(Phase.SERVING)

    report = health.report()

    assert report["degraded"] == "the shared state is away since 2026-11-21T12:01:00.250Z: it is full (OOM)"
    assert report["parts"]["state"]["reason"] == "it is full (OOM)"  # type: ignore[index]


@pytest.mark.parametrize("condition", [StateStatus.HEALTHY, StateStatus.UNAVAILABLE])
def test_a_replica_lives_whatever_its_state_does(condition: StateStatus) -> None:
    replica = Replica(Phase.SERVING, condition)
    replica.now = CHANGED + 1_000_000

    assert replica.health.alive


def test_one_that_has_been_deaf_for_long_does_not_count_as_alive_any_more() -> None:
    replica = Replica(Phase.SERVING, StateStatus.SUBSCRIPTION_STALLED)

    # As docs/how-to/operate.md says: all replicas may be deaf at once, and are not to be killed together soon.
    replica.now = CHANGED + 299
    assert replica.health.alive
    replica.now = CHANGED + 300
    assert not replica.health.alive


def test_metrics_show_what_the_probes_answer() -> None:
    replica = Replica(Phase.SERVING, StateStatus.HEALTHY)
    assert (counted(replica.metrics, "replica_ready"), counted(replica.metrics, "replica_draining")) == (
        {"": 1},
        {},
    )

    replica.health.enter(Phase.DRAINING)

    assert (counted(replica.metrics, "replica_ready"), counted(replica.metrics, "replica_draining")) == (
        {},
        {"": 1},
    )
