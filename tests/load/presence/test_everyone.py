"""The short form: 3 000 connections. ``python -m tests.load.presence`` measures with 10 000."""

from __future__ import annotations

import pytest

from tests.load.presence.everyone import EVERY_SECONDS, PER_SECOND, busiest_second, measure

pytestmark = pytest.mark.timeout(300)

CONNECTIONS, SECONDS = 3_000, 8.0


def test_announcements_and_lists_to_everyone_are_limited_and_reach_all() -> None:
    found = measure(connections=CONNECTIONS, seconds=SECONDS)

    print(found)  # pytest -rP shows it
    assert found.came > 2 * PER_SECOND
    # On a busy machine there are fewer.
    assert PER_SECOND < found.announcements <= PER_SECOND * (found.seconds + 1)
    assert 1 < found.lists <= found.seconds / EVERY_SECONDS + 1
    assert (found.missing, found.disconnected) == (0, 0)


def test_busiest_second_counts_what_lies_within_a_second() -> None:
    assert busiest_second([]) == 0
    assert busiest_second([0.0, 0.5, 0.9, 1.2, 3.0]) == 3
    assert busiest_second([0.0, 1.0, 2.0]) == 1
