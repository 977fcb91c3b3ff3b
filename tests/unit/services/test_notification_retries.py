"""When a notification is tried again, and when it is not any more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.notifications import HeadFailures, QueuedNotification
from gateway.services.notifications.retries import (
    MAX_DELAY_SECONDS,
    RetryRules,
    expired,
    pause_seconds,
)

MIDDLE = 0.5


def queued(sequence: int, *, at: float = 1000.0) -> QueuedNotification:
    return QueuedNotification(sequence, f"e-{sequence}", "u", "client.event", at, "{}")


def failed(sequence: int, *, retry_at: float, beside_success: int = 0) -> HeadFailures:
    return HeadFailures(sequence, 1, beside_success, retry_at, 500)


def test_pauses_grow_to_a_minute_and_stay_there() -> None:
    rules = RetryRules()

    pauses = [
        rules.delay_seconds(failures, retry_after_seconds=None, chance=MIDDLE) for failures in range(1, 10)
    ]

    assert pauses == [1, 2, 5, 10, 30, 60, 60, 60, 60]


@given(failures=st.integers(1, 10_000), chance=st.floats(0, 1))
def test_pauses_are_spread_by_a_fifth(failures: int, chance: float) -> None:
    rules = RetryRules()
    scheduled = rules.delay_seconds(failures, retry_after_seconds=None, chance=MIDDLE)

    pause = rules.delay_seconds(failures, retry_after_seconds=None, chance=chance)

    assert 0.8 * scheduled - 1e-9 <= pause <= 1.2 * scheduled + 1e-9


@given(
    failures=st.integers(1, 100),
    asked=st.floats(0, 3600),
    chance=st.floats(0, 1),
)
def test_pause_that_the_backend_asks_for_is_never_shortened(
    failures: int, asked: float, chance: float
) -> None:
    pause = RetryRules().delay_seconds(failures, retry_after_seconds=asked, chance=chance)

    assert max(1.0, asked) <= pause <= 1.2 * max(1.0, asked) + 1e-9


def test_pause_that_the_backend_asks_for_may_be_shorter_than_the_schedule() -> None:
    assert RetryRules().delay_seconds(20, retry_after_seconds=3, chance=0) == 3


@pytest.mark.parametrize(("beside_success", "gives_up"), [(0, False), (7, False), (8, True), (9, True)])
def test_notification_is_given_up_after_eight_failures_beside_successes(
    beside_success: int, *, gives_up: bool
) -> None:
    failures = HeadFailures(1, 100, beside_success, 0.0, 500)

    assert RetryRules().gives_up(failures) is gives_up


def test_first_notification_waits_until_its_time() -> None:
    head = queued(7)

    assert pause_seconds(failed(7, retry_at=1010), head, now=1000) == 10
    assert pause_seconds(failed(7, retry_at=1010), head, now=1010) == 0
    assert pause_seconds(failed(7, retry_at=1010), head, now=2000) == 0
    assert pause_seconds(None, head, now=1000) == 0


def test_failures_of_an_earlier_notification_delay_nothing() -> None:
    assert pause_seconds(failed(6, retry_at=1010), queued(7), now=1000) == 0


def test_wrong_clock_of_a_former_owner_stops_no_partition_for_long() -> None:
    assert pause_seconds(failed(7, retry_at=1e12), queued(7), now=1000) == MAX_DELAY_SECONDS


def test_notifications_are_too_old_up_to_the_first_that_is_not() -> None:
    notifications = [queued(1, at=10), queued(2, at=39.9), queued(3, at=40), queued(4, at=20)]

    assert expired(notifications, now=100, keep_seconds=60) == [1, 2]
    assert expired(notifications, now=70, keep_seconds=60) == []
    assert expired([], now=100, keep_seconds=60) == []


def test_replayed_notification_is_as_old_as_its_time_in_the_queue() -> None:
    replayed = QueuedNotification(500_000_000, "n1", "ann", "client.event", 10.0, "{}")

    assert expired([replayed], now=560, keep_seconds=60) == []
    assert expired([replayed], now=561, keep_seconds=60) == [500_000_000]
