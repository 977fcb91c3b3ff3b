"""The short form of the soak test; the long form is ``make soak``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.load.soak.chaos import KILL, ROLL, FaultInjector
from tests.load.soak.clients import ClientBehaviour
from tests.load.soak.runner import Plan, run

pytestmark = pytest.mark.timeout(400)

SECONDS, INTERVAL = 12.0, 4.0


def test_each_message_is_delivered_once_and_in_order_while_connections_break_and_replicas_are_killed(
    tmp_path: Path,
) -> None:
    def scenario(injector: FaultInjector) -> None:
        injector.inject_every(INTERVAL, [KILL, ROLL], seconds=SECONDS)

    done = run(Plan(clients=48, per_second=60, behaviour=ClientBehaviour(up_seconds=(1.0, 3.0))), scenario)

    comparison = done.comparison
    if comparison.wrong:
        done.keep(tmp_path)
    assert comparison.wrong[:12] == [], f"{len(comparison.wrong)} errors; {comparison}; details in {tmp_path}"
    assert [fault.kind for fault in done.faults] == [KILL, ROLL, KILL]
    assert comparison.due == comparison.delivered > 2000
    assert comparison.recovered == comparison.reconnects > 60
    assert set(comparison.dropped) == {"closed", "torn", "silent"}
