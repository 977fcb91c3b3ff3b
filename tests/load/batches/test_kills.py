"""The short form of 200 kills: ``python -m tests.load.batches``."""

from __future__ import annotations

import pytest

from tests.load.batches.kills import run

pytestmark = pytest.mark.timeout(300)


def test_batch_is_accepted_as_a_whole_or_not_at_all_when_a_process_is_killed() -> None:
    found = run(rounds=6, seed=7)

    assert found.wrong == []
    assert found.batches == found.whole + found.absent == 6
