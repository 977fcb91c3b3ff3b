"""Disconnector: closed and upgraded connections in the hub and in the shared state."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address
from gateway.hub import ConnectionState
from gateway.services import disconnect
from tests.support.metrics import counted
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.services.harness import Services


async def flush(services: Services) -> None:
    await asyncio.wait_for(services.disconnector.flush(), TIMEOUT_SECONDS)


async def test_closed_connection_leaves_the_hub_at_once_and_the_shared_state_soon(services: Services) -> None:
    connection, _ = await services.connect_live(services.identity("alice", "org:7"))

    services.disconnector.disconnect(connection)

    assert (connection.state, services.hub.connections) == (ConnectionState.CLOSED, {})
    assert await services.is_empty()
    assert (await services.presence.of_user("alice")).last_seen == services.clock.now()


async def test_closing_twice_is_recorded_once(services: Services) -> None:
    connection, _ = await services.connect_live(services.identity("alice"))
    services.disconnector.disconnect(connection)
    await flush(services)
    await services.state.presence.register((await registered(services)), {"user:alice"})

    services.disconnector.disconnect(connection)
    await flush(services)

    assert len(await services.online("alice")) == 1


async def test_closing_cancels_the_timer_of_the_token(services: Services) -> None:
    connection, _ = await services.connect_live(services.identity("alice", expires_in=600))
    services.token_expiry.watch(connection)

    services.disconnector.disconnect(connection)

    assert len(services.schedule) == 0


async def test_failed_disconnect_does_not_keep_the_subscriptions(services: Services) -> None:
    client = await services.connect_client(services.identity("alice", "org:7"))
    services.disconnects.error = BrokerUnavailable("unavailable")

    services.disconnector.disconnect(client.connection)
    await flush(services)

    assert services.broker.subscribed == set()
    assert services.disconnector.waiting == 0


async def test_user_whose_disconnects_wait_connects_once_they_are_made() -> None:
    services = Services(max_connections=2)
    services.disconnects.gate.clear()
    for _ in range(2):
        connection, _ = await services.connect_live(services.identity("alice"))
        services.disconnector.disconnect(connection)

    with pytest.raises(BrokerUnavailable, match="of this user"):
        await services.connect_declined(services.identity("alice"))
    await services.connect_declined(services.identity("bob"))
    services.disconnects.gate.set()
    await flush(services)

    await services.connect_declined(services.identity("alice"))
    await services.close()


async def test_no_client_connects_while_too_many_updates_wait(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disconnect, "MAX_WAITING", 3)
    services.disconnects.gate.clear()
    for number in range(3):
        connection, _ = await services.connect_live(services.identity(f"user {number}"))
        services.disconnector.disconnect(connection)

    with pytest.raises(BrokerUnavailable, match="behind"):
        await services.connect_declined(services.identity("bob"))
    services.disconnects.gate.set()
    await flush(services)

    await services.connect_declined(services.identity("bob"))


async def test_disconnects_that_wait_are_recorded_together(services: Services) -> None:
    connections = [(await services.connect_live(services.identity(f"user {n}")))[0] for n in range(500)]

    for connection in connections:
        services.disconnector.disconnect(connection)
    services.clock.advance(2)
    metrics = services.disconnector_metrics
    assert counted(metrics, "presence_updates_waiting") == {"": 500}
    assert counted(metrics, "presence_updates_oldest_age_seconds") == {"": 2}
    await flush(services)

    assert services.disconnects.recorded == [50] * 10
    assert counted(metrics, "presence_updates_waiting") == {}
    assert counted(metrics, "presence_updates_oldest_age_seconds") == {}
    assert await services.is_empty()


async def test_room_that_is_needed_again_stays_subscribed(services: Services) -> None:
    connection, _ = await services.connect_live(services.identity("alice", "org:7"))

    services.disconnector.disconnect(connection)
    await services.connect_live(services.identity("bob", "org:7"))
    await flush(services)

    assert Address("/", "org:7") in services.broker.subscribed
    assert Address("/", "user:alice") not in services.broker.subscribed


async def test_upgrade_is_recorded_and_never_revives_a_closed_connection(services: Services) -> None:
    connection, transport = await services.connect_live(services.identity("alice"))
    transport.name = "polling then websocket"
    services.disconnector.on_transport_upgraded(connection)
    await flush(services)
    seen = [present.transport for present in await services.online("alice")]

    services.disconnector.disconnect(connection)
    services.disconnector.on_transport_upgraded(connection)

    assert seen == ["polling then websocket"]
    assert await services.is_empty()


@pytest.mark.parametrize("failure", [BrokerUnavailable("unavailable"), BrokerTimeout("unknown")])
async def test_failed_update_is_logged_and_the_next_one_is_made(
    services: Services, failure: Exception
) -> None:
    first, _ = await services.connect_live(services.identity("alice"))
    second, _ = await services.connect_live(services.identity("bob"))
    services.disconnects.error = failure
    with structlog.testing.capture_logs() as logs:
        services.disconnector.disconnect(first)
        await flush(services)
    services.disconnects.error = None

    services.disconnector.disconnect(second)
    await flush(services)

    assert [entry["event"] for entry in logs] == ["presence.update_failed"]
    assert await services.online("bob") == []


async def registered(services: Services):
    connection, _ = await services.connect_live(services.identity("alice"))
    (present,) = await services.online("alice")
    services.hub.remove(connection)
    return present
