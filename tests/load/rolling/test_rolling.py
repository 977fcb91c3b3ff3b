"""A rolling restart in the middle of the day: 2 000 clients are let go at an even pace and miss nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tests.load.rolling.reconnect_rate import pace
from tests.load.rolling.restart import LIMIT_SECONDS, Roll, behind_nginx, came_back, roll
from tests.load.rolling.stalls import Standstills
from tests.load.soak.backends import Pushing
from tests.load.soak.clients import Crowd, Manner, Told
from tests.load.soak.verdict import judge
from tests.support.traffic import ACCEPTED
from tests.support.waiter import wait_until

pytestmark = [pytest.mark.proxies, pytest.mark.timeout(300)]

CLIENTS, PROCESSES, PER_SECOND = 2_000, 3, 25.0
DRAIN_SECONDS = 24.0
SOON = {"reconnectionDelay": 50, "reconnectionDelayMax": 500}
"""Options of ``io()``: whoever is let go comes back at once, so that it is the gateway that spreads them."""
KINDS = (*[("polling", "websocket")] * 6, *[("websocket",)] * 3, ("polling",))
"""Out of ten clients: as they come by themselves, on WebSocket from the start, on polling for good."""


def test_2000_clients_come_back_evenly_and_lose_nothing_while_three_replicas_are_rolled() -> None:
    with (
        behind_nginx({"a": "a", "b": "b", "c": "c"}, drain_seconds=DRAIN_SECONDS) as (nginx, replicas),
        Crowd(CLIENTS, Manner(SOON, transports=KINDS, up_seconds=None), processes=PROCESSES) as crowd,
        Standstills() as standstills,
    ):
        crowd.come(replicas, nginx.url)
        crowd.settle()
        with Pushing(crowd, [nginx], per_second=PER_SECOND) as pushing:
            wait_until(lambda: len(pushing.pushes) > 3 * PER_SECOND, "pushes flow steadily")
            rolls = []
            for replica in replicas:
                rolls.append(roll(replica, drain_seconds=DRAIN_SECONDS))
                crowd.settle()
        crowd.calm()
        pushing.last()
        assert crowd.hears_last()
        told = crowd.tell()

    verdict = judge(pushing.pushes, told)
    assert verdict.wrong[:12] == [], verdict
    assert verdict.due == verdict.came > 50_000
    assert verdict.recovered == verdict.reconnects
    # A replica that starts refuses at once; no request is left without an answer of a gateway.
    assert {said for push in pushing.pushes for said in push.answers} <= {ACCEPTED, "broker_unavailable"}
    assert [(each.status, each.complaints) for each in rolls] == [(0, [])] * 3
    _went_evenly(rolls, told, standstills)


def _went_evenly(rolls: Sequence[Roll], told: Mapping[str, Told], standstills: Standstills) -> None:
    for each in rolls:
        back = came_back(told, since=each.at, until=each.at + each.seconds)
        left = pace([at - away for at, away in back], since=each.at)
        found = pace([at for at, _ in back], since=each.at)
        even = found.even_per_second(DRAIN_SECONDS)
        still = standstills.longest(since=each.at, until=each.at + each.seconds)
        said = (
            f"{each.replica} ended after {each.seconds:.1f} s; even pace {even:.1f}; left {left}; came back {found}; "
            f"the machine stood still for {still:.2f} s"
        )
        print(said)
        assert each.seconds < DRAIN_SECONDS + LIMIT_SECONDS
        # Whoever fell due while the machine stood still comes in one go after that.
        assert found.peak_per_second <= (2 + still) * even, said
