"""What became of a connection is told to the shared state, in the order it happened."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address
from gateway.hub import ConnectionState
from tests.unit.services.harness import PATIENCE_SECONDS, House


async def settled(house: House) -> None:
    await asyncio.wait_for(house.reporting.flush(), PATIENCE_SECONDS)


async def test_who_departs_is_gone_here_at_once_and_everywhere_soon(house: House) -> None:
    connection, _ = await house.welcome(house.who("alice", "org:7"))

    house.reporting.disconnect(connection)

    assert (connection.state, house.hub.connections) == (ConnectionState.CLOSED, {})
    assert await house.is_empty()
    assert (await house.presence.of_user("alice")).last_seen == house.clock.now()


async def test_departing_twice_is_told_once(house: House) -> None:
    connection, _ = await house.welcome(house.who("alice"))
    house.reporting.disconnect(connection)
    await settled(house)
    await house.state.presence.register((await registered(house)), {"user:alice"})

    house.reporting.disconnect(connection)
    await settled(house)

    assert len(await house.online("alice")) == 1


async def test_departing_stops_the_watch_on_the_token(house: House) -> None:
    connection, _ = await house.welcome(house.who("alice", expires_in=600))
    house.expiring.watch(connection)

    house.reporting.disconnect(connection)

    assert len(house.schedule) == 0


async def test_what_cannot_be_told_of_a_departure_holds_up_nothing_else_of_it(house: House) -> None:
    visitor = await house.come(house.who("alice", "org:7"))
    house.presence.fails = BrokerUnavailable("away")

    house.reporting.disconnect(visitor.connection)
    await settled(house)

    house.presence.fails = None
    assert house.broker.subscribed == set()
    assert (await house.come(house.who("alice"), pid=visitor.pid)).result.first_page is not None


async def test_a_room_that_is_needed_again_stays_subscribed(house: House) -> None:
    connection, _ = await house.welcome(house.who("alice", "org:7"))

    house.reporting.disconnect(connection)
    await house.welcome(house.who("bob", "org:7"))
    await settled(house)

    assert Address("/", "org:7") in house.broker.subscribed
    assert Address("/", "user:alice") not in house.broker.subscribed


async def test_an_upgrade_is_seen_by_everyone_and_never_brings_back_who_left(house: House) -> None:
    connection, link = await house.welcome(house.who("alice"))
    link.name = "polling then websocket"
    house.reporting.on_transport_upgraded(connection)
    await settled(house)
    seen = [present.transport for present in await house.online("alice")]

    house.reporting.disconnect(connection)
    house.reporting.on_transport_upgraded(connection)

    assert seen == ["polling then websocket"]
    assert await house.is_empty()


@pytest.mark.parametrize("failure", [BrokerUnavailable("away"), BrokerTimeout("who knows")])
async def test_a_state_that_is_away_is_logged_and_the_next_report_is_told(
    house: House, failure: Exception
) -> None:
    first, _ = await house.welcome(house.who("alice"))
    second, _ = await house.welcome(house.who("bob"))
    house.presence.fails = failure
    with structlog.testing.capture_logs() as logs:
        house.reporting.disconnect(first)
        await settled(house)
    house.presence.fails = None

    house.reporting.disconnect(second)
    await settled(house)

    assert [entry["event"] for entry in logs] == ["presence.update_failed"]
    assert await house.online("bob") == []


async def registered(house: House):
    connection, _ = await house.welcome(house.who("alice"))
    (present,) = await house.online("alice")
    house.hub.remove(connection)
    return present
