"""A rolling restart under load: 2 000 clients are disconnected at an even rate and miss nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import pytest

from benchmarks import machine
from gateway.services.drain import FASTEST, LATE_SECONDS
from tests.load.rolling.reconnect_rate import reconnect_rate
from tests.load.rolling.restart import LIMIT_SECONDS, Restart, behind_nginx, reconnects, restart
from tests.load.rolling.stalls import StallMonitor
from tests.load.soak.backends import PushLoad
from tests.load.soak.clients import ClientBehaviour, ClientResult, SoakClients
from tests.load.soak.comparison import compare
from tests.support.traffic import ACCEPTED
from tests.support.waiter import wait_until

pytestmark = [pytest.mark.proxies, pytest.mark.timeout(600)]

CLIENTS, PROCESSES, PER_SECOND = 2_000, 3, 25.0
DRAIN_SECONDS = 24.0
OTHERS_CORES = 0.5
"""With more CPU than this used by other programs, clients do not reconnect when they are disconnected."""
SOON = {"reconnectionDelay": 50, "reconnectionDelayMax": 500}
"""Options of ``io()``: a client reconnects at once, so that only the drain spreads the reconnects over time."""
KINDS = (*[("polling", "websocket")] * 6, *[("websocket",)] * 3, ("polling",))
"""Of ten clients: upgrading from polling (the default), WebSocket alone, polling alone."""


def test_2000_clients_reconnect_evenly_and_lose_nothing_while_three_replicas_restart() -> None:
    started, busy, own = time.monotonic(), machine.busy_seconds(), machine.children_seconds()
    with (
        behind_nginx({"a": "a", "b": "b", "c": "c"}, drain_seconds=DRAIN_SECONDS) as (nginx, replicas),
        SoakClients(
            CLIENTS, ClientBehaviour(SOON, transports=KINDS, up_seconds=None), processes=PROCESSES
        ) as clients,
        StallMonitor() as stalls,
    ):
        clients.connect(replicas, nginx.url)
        clients.wait_until_connected()
        with PushLoad(clients, [nginx], per_second=PER_SECOND) as load:
            wait_until(
                lambda: len(load.pushes) > 3 * PER_SECOND, "pushes are accepted before the first restart"
            )
            restarts = []
            for replica in replicas:
                restarts.append(restart(replica, drain_seconds=DRAIN_SECONDS))
                clients.wait_until_connected()
        clients.stop_dropping()
        load.push_last()
        assert clients.wait_for_last()
        results = clients.results()

    comparison = compare(load.pushes, results)
    assert comparison.wrong[:12] == [], comparison
    assert comparison.due == comparison.delivered > 50_000
    assert comparison.recovered == comparison.reconnects
    # A replica that is starting rejects a push at once; a gateway answers every request.
    assert {answer for push in load.pushes for answer in push.answers} <= {ACCEPTED, "broker_unavailable"}
    assert [(each.status, each.failures) for each in restarts] == [(0, [])] * 3
    others = machine.busy_seconds() - busy - machine.children_seconds() + own
    _check_rates(restarts, results, stalls, others_cores=others / (time.monotonic() - started))


def _check_rates(
    restarts: Sequence[Restart],
    results: Mapping[str, ClientResult],
    stalls: StallMonitor,
    *,
    others_cores: float,
) -> None:
    """Check the pace of each drain. ``others_cores`` is the CPU that other programs used, in cores."""
    for each in restarts:
        reconnected = reconnects(results, since=each.at, until=each.at + each.seconds)
        disconnected = reconnect_rate(each.disconnected_at, since=each.at)
        found = reconnect_rate([at for at, _ in reconnected], since=each.at)
        even = found.even_per_second(DRAIN_SECONDS)
        stall_seconds = stalls.longest(since=each.at, until=each.at + each.seconds)
        summary = (
            f"{each.replica} ended after {each.seconds:.1f} s; even rate {even:.1f}/s; disconnects {disconnected}; "
            f"reconnects {found}; the machine stalled for {stall_seconds:.2f} s; other "
            f"programs used {others_cores:.2f} cores"
        )
        print(summary)
        assert each.seconds < DRAIN_SECONDS + LIMIT_SECONDS
        assert disconnected.peak_per_second <= FASTEST * (1 + LATE_SECONDS) * even + 2, summary
        # Clients that were due while the machine stalled reconnect at once after it. Beside busy programs clients
        # reconnect late and together, so only the pace of the gateway counts.
        if others_cores < OTHERS_CORES:
            assert found.peak_per_second <= (2 + stall_seconds) * even, summary
