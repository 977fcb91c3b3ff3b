"""What the probes are answered."""

from __future__ import annotations

import pytest

from gateway.domain.status import StateStatus
from gateway.health import Health, Phase
from gateway.metrics import MetricFactory
from tests.support.metrics import counted

STARTED, SERVING, CHANGED = 1_795_262_400.0, 1_795_262_401.5, 1_795_262_460.25
"""2026-11-21T12:00:00Z, 1.5 s later, a minute later."""


class Replica:
    """A health with a clock and a status that a test sets."""

    def __init__(self, phase: Phase, state_status: StateStatus) -> None:
        self.now, self.state_status, self.since = STARTED, state_status, CHANGED
        self.metrics = MetricFactory()
        self.health = Health(
            now=lambda: self.now, status=lambda: (self.state_status, self.since), metrics=self.metrics
        )
        self.now = SERVING
        if phase is not Phase.STARTING:
            self.health.enter(phase)


@pytest.mark.parametrize(
    ("phase", "state_status", "status", "part", "since"),
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
def test_report_names_the_part_that_is_not_ready_and_since_when(
    phase: Phase, state_status: StateStatus, status: str, part: str, since: str
) -> None:
    health = Replica(phase, state_status).health

    assert not health.is_ready
    report = health.report()
    assert (report["status"], report["part"], report["since"]) == (status, part, since)


@pytest.mark.parametrize("state_status", [StateStatus.HEALTHY, StateStatus.UNAVAILABLE])
def test_replica_that_serves_is_ready_unless_its_subscription_is_stalled(state_status: StateStatus) -> None:
    health = Replica(Phase.SERVING, state_status).health

    assert health.is_ready
    assert health.report()["status"] == "ready"
    assert health.report()["parts"] == {
        "process": {"status": "serving", "since": "2026-11-21T12:00:01.500Z"},
        "state": {"status": str(state_status), "since": "2026-11-21T12:01:00.250Z"},
    }


@pytest.mark.parametrize("state_status", list(StateStatus))
def test_report_is_degraded_only_while_the_state_is_unavailable(state_status: StateStatus) -> None:
    report = Replica(Phase.SERVING, state_status).health.report()

    degraded = "the shared state is unavailable since 2026-11-21T12:01:00.250Z"
    assert report.get("degraded") == (degraded if state_status is StateStatus.UNAVAILABLE else None)


def test_rejection_of_the_state_is_the_reason() -> None:
    health = Health(
        now=lambda: STARTED,
        status=lambda: (StateStatus.UNAVAILABLE, CHANGED),
        metrics=MetricFactory(),
        rejection=lambda: "it is full (OOM)",
    )
    health.enter(Phase.SERVING)

    report = health.report()

    assert (
        report["degraded"]
        == "the shared state is unavailable since 2026-11-21T12:01:00.250Z: it is full (OOM)"
    )
    assert report["parts"]["state"]["reason"] == "it is full (OOM)"  # type: ignore[index]


@pytest.mark.parametrize("state_status", [StateStatus.HEALTHY, StateStatus.UNAVAILABLE])
def test_replica_is_alive_whatever_its_state_does(state_status: StateStatus) -> None:
    replica = Replica(Phase.SERVING, state_status)
    replica.now = CHANGED + 1_000_000

    assert replica.health.is_alive


def test_replica_is_not_alive_after_a_long_stall() -> None:
    replica = Replica(Phase.SERVING, StateStatus.SUBSCRIPTION_STALLED)

    # docs/how-to/operate.md: all replicas may stall at once, and must not be killed together soon.
    replica.now = CHANGED + 299
    assert replica.health.is_alive
    replica.now = CHANGED + 300
    assert not replica.health.is_alive


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
