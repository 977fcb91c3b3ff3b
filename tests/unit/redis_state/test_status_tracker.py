"""The status of the state, as it follows from probes, answers and trial writes."""

from __future__ import annotations

from gateway.domain.status import StateStatus
from gateway.state.redis.liveness import StatusTracker


class RecordingTracker(StatusTracker):
    """A StatusTracker with a timeout of 10 s that begins at second 0 and records each change."""

    def __init__(self) -> None:
        self.changes: list[StateStatus] = []
        super().__init__(stall_seconds=10, now=0, on_changed=self.changes.append)

    def probes_finished(self, *seconds: float, answered: bool = True) -> None:
        for now in seconds:
            self.command_finished(now, answered=answered)


def test_status_with_received_probes_is_healthy() -> None:
    tracker = RecordingTracker()
    for now in range(0, 100, 2):
        tracker.probes_finished(now)
        tracker.probe_received(now)

    assert tracker.changes == []


def test_status_without_probes_is_stalled_after_the_timeout() -> None:
    tracker = RecordingTracker()

    tracker.probes_finished(2, 4, 6, 8)
    assert tracker.changes == []
    tracker.probes_finished(10)
    assert tracker.changes == [StateStatus.SUBSCRIPTION_STALLED]
    tracker.probe_received(11)
    assert tracker.changes == [StateStatus.SUBSCRIPTION_STALLED, StateStatus.HEALTHY]


def test_status_without_answers_is_unavailable_and_not_stalled() -> None:
    tracker = RecordingTracker()

    tracker.probes_finished(2, 20, 40, answered=False)
    assert tracker.changes == [StateStatus.UNAVAILABLE]
    tracker.probes_finished(41, 45, 50)
    assert tracker.changes == [StateStatus.UNAVAILABLE, StateStatus.HEALTHY]
    tracker.probes_finished(51)
    assert tracker.changes == [
        StateStatus.UNAVAILABLE,
        StateStatus.HEALTHY,
        StateStatus.SUBSCRIPTION_STALLED,
    ]


def test_status_without_probes_is_stalled_even_if_every_second_command_fails() -> None:
    tracker = RecordingTracker()
    reconnects = []

    for now in range(2, 60, 2):
        tracker.probes_finished(now, answered=now % 4 == 0)
        if tracker.should_reconnect(now):
            reconnects.append(now)

    assert reconnects == [16, 28, 40, 52]
    assert tracker.changes[-1] is StateStatus.SUBSCRIPTION_STALLED
    assert tracker.changes.index(StateStatus.SUBSCRIPTION_STALLED) == len(tracker.changes) - 1


def test_time_without_answers_does_not_count_towards_a_stall() -> None:
    tracker = RecordingTracker()
    tracker.probes_finished(2, 4)
    tracker.probe_received(4.1)
    tracker.probes_finished(6, 30, 60, answered=False)

    tracker.probes_finished(62)
    assert tracker.should_reconnect(62) is False
    tracker.probe_received(62.1)

    assert tracker.changes == [StateStatus.UNAVAILABLE, StateStatus.HEALTHY]


def test_stalled_status_is_unavailable_after_two_commands_without_an_answer() -> None:
    tracker = RecordingTracker()
    tracker.probes_finished(10)

    tracker.probes_finished(12, answered=False)
    assert tracker.changes == [StateStatus.SUBSCRIPTION_STALLED]
    tracker.probes_finished(14, answered=False)

    assert tracker.changes == [StateStatus.SUBSCRIPTION_STALLED, StateStatus.UNAVAILABLE]


def test_stalled_status_is_healthy_after_a_probe_despite_a_failed_command() -> None:
    tracker = RecordingTracker()
    tracker.probes_finished(10)
    tracker.probes_finished(12, answered=False)
    tracker.probe_received(13)

    tracker.probes_finished(14)

    assert tracker.changes == [StateStatus.SUBSCRIPTION_STALLED, StateStatus.HEALTHY]


def test_status_with_rejected_writes_is_unavailable_until_one_is_accepted() -> None:
    tracker = RecordingTracker()
    tracker.probes_finished(2)
    tracker.write_finished(2, accepted=False)
    tracker.probe_received(2.1)
    assert tracker.changes == [StateStatus.UNAVAILABLE]

    tracker.probes_finished(4)
    assert tracker.changes == [StateStatus.UNAVAILABLE]
    tracker.write_finished(4, accepted=True)

    assert tracker.changes == [StateStatus.UNAVAILABLE, StateStatus.HEALTHY]


def test_status_with_rejected_writes_and_no_probes_is_unavailable_and_reconnects() -> None:
    tracker = RecordingTracker()

    for now in range(2, 30, 2):
        tracker.probes_finished(now)
        tracker.write_finished(now, accepted=False)

    assert tracker.changes == [StateStatus.UNAVAILABLE]
    assert tracker.should_reconnect(30)


def test_reconnect_is_due_halfway_to_a_stall_and_again_after_each_such_time() -> None:
    tracker = RecordingTracker()

    assert [now for now in range(1, 30) if tracker.should_reconnect(now)] == [5, 10, 15, 20, 25]
