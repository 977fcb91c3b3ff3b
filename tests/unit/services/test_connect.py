"""Connector: new connections, rejections and refreshed tokens."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND
from gateway.domain.errors import BrokerUnavailable, GatewayError, TokenRejected, TooManyConnections
from gateway.domain.identity import Identity
from gateway.domain.messages import Address, DisconnectCommand, Message, new_id
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.services.harness import Services


async def test_connection_is_registered_in_the_hub_and_in_the_shared_state(services: Services) -> None:
    connection, _ = await services.connect_declined(services.identity("alice", "org:7"), "/events")

    assert connection.rooms == {"user:alice", "org:7", connection.sid}
    assert services.broker.subscribed == {
        Address("/events", room) for room in (None, "user:alice", "org:7", connection.sid)
    }
    (present,) = await services.online("alice")
    assert (present.sid, present.namespace, present.replica, present.transport, present.connected_at) == (
        connection.sid,
        "/events",
        "replica-1",
        "websocket",
        services.clock.now(),
    )


async def test_room_that_is_being_subscribed_is_waited_for_by_both_connections(services: Services) -> None:
    services.broker.gate.clear()
    first = asyncio.create_task(services.connect_live(services.identity("alice", "shared")))
    await asyncio.wait_for(services.broker.entered.wait(), TIMEOUT_SECONDS)
    subscribed: list[Address] = []
    services.broker.on_subscribe = subscribed.extend

    second = asyncio.create_task(services.connect_live(services.identity("bob", "shared")))
    await asyncio.sleep(0)
    services.broker.gate.set()
    await asyncio.gather(first, second)

    assert {Address("/", None), Address("/", "shared")} < set(subscribed)


async def test_room_with_a_connection_here_is_not_subscribed_again(services: Services) -> None:
    first, _ = await services.connect_declined(services.identity("alice", "org:7"))
    before = set(services.broker.subscribed)

    second, _ = await services.connect_declined(services.identity("alice", "org:7"))

    assert first.sid != second.sid
    assert services.broker.subscribed - before == {Address("/", second.sid)}


async def test_connection_gets_nothing_before_and_everything_after_it_was_accepted(
    services: Services,
) -> None:
    connection, transport = await services.connect_declined(services.identity("alice"))
    await push(services, "user:alice", "early")
    await push(services, "user:alice", "early too")
    await services.wait_delivered()

    connection.go_live()
    await push(services, "user:alice", "late")
    await services.wait_delivered()

    assert transport.events == ["late"]


# rejections


async def test_connection_over_the_limit_is_rejected_and_leaves_nothing() -> None:
    services = Services(max_connections=2)
    await services.connect_declined(services.identity("alice"))
    connection, _ = await services.connect_declined(services.identity("alice"), "/events")

    with pytest.raises(TooManyConnections):
        await services.connect_declined(services.identity("alice"))
    await services.connect_declined(services.identity("bob"))
    services.disconnector.disconnect(connection)
    await services.connect_declined(services.identity("alice"))
    await asyncio.wait_for(services.disconnector.flush(), TIMEOUT_SECONDS)

    assert len(await services.online("alice")) == 2
    await services.close()


async def test_concurrent_connections_are_counted_in_their_order() -> None:
    services = Services(max_connections=2)
    services.presence.gate.clear()
    attempts = [asyncio.create_task(services.connect_declined(services.identity("alice"))) for _ in range(5)]
    await asyncio.wait_for(services.presence.entered.wait(), TIMEOUT_SECONDS)
    services.presence.gate.set()

    results = await asyncio.gather(*attempts, return_exceptions=True)

    assert [type(result) for result in results] == [tuple, tuple, *[TooManyConnections] * 3]
    await services.close()


async def test_token_with_too_many_rooms_is_rejected_and_leaves_nothing() -> None:
    services = Services(max_rooms=2)
    await assert_rejected(services, services.identity("alice", "one", "two"), "token_invalid")
    await services.close()


@pytest.mark.parametrize(
    ("issued", "is_rejected"), [(None, True), (-1.0, True), (9.9, True), (10.0, False), (20.0, False)]
)
async def test_token_issued_before_the_revocation_is_rejected(
    services: Services, issued: float | None, is_rejected: bool
) -> None:
    services.schedule.advance(10)
    await services.publisher.disconnect_user("alice", namespace=None, exclude=frozenset(), revoke=True)
    services.schedule.advance(10)

    if is_rejected:
        await assert_rejected(services, services.identity("alice", issued=issued), "token_revoked")
    else:
        await services.connect_declined(services.identity("alice", issued=issued))


@pytest.mark.parametrize("revoke", [True, False])
@pytest.mark.parametrize("gate", ["broker", "revocations", "presence"])
async def test_disconnect_command_during_the_connect_is_seen_at_every_step(
    services: Services, gate: str, revoke: bool
) -> None:
    """A command without revocation before the subscription only applies to connections that exist already."""
    gated = getattr(services, gate)
    gated.gate.clear()
    connecting = asyncio.create_task(services.connect_declined(services.identity("alice", issued=-1.0)))
    await asyncio.wait_for(gated.entered.wait(), TIMEOUT_SECONDS)

    await services.publisher.disconnect_user("alice", namespace="/", exclude=frozenset(), revoke=revoke)
    await services.wait_delivered()
    gated.gate.set()

    if gate == "broker" and not revoke:
        await connecting
        return
    with pytest.raises(TokenRejected, match=r"revoked|ended") as raised:
        await connecting
    assert raised.value.code == "token_revoked"
    assert await services.is_empty()


@pytest.mark.parametrize("gate", ["broker", "presence"])
async def test_failing_state_leaves_nothing_registered(services: Services, gate: str) -> None:
    getattr(services, gate).error = BrokerUnavailable("unavailable")

    with pytest.raises(BrokerUnavailable):
        await services.connect_declined(services.identity("alice"))

    getattr(services, gate).error = None
    assert services.hub.connections == {}
    assert services.hub.connections_of("alice") == 0


async def test_cancelled_connect_leaves_nothing_registered(services: Services) -> None:
    services.presence.gate.clear()
    connecting = asyncio.create_task(services.connect_declined(services.identity("alice")))
    await asyncio.wait_for(services.presence.entered.wait(), TIMEOUT_SECONDS)

    connecting.cancel()
    await asyncio.wait([connecting])

    assert await services.is_empty()


# a newer token


async def test_newer_token_changes_the_rooms_everywhere(services: Services) -> None:
    connection, transport = await services.connect_live(services.identity("alice", "old", "kept"))
    newer = services.identity("alice", "new", "kept")

    await services.connector.refresh(connection, newer)
    for room in ("old", "new", "kept", connection.sid):
        await push(services, room, room)
    await services.wait_delivered()

    assert transport.events == ["new", "kept", connection.sid]
    assert connection.identity is newer
    assert Address("/", "old") not in services.broker.subscribed
    assert services.state.presence.connections_at([Address("/", "old")]) == 0
    assert services.state.presence.connections_at([Address("/", "new")]) == 1


async def test_token_of_another_user_and_a_revoked_one_change_nothing(services: Services) -> None:
    connection, _ = await services.connect_live(services.identity("alice", "old"))
    before = (connection.identity, connection.rooms)
    for newer in (services.identity("bob", "new"), services.identity("alice", "new", issued=-5.0)):
        services.state.revocations.revoke(
            DisconnectCommand("id", "alice", ("/",), services.clock.now() - 1, revoke=True)
        )
        with pytest.raises(TokenRejected):
            await services.connector.refresh(connection, newer)

    assert (connection.identity, connection.rooms) == before
    assert not services.hub.has(Address("/", "new"))


async def test_newer_token_with_too_many_rooms_changes_nothing() -> None:
    services = Services(max_rooms=2)
    connection, _ = await services.connect_live(services.identity("alice", "old"))

    with pytest.raises(TokenRejected):
        await services.connector.refresh(connection, services.identity("alice", "one", "two"))

    assert "old" in connection.rooms
    await services.close()


async def test_connection_closed_while_its_newer_token_is_checked_joins_no_room_again(
    services: Services,
) -> None:
    connection, _ = await services.connect_live(services.identity("alice", "old"))
    services.revocations.gate.clear()
    services.revocations.entered.clear()
    refreshing = asyncio.create_task(
        services.connector.refresh(connection, services.identity("alice", "new"))
    )
    await asyncio.wait_for(services.revocations.entered.wait(), TIMEOUT_SECONDS)

    services.disconnector.disconnect(connection)
    services.revocations.gate.set()
    await refreshing

    assert await services.is_empty()


async def test_connection_closed_while_its_new_rooms_are_subscribed_leaves_nothing_registered(
    services: Services,
) -> None:
    connection, _ = await services.connect_live(services.identity("alice", "old"))
    services.broker.gate.clear()
    services.broker.entered.clear()
    refreshing = asyncio.create_task(
        services.connector.refresh(connection, services.identity("alice", "new"))
    )
    await asyncio.wait_for(services.broker.entered.wait(), TIMEOUT_SECONDS)

    services.disconnector.disconnect(connection)
    services.broker.gate.set()
    await refreshing

    assert await services.is_empty()


@pytest.mark.parametrize("gate", ["revocations", "broker"])
async def test_connection_closed_during_a_refresh_is_held_under_no_token(
    services: Services, gate: str
) -> None:
    former, newer = (
        replace(services.identity("alice", room), token_id=f" {room}") for room in ("old", "new")
    )
    connection, _ = await services.connect_live(former)
    waiting = getattr(services, gate)
    waiting.gate.clear()
    waiting.entered.clear()
    refreshing = asyncio.create_task(services.connector.refresh(connection, newer))
    await asyncio.wait_for(waiting.entered.wait(), TIMEOUT_SECONDS)

    services.disconnector.disconnect(connection)
    waiting.gate.set()
    await refreshing

    assert await services.is_empty()


async def test_failed_refresh_changes_nothing_and_its_repeat_changes_everything(
    services: Services,
) -> None:
    connection, transport = await services.connect_live(services.identity("alice", "old"))
    newer = services.identity("alice", "new")
    services.broker.error = BrokerUnavailable("unavailable")
    with pytest.raises(BrokerUnavailable):
        await services.connector.refresh(connection, newer)
    assert connection.rooms == {"user:alice", "old", connection.sid}
    assert (services.hub.has(Address("/", "old")), services.hub.has(Address("/", "new"))) == (True, False)

    services.broker.error = None
    await services.connector.refresh(connection, newer)
    await push(services, "new", "hello")
    await push(services, "old", "not any more")
    await services.wait_delivered()

    assert transport.events == ["hello"]
    assert Address("/", "old") not in services.broker.subscribed


async def test_refresh_without_the_shared_state_changes_nothing_and_its_repeat_does(
    services: Services,
) -> None:
    before = await services.connect_client(services.identity("alice", "old"))
    newer = services.identity("alice", "new")
    services.presence.error = BrokerUnavailable("unavailable")
    with pytest.raises(BrokerUnavailable):
        await services.connector.refresh(before.connection, newer)
    services.presence.error = None
    assert before.connection.rooms == {"user:alice", "old", before.connection.sid}
    assert before.connection.session is not None
    assert before.connection.session.rooms == before.connection.rooms

    await services.connector.refresh(before.connection, newer)
    services.disconnector.disconnect(before.connection)
    await services.disconnector.flush()
    await push(services, "new", "missed")
    after = await services.connect_client(newer, pid=before.pid)

    assert after.event_names == ["connect", "missed", "authenticated"]


async def test_older_disconnect_command_does_not_end_a_connection(services: Services) -> None:
    _, old = await services.connect_live(services.identity("alice"))
    services.delivery_gate.clear()
    await services.broker.append(DisconnectCommand(new_id(), "alice", ("/",), services.clock.now()))
    connecting, transport = await services.connect_declined(services.identity("alice"))
    services.delivery_gate.set()
    await services.wait_delivered()

    assert (old.disconnects, transport.disconnects, connecting.was_disconnected) == (
        [DISCONNECTED_BY_BACKEND],
        [],
        False,
    )


async def test_room_that_another_connection_joins_meanwhile_stays_subscribed(services: Services) -> None:
    connection, _ = await services.connect_live(services.identity("alice", "shared"))
    services.broker.gate.clear()
    services.broker.entered.clear()
    refreshing = asyncio.create_task(
        services.connector.refresh(connection, services.identity("alice", "new"))
    )
    await asyncio.wait_for(services.broker.entered.wait(), TIMEOUT_SECONDS)
    connecting = asyncio.create_task(services.connect_live(services.identity("bob", "shared")))
    await asyncio.sleep(0)

    services.broker.gate.set()
    await refreshing
    _, bob = await connecting
    await push(services, "shared", "hello")
    await services.wait_delivered()

    assert bob.events == ["hello"]


async def assert_rejected(services: Services, identity: Identity, code: str) -> None:
    with pytest.raises(GatewayError) as raised:
        await services.connect_declined(identity)
    assert raised.value.code == code
    assert await services.is_empty()


async def push(services: Services, room: str, event: str) -> None:
    await services.publisher.publish(Message(new_id(), "/", (room,), event, ()))
