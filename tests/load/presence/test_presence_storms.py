"""The short forms: reloads, a killed replica, lost data, a backend that is down. The program runs them in full."""

from __future__ import annotations

import pytest

from tests.load.notify.receiver import Received
from tests.load.presence import scenes

pytestmark = pytest.mark.timeout(600)

BUSY_SECONDS = 30.0
"""What a busy machine may be late; the program allows nothing."""


def test_pages_that_reload_change_nothing() -> None:
    found = scenes.reload_pages(count=60, times=5, offline_after_seconds=15.0, away_seconds=1.0)

    assert found == {"reloads": 300, "online": 60, "offline": 0, "repeats": 0}


def test_each_user_of_a_killed_replica_is_offline_once_but_those_who_reconnected() -> None:
    found = scenes.kill_replica(count=100, reconnecting=20, lease_seconds=5.0, offline_after_seconds=4.0)

    assert (found["offline"], found["offline users"], found["offline of the others"]) == (80, 80, 0)
    assert found["last seconds"] <= found["at most seconds"] + BUSY_SECONDS, found
    assert found["first seconds"] >= 4.0, found


@pytest.mark.parametrize("kind", ["emptied", "older copy"])
def test_backend_knows_the_truth_after_redis_lost_its_data_while_users_left(kind: str) -> None:
    found = scenes.lose_data(kind, count=40, offline_after_seconds=2.0)

    assert found["right seconds"] < scenes.RIGHT_SECONDS


def test_newest_change_of_each_user_arrives_once_after_the_backend_was_down() -> None:
    found = scenes.flap_while_down(count=40, times=4, offline_after_seconds=1.0)

    assert found["changes after"] == found["users after"] > 0
    assert (found["stale"], found["repeats"]) == (0, 0)


def change(user: str, kind: str, version: int) -> Received:
    return Received(f"p-{user}-{version}", kind, user, None, version, 0.0, 1)


def test_receiver_ignores_changes_that_are_not_newer() -> None:
    on, off = scenes.ONLINE, scenes.OFFLINE
    changes = [
        change("a", on, 5),
        change("a", off, 7),
        change("a", on, 6),
        change("a", off, 7),
        change("b", on, 1),
    ]

    known = scenes.known_after(changes)

    assert known.is_online == {"a": False, "b": True}
    assert (known.repeats, known.stale, known.wrong) == (1, 1, [])
    assert len(known.of(off)) == 1


def test_receiver_finds_two_changes_with_one_version() -> None:
    known = scenes.known_after([change("a", scenes.ONLINE, 5), change("a", scenes.OFFLINE, 5)])

    assert "another change with the same version" in known.wrong[0]
