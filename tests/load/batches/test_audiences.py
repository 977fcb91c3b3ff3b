"""The short form of 10 000 random audiences: ``python -m tests.load.batches``."""

from __future__ import annotations

import pytest

from tests.load.batches.audiences import run
from tests.support.redis_server import shared_server

pytestmark = pytest.mark.timeout(300)


def test_each_client_gets_exactly_the_messages_for_its_rooms_also_when_it_was_away() -> None:
    found = run(shared_server().url, cases=500, seed=7)

    assert found.wrong[:6] == [], f"{len(found.wrong)} errors"
    assert found.failed_recoveries == 0
    assert found.cases == 500
    assert found.deliveries > 1_000
    assert found.recovered > 300
