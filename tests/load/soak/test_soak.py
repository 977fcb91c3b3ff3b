"""The short form of the soak test; the long form is ``make soak``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.load.soak.chaos import KILL, ROLL, Breaking
from tests.load.soak.clients import Manner
from tests.load.soak.runner import Plan, run

pytestmark = pytest.mark.timeout(150)

SECONDS, EVERY = 12.0, 4.0


def test_nothing_is_lost_doubled_or_out_of_order_while_connections_break_and_replicas_die(
    tmp_path: Path,
) -> None:
    def trouble(breaking: Breaking) -> None:
        breaking.go_on([KILL, ROLL], every=EVERY, seconds=SECONDS)

    done = run(Plan(clients=48, per_second=60, manner=Manner(up_seconds=(1.0, 3.0))), trouble)

    verdict = done.verdict
    if verdict.wrong:
        done.keep(tmp_path)
    assert verdict.wrong[:12] == [], f"{len(verdict.wrong)} errors; {verdict}; details in {tmp_path}"
    assert [blow.kind for blow in done.blows] == [KILL, ROLL, KILL]
    assert verdict.due == verdict.came > 2000
    assert verdict.recovered == verdict.reconnects > 60
    assert set(verdict.dropped) == {"closed", "torn", "silent"}
