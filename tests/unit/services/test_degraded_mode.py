"""The shared state fails this replica, or lost what somebody here missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.domain.disconnects import SUBSCRIPTION_STALLED, DisconnectReason
from gateway.domain.status import StateStatus
from gateway.services.degraded_mode import GAP_EVENT, DegradedMode
from tests.support.metrics import counted
from tests.unit.services.harness import TIMEOUT_SECONDS, Services

PATIENCE = 20.0


class World:
    """A services that copes, and the endings that everybody was sent away with."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.sent_away: list[DisconnectReason] = []
        self.coping = DegradedMode(
            hub=services.hub,
            schedule=services.schedule,
            clock=services.clock,
            disconnect_all=self.sent_away.append,
            stalled_limit_seconds=PATIENCE,
            metrics=services.metrics,
        )


@pytest_asyncio.fixture
async def world(services: Services) -> AsyncIterator[World]:
    world = World(services)
    telling = asyncio.create_task(world.coping.run())
    yield world
    telling.cancel()


def test_status_is_healthy_at_first(world: World) -> None:
    assert world.coping.status is StateStatus.HEALTHY


async def test_stalled_replica_keeps_its_clients_for_a_while_then_disconnects_them(world: World) -> None:
    world.coping.set_status(StateStatus.SUBSCRIPTION_STALLED)
    world.services.schedule.advance(PATIENCE - 0.1)
    before = list(world.sent_away)
    world.services.schedule.advance(0.1)

    assert (before, world.sent_away) == ([], [SUBSCRIPTION_STALLED])
    assert SUBSCRIPTION_STALLED.close_code == 1013
    assert SUBSCRIPTION_STALLED.keeps_session


@pytest.mark.parametrize("condition", [StateStatus.HEALTHY, StateStatus.UNAVAILABLE])
async def test_clients_stay_when_the_subscription_recovers(world: World, condition: StateStatus) -> None:
    world.coping.set_status(StateStatus.SUBSCRIPTION_STALLED)
    world.services.schedule.advance(PATIENCE / 2)

    world.coping.set_status(condition)
    world.services.schedule.advance(2 * PATIENCE)

    assert world.sent_away == []
    assert world.coping.status is condition


async def test_clients_stay_however_long_the_state_is_unavailable(world: World) -> None:
    world.coping.set_status(StateStatus.UNAVAILABLE)
    world.services.schedule.advance(3600)

    assert world.sent_away == []


async def test_time_limit_restarts_with_each_stall(world: World) -> None:
    for condition in (
        StateStatus.SUBSCRIPTION_STALLED,
        StateStatus.UNAVAILABLE,
        StateStatus.SUBSCRIPTION_STALLED,
    ):
        world.coping.set_status(condition)
        world.services.schedule.advance(PATIENCE - 1)

    assert world.sent_away == []
    world.services.schedule.advance(1)
    assert world.sent_away == [SUBSCRIPTION_STALLED]


async def test_status_has_the_time_of_its_change(world: World) -> None:
    world.services.schedule.advance(5)

    world.coping.set_status(StateStatus.UNAVAILABLE)

    assert world.coping.since == world.services.clock.now()


async def test_status_is_one_of_three_and_changes_are_counted(world: World) -> None:
    world.coping.set_status(StateStatus.HEALTHY)
    world.coping.on_status_changed(StateStatus.UNAVAILABLE)

    assert counted(world.services.metrics, "replica_status") == {"unavailable": 1}
    assert counted(world.services.metrics, "replica_status_changes_total") == {"unavailable": 1}


async def test_every_client_gets_each_gap_in_order(world: World) -> None:
    _, alice = await world.services.connect_live(world.services.identity("alice"))
    _, bob = await world.services.connect_live(world.services.identity("bob"))

    world.coping.on_history_gap("data_lost")
    world.coping.on_history_gap("history_trimmed")
    await asyncio.wait_for(world.coping.flush(), TIMEOUT_SECONDS)

    expected = [(GAP_EVENT, {"code": "data_lost"}), (GAP_EVENT, {"code": "history_trimmed"})]
    assert (alice.emitted, bob.emitted) == (expected, expected)
    assert counted(world.services.metrics, "history_gaps_total") == {"data_lost": 1, "history_trimmed": 1}


async def test_many_gaps_that_were_not_reported_yet_are_reported_once(world: World) -> None:
    _, alice = await world.services.connect_live(world.services.identity("alice"))

    for _ in range(500):
        world.coping.on_history_gap("history_trimmed")
    await asyncio.wait_for(world.coping.flush(), TIMEOUT_SECONDS)
    world.coping.on_history_gap("history_trimmed")
    await asyncio.wait_for(world.coping.flush(), TIMEOUT_SECONDS)

    assert alice.emitted == [(GAP_EVENT, {"code": "history_trimmed"})] * 2


async def test_closed_connection_gets_no_report(world: World) -> None:
    connection, link = await world.services.connect_live(world.services.identity("alice"))
    _, other = await world.services.connect_live(world.services.identity("bob"))
    world.services.disconnector.disconnect(connection)

    world.coping.on_history_gap("data_lost")
    await asyncio.wait_for(world.coping.flush(), TIMEOUT_SECONDS)

    assert (link.emitted, len(other.emitted)) == ([], 1)
