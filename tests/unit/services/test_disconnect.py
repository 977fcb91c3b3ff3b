"""What became of a connection is told to the shared state, in the order it happened."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address
from gateway.hub import ConnectionState
from tests.unit.services.harness import TIMEOUT_SECONDS, Services


async def settled(services: Services) -> None:
    await asyncio.wait_for(services.disconnector.flush(), TIMEOUT_SECONDS)


async def test_who_departs_is_gone_here_at_once_and_everywhere_soon(services: Services) -> None:
    connection, _ = await services.connect_live(services.identity("alice", "org:7"))

    services.disconnector.disconnect(connection)

    assert (connection.state, services.hub.connections) == (ConnectionState.CLOSED, {})
    assert await services.is_empty()
    assert (await services.presence.of_user("alice")).last_seen == services.clock.now()


async def test_departing_twice_is_told_once(services: Services) -> None:
    connection, _ = await services.connect_live(services.identity("alice"))
    services.disconnector.disconnect(connection)
    await settled(services)
    await services.state.presence.register((await registered(services)), {"user:alice"})

    services.disconnector.disconnect(connection)
    await settled(services)

    assert len(await services.online("alice")) == 1


async def test_departing_stops_the_watch_on_the_token(services: Services) -> None:
    connection, _ = await services.connect_live(services.identity("alice", expires_in=600))
    services.token_expiry.watch(connection)

    services.disconnector.disconnect(connection)

    assert len(services.schedule) == 0


async def test_what_cannot_be_told_of_a_departure_holds_up_nothing_else_of_it(services: Services) -> None:
    visitor = await services.connect_client(services.identity("alice", "org:7"))
    services.presence.error = BrokerUnavailable("away")

    services.disconnector.disconnect(visitor.connection)
    await settled(services)

    services.presence.error = None
    assert services.broker.subscribed == set()
    assert (
        await services.connect_client(services.identity("alice"), pid=visitor.pid)
    ).result.first_page is not None


async def test_a_room_that_is_needed_again_stays_subscribed(services: Services) -> None:
    connection, _ = await services.connect_live(services.identity("alice", "org:7"))

    services.disconnector.disconnect(connection)
    await services.connect_live(services.identity("bob", "org:7"))
    await settled(services)

    assert Address("/", "org:7") in services.broker.subscribed
    assert Address("/", "user:alice") not in services.broker.subscribed


async def test_an_upgrade_is_seen_by_everyone_and_never_brings_back_who_left(services: Services) -> None:
    connection, link = await services.connect_live(services.identity("alice"))
    link.name = "polling then websocket"
    services.disconnector.on_transport_upgraded(connection)
    await settled(services)
    seen = [present.transport for present in await services.online("alice")]

    services.disconnector.disconnect(connection)
    services.disconnector.on_transport_upgraded(connection)

    assert seen == ["polling then websocket"]
    assert await services.is_empty()


@pytest.mark.parametrize("failure", [BrokerUnavailable("away"), BrokerTimeout("who knows")])
async def test_a_state_that_is_away_is_logged_and_the_next_report_is_told(
    services: Services, failure: Exception
) -> None:
    first, _ = await services.connect_live(services.identity("alice"))
    second, _ = await services.connect_live(services.identity("bob"))
    services.presence.error = failure
    with structlog.testing.capture_logs() as logs:
        services.disconnector.disconnect(first)
        await settled(services)
    services.presence.error = None

    services.disconnector.disconnect(second)
    await settled(services)

    assert [entry["event"] for entry in logs] == ["presence.update_failed"]
    assert await services.online("bob") == []


async def registered(services: Services):
    connection, _ = await services.connect_live(services.identity("alice"))
    (present,) = await services.online("alice")
    services.hub.remove(connection)
    return present
