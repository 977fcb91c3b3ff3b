"""The short form: an owner is killed and one is suspended. ``python -m tests.load.notify`` causes all faults."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import pytest

from tests.load.notify.faults import KINDS, SHORT_FORM
from tests.load.notify.receiver import Received
from tests.load.notify.senders import Sent
from tests.load.notify.stage import Comparison, Run, cause, compare
from tests.load.notify.table import HEADER, WRONG, row, section

pytestmark = pytest.mark.timeout(420)

NOTIFICATIONS, PER_SECOND, USERS = 3_000, 150.0, 100


def test_each_acknowledged_notification_arrives_in_order_while_owners_are_killed_and_suspended() -> None:
    done = cause(SHORT_FORM, notifications=NOTIFICATIONS, per_second=PER_SECOND, users=USERS)

    found = done.comparison
    assert found.wrong[:12] == [], f"{len(found.wrong)} errors; {found.acknowledged} acknowledged"
    assert (found.acknowledged, found.arrived) == (NOTIFICATIONS, NOTIFICATIONS)


def event(n: int, rank: int, *, user: str = "u", event_id: str = "") -> Received:
    return Received(event_id or f"id-{user}-{n}", "client.event", user, n, rank, 0.0, 1)


def test_comparison_accepts_repeats_with_the_same_id_and_counts_them() -> None:
    received = [event(1, 10), event(1, 3, user="v"), event(1, 10), event(2, 11), event(1, 10)]

    found = compare(received, {"u": 2, "v": 1})

    assert (found.acknowledged, found.arrived, found.doubled, found.out_of_order) == (3, 3, 2, 0)
    assert found.wrong == []


@pytest.mark.parametrize(
    ("received", "sentence"),
    [
        ([event(1, 10)], "lost"),
        ([event(2, 11), event(1, 10)], "out of order"),
        ([event(1, 11), event(2, 10)], "out of order"),
        ([event(1, 10), event(2, 10)], "out of order"),
        ([event(1, 10), event(1, 10, event_id="other"), event(2, 11)], "a repeat with another id"),
        ([event(1, 10), event(1, 9), event(2, 12)], "a repeat with another id or a lower sequence"),
        ([event(1, 10), event(2, 11), event(3, 12)], "never sent"),
        ([event(1, 10), event(2, 11), event(1, 1, user="v", event_id="id-u-1")], "an id of two users"),
    ],
)
def test_comparison_finds_what_is_not_as_promised(received: list[Received], sentence: str) -> None:
    found = compare(received, {"u": 2})

    assert sentence in " ".join(found.wrong)


def test_names_of_faults_differ() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_row_has_a_cell_for_each_column() -> None:
    counts = Comparison(acknowledged=1234, arrived=1233, doubled=2)
    run = Run(
        counts, Sent(Counter({"broker_timeout": 3}), 2.04), 60.0, 0.5, {"client": "4.8.4", "redis": "R 1"}
    )

    cells = dict(zip(HEADER, row(KINDS[0], run), strict=True))

    assert cells == {
        "fault": "none",
        "acknowledged": "1 234",
        "arrived": "1 233",
        "lost": "1",
        "out of order": "0",
        "dead letters": "0",
        "doubled": "2",
        "slowest acknowledgement": "2.0 s",
        "errors that clients repeated": "broker_timeout 3",
    }
    assert set(WRONG) <= set(cells)
    assert "| none | 1 234 |" in section([(KINDS[0], run)], dt.date(2026, 11, 30))
