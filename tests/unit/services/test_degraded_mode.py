"""DegradedMode: a stalled subscription, an unavailable state, and gaps in the history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.domain.disconnects import SUBSCRIPTION_STALLED, DisconnectReason
from gateway.domain.positions import Position
from gateway.domain.status import StateStatus
from gateway.services.degraded_mode import GAP_EVENT, DegradedMode
from tests.support.metrics import counted
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.services.harness import Services

LIMIT_SECONDS = 20.0


class DegradedHarness:
    """A DegradedMode over the services, and the reasons for which it disconnected all clients."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.reasons: list[DisconnectReason] = []
        self.degraded_mode = DegradedMode(
            hub=services.hub,
            schedule=services.schedule,
            clock=services.clock,
            disconnect_all=self.reasons.append,
            stalled_limit_seconds=LIMIT_SECONDS,
            metrics=services.metrics,
        )


@pytest_asyncio.fixture
async def harness(services: Services) -> AsyncIterator[DegradedHarness]:
    harness = DegradedHarness(services)
    running = asyncio.create_task(harness.degraded_mode.run())
    yield harness
    running.cancel()


def test_status_is_healthy_at_first(harness: DegradedHarness) -> None:
    assert harness.degraded_mode.status is StateStatus.HEALTHY


async def test_stalled_replica_keeps_its_clients_for_a_while_then_disconnects_them(
    harness: DegradedHarness,
) -> None:
    harness.degraded_mode.set_status(StateStatus.SUBSCRIPTION_STALLED)
    harness.services.schedule.advance(LIMIT_SECONDS - 0.1)
    before = list(harness.reasons)
    harness.services.schedule.advance(0.1)

    assert (before, harness.reasons) == ([], [SUBSCRIPTION_STALLED])
    assert SUBSCRIPTION_STALLED.reconnects
    assert SUBSCRIPTION_STALLED.keeps_session


@pytest.mark.parametrize("status", [StateStatus.HEALTHY, StateStatus.UNAVAILABLE])
async def test_clients_stay_when_the_subscription_recovers(
    harness: DegradedHarness, status: StateStatus
) -> None:
    harness.degraded_mode.set_status(StateStatus.SUBSCRIPTION_STALLED)
    harness.services.schedule.advance(LIMIT_SECONDS / 2)

    harness.degraded_mode.set_status(status)
    harness.services.schedule.advance(2 * LIMIT_SECONDS)

    assert harness.reasons == []
    assert harness.degraded_mode.status is status


async def test_clients_stay_however_long_the_state_is_unavailable(harness: DegradedHarness) -> None:
    harness.degraded_mode.set_status(StateStatus.UNAVAILABLE)
    harness.services.schedule.advance(3600)

    assert harness.reasons == []


async def test_time_limit_restarts_with_each_stall(harness: DegradedHarness) -> None:
    for status in (
        StateStatus.SUBSCRIPTION_STALLED,
        StateStatus.UNAVAILABLE,
        StateStatus.SUBSCRIPTION_STALLED,
    ):
        harness.degraded_mode.set_status(status)
        harness.services.schedule.advance(LIMIT_SECONDS - 1)

    assert harness.reasons == []
    harness.services.schedule.advance(1)
    assert harness.reasons == [SUBSCRIPTION_STALLED]


async def test_status_has_the_time_of_its_change(harness: DegradedHarness) -> None:
    harness.services.schedule.advance(5)

    harness.degraded_mode.set_status(StateStatus.UNAVAILABLE)

    assert harness.degraded_mode.since == harness.services.clock.now()


async def test_status_is_one_of_three_and_changes_are_counted(harness: DegradedHarness) -> None:
    harness.degraded_mode.set_status(StateStatus.HEALTHY)
    harness.degraded_mode.on_status_changed(StateStatus.UNAVAILABLE)

    assert counted(harness.services.metrics, "replica_status") == {"unavailable": 1}
    assert counted(harness.services.metrics, "replica_status_changes_total") == {"unavailable": 1}


async def test_every_client_gets_each_gap_in_order(harness: DegradedHarness) -> None:
    _, alice = await harness.services.connect_live(harness.services.identity("alice"))
    _, bob = await harness.services.connect_live(harness.services.identity("bob"))

    harness.degraded_mode.on_history_gap("data_lost")
    harness.degraded_mode.on_history_gap("history_trimmed")
    await asyncio.wait_for(harness.degraded_mode.flush(), TIMEOUT_SECONDS)

    expected = [(GAP_EVENT, {"code": "data_lost"}), (GAP_EVENT, {"code": "history_trimmed"})]
    assert (alice.emitted, bob.emitted) == (expected, expected)
    assert counted(harness.services.metrics, "history_gaps_total") == {"data_lost": 1, "history_trimmed": 1}


async def test_many_gaps_that_were_not_reported_yet_are_reported_once(harness: DegradedHarness) -> None:
    _, alice = await harness.services.connect_live(harness.services.identity("alice"))

    for _ in range(500):
        harness.degraded_mode.on_history_gap("history_trimmed")
    await asyncio.wait_for(harness.degraded_mode.flush(), TIMEOUT_SECONDS)
    harness.degraded_mode.on_history_gap("history_trimmed")
    await asyncio.wait_for(harness.degraded_mode.flush(), TIMEOUT_SECONDS)

    assert alice.emitted == [(GAP_EVENT, {"code": "history_trimmed"})] * 2


async def test_closed_connection_gets_no_report(harness: DegradedHarness) -> None:
    connection, transport = await harness.services.connect_live(harness.services.identity("alice"))
    _, other = await harness.services.connect_live(harness.services.identity("bob"))
    harness.services.disconnector.disconnect(connection)

    harness.degraded_mode.on_history_gap("data_lost")
    await asyncio.wait_for(harness.degraded_mode.flush(), TIMEOUT_SECONDS)

    assert (transport.emitted, len(other.emitted)) == ([], 1)


async def test_marked_loss_is_reported_and_leaves_positions_as_they_are(harness: DegradedHarness) -> None:
    connection, transport = await harness.services.connect_live(harness.services.identity("alice"))
    connection.replay_watermark = Position("5-0")

    harness.degraded_mode.on_loss_marked()
    await asyncio.wait_for(harness.degraded_mode.flush(), TIMEOUT_SECONDS)

    assert transport.emitted == [(GAP_EVENT, {"code": "data_lost"})]
    assert connection.replay_watermark == Position("5-0")


async def test_gap_found_during_a_connect_is_reported_once_the_connection_is_accepted(
    harness: DegradedHarness,
) -> None:
    services = harness.services
    result, transport = await services.connect(services.identity("alice"))

    harness.degraded_mode.on_history_gap("data_lost")
    await asyncio.wait_for(harness.degraded_mode.flush(), TIMEOUT_SECONDS)
    assert transport.emitted == []
    services.replayer.start(result, (), None)

    assert transport.emitted == [(GAP_EVENT, {"code": "data_lost"})]
