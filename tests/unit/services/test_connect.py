"""A verified client comes in, and brings a newer token."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND
from gateway.domain.errors import BrokerUnavailable, GatewayError, TokenRejected, TooManyConnections
from gateway.domain.identity import Identity
from gateway.domain.messages import Address, DisconnectCommand, Message, new_id
from tests.unit.services.harness import PATIENCE_SECONDS, House


async def test_who_comes_in_is_registered_here_and_for_everyone(house: House) -> None:
    connection, _ = await house.admit(house.who("alice", "org:7"), "/events")

    assert connection.rooms == {"user:alice", "org:7", connection.sid}
    assert house.broker.subscribed == {
        Address("/events", room) for room in (None, "user:alice", "org:7", connection.sid)
    }
    (present,) = await house.online("alice")
    assert (present.sid, present.namespace, present.replica, present.transport, present.connected_at) == (
        connection.sid,
        "/events",
        "replica-1",
        "websocket",
        house.clock.now(),
    )


async def test_a_room_that_another_is_just_entering_is_waited_for_by_both(house: House) -> None:
    house.broker.gate.clear()
    first = asyncio.create_task(house.welcome(house.who("alice", "shared")))
    await asyncio.wait_for(house.broker.entered.wait(), PATIENCE_SECONDS)
    asked: list[Address] = []
    house.broker.asked = asked.extend

    second = asyncio.create_task(house.welcome(house.who("bob", "shared")))
    await asyncio.sleep(0)
    house.broker.gate.set()
    await asyncio.gather(first, second)

    assert {Address("/", None), Address("/", "shared")} < set(asked)


async def test_a_room_that_somebody_has_here_is_not_subscribed_again(house: House) -> None:
    first, _ = await house.admit(house.who("alice", "org:7"))
    before = set(house.broker.subscribed)

    second, _ = await house.admit(house.who("alice", "org:7"))

    assert first.sid != second.sid
    assert house.broker.subscribed - before == {Address("/", second.sid)}


async def test_until_it_was_welcomed_nothing_is_sent_and_afterwards_everything(house: House) -> None:
    connection, link = await house.admit(house.who("alice"))
    await push(house, "user:alice", "early")
    await push(house, "user:alice", "early too")
    await house.heard()

    connection.go_live()
    await push(house, "user:alice", "late")
    await house.heard()

    assert link.events == ["late"]


# refusals


async def test_one_connection_too_many_is_refused_and_leaves_nothing() -> None:
    house = House(max_connections=2)
    await house.admit(house.who("alice"))
    connection, _ = await house.admit(house.who("alice"), "/events")

    with pytest.raises(TooManyConnections):
        await house.admit(house.who("alice"))
    await house.admit(house.who("bob"))
    house.reporting.disconnect(connection)
    await house.admit(house.who("alice"))
    await asyncio.wait_for(house.reporting.flush(), PATIENCE_SECONDS)

    assert len(await house.online("alice")) == 2
    await house.close()


async def test_connections_that_arrive_at_once_are_counted_as_they_come() -> None:
    house = House(max_connections=2)
    house.presence.gate.clear()
    attempts = [asyncio.create_task(house.admit(house.who("alice"))) for _ in range(5)]
    await asyncio.wait_for(house.presence.entered.wait(), PATIENCE_SECONDS)
    house.presence.gate.set()

    results = await asyncio.gather(*attempts, return_exceptions=True)

    assert [type(result) for result in results] == [tuple, tuple, *[TooManyConnections] * 3]
    await house.close()


async def test_a_token_with_too_many_rooms_is_refused_and_leaves_nothing() -> None:
    house = House(max_rooms=2)
    await refused(house, house.who("alice", "one", "two"), "token_invalid")
    await house.close()


@pytest.mark.parametrize(
    ("issued", "is_refused"), [(None, True), (-1.0, True), (9.9, True), (10.0, False), (20.0, False)]
)
async def test_a_token_from_before_the_revocation_is_refused(
    house: House, issued: float | None, is_refused: bool
) -> None:
    house.schedule.advance(10)
    await house.publishing.disconnect_user("alice", namespace=None, exclude=frozenset(), revoke=True)
    house.schedule.advance(10)

    if is_refused:
        await refused(house, house.who("alice", issued=issued), "token_revoked")
    else:
        await house.admit(house.who("alice", issued=issued))


@pytest.mark.parametrize("revoke", [True, False])
@pytest.mark.parametrize("gate", ["broker", "revocations", "presence"])
async def test_a_kick_during_the_arrival_is_seen_however_far_it_was(
    house: House, gate: str, revoke: bool
) -> None:
    """A kick without revocation that comes before the subscription only concerns those who are here."""
    gated = getattr(house, gate)
    gated.gate.clear()
    arriving = asyncio.create_task(house.admit(house.who("alice", issued=-1.0)))
    await asyncio.wait_for(gated.entered.wait(), PATIENCE_SECONDS)

    await house.publishing.disconnect_user("alice", namespace="/", exclude=frozenset(), revoke=revoke)
    await house.heard()
    gated.gate.set()

    if gate == "broker" and not revoke:
        await arriving
        return
    with pytest.raises(TokenRejected, match=r"revoked|ended") as refusal:
        await arriving
    assert refusal.value.code == "token_revoked"
    assert await house.is_empty()


@pytest.mark.parametrize("gate", ["broker", "presence"])
async def test_when_the_state_is_away_nothing_is_left_behind(house: House, gate: str) -> None:
    getattr(house, gate).fails = BrokerUnavailable("away")

    with pytest.raises(BrokerUnavailable):
        await house.admit(house.who("alice"))

    getattr(house, gate).fails = None
    assert house.hub.connections == {}
    assert house.hub.connections_of("alice") == 0


async def test_an_arrival_that_is_cancelled_leaves_nothing_behind(house: House) -> None:
    house.presence.gate.clear()
    arriving = asyncio.create_task(house.admit(house.who("alice")))
    await asyncio.wait_for(house.presence.entered.wait(), PATIENCE_SECONDS)

    arriving.cancel()
    await asyncio.wait([arriving])

    assert await house.is_empty()


# a newer token


async def test_a_newer_token_changes_the_rooms_everywhere(house: House) -> None:
    connection, link = await house.welcome(house.who("alice", "old", "kept"))
    newer = house.who("alice", "new", "kept")

    await house.arriving.refresh(connection, newer)
    for room in ("old", "new", "kept", connection.sid):
        await push(house, room, room)
    await house.heard()

    assert link.events == ["new", "kept", connection.sid]
    assert connection.identity is newer
    assert Address("/", "old") not in house.broker.subscribed
    assert house.state.presence.connections_at([Address("/", "old")]) == 0
    assert house.state.presence.connections_at([Address("/", "new")]) == 1


async def test_another_users_token_and_a_revoked_one_change_nothing(house: House) -> None:
    connection, _ = await house.welcome(house.who("alice", "old"))
    before = (connection.identity, connection.rooms)
    for newer in (house.who("bob", "new"), house.who("alice", "new", issued=-5.0)):
        house.state.revocations.revoke("alice", house.clock.now() - 1)
        with pytest.raises(TokenRejected):
            await house.arriving.refresh(connection, newer)

    assert (connection.identity, connection.rooms) == before
    assert not house.hub.has(Address("/", "new"))


async def test_a_newer_token_with_too_many_rooms_changes_nothing() -> None:
    house = House(max_rooms=2)
    connection, _ = await house.welcome(house.who("alice", "old"))

    with pytest.raises(TokenRejected):
        await house.arriving.refresh(connection, house.who("alice", "one", "two"))

    assert "old" in connection.rooms
    await house.close()


async def test_who_leaves_while_its_newer_token_is_looked_at_gets_into_no_room_again(house: House) -> None:
    connection, _ = await house.welcome(house.who("alice", "old"))
    house.revocations.gate.clear()
    house.revocations.entered.clear()
    refreshing = asyncio.create_task(house.arriving.refresh(connection, house.who("alice", "new")))
    await asyncio.wait_for(house.revocations.entered.wait(), PATIENCE_SECONDS)

    house.reporting.disconnect(connection)
    house.revocations.gate.set()
    await refreshing

    assert await house.is_empty()


async def test_who_leaves_while_its_new_rooms_are_subscribed_leaves_nothing_behind(house: House) -> None:
    connection, _ = await house.welcome(house.who("alice", "old"))
    house.broker.gate.clear()
    house.broker.entered.clear()
    refreshing = asyncio.create_task(house.arriving.refresh(connection, house.who("alice", "new")))
    await asyncio.wait_for(house.broker.entered.wait(), PATIENCE_SECONDS)

    house.reporting.disconnect(connection)
    house.broker.gate.set()
    await refreshing

    assert await house.is_empty()


async def test_a_refresh_that_fails_changes_nothing_and_its_repeat_changes_everything(house: House) -> None:
    connection, link = await house.welcome(house.who("alice", "old"))
    newer = house.who("alice", "new")
    house.broker.fails = BrokerUnavailable("away")
    with pytest.raises(BrokerUnavailable):
        await house.arriving.refresh(connection, newer)
    assert connection.rooms == {"user:alice", "old", connection.sid}
    assert (house.hub.has(Address("/", "old")), house.hub.has(Address("/", "new"))) == (True, False)

    house.broker.fails = None
    await house.arriving.refresh(connection, newer)
    await push(house, "new", "hello")
    await push(house, "old", "not any more")
    await house.heard()

    assert link.events == ["hello"]
    assert Address("/", "old") not in house.broker.subscribed


async def test_a_refresh_that_cannot_be_told_changes_nothing_here_and_its_repeat_does(house: House) -> None:
    before = await house.come(house.who("alice", "old"))
    newer = house.who("alice", "new")
    house.presence.fails = BrokerUnavailable("away")
    with pytest.raises(BrokerUnavailable):
        await house.arriving.refresh(before.connection, newer)
    house.presence.fails = None
    assert before.connection.rooms == {"user:alice", "old", before.connection.sid}
    assert before.connection.session is not None
    assert before.connection.session.rooms == before.connection.rooms

    await house.arriving.refresh(before.connection, newer)
    house.reporting.disconnect(before.connection)
    await house.reporting.flush()
    await push(house, "new", "missed")
    after = await house.come(newer, pid=before.pid)

    assert after.news == ["connect", "missed", "greeting"]


async def test_a_kick_from_before_it_came_does_not_end_a_connection(house: House) -> None:
    _, old = await house.welcome(house.who("alice"))
    house.hears.clear()
    await house.broker.append(DisconnectCommand(new_id(), "alice", ("/",), house.clock.now()))
    arriving, link = await house.admit(house.who("alice"))
    house.hears.set()
    await house.heard()

    assert (old.ended, link.ended, arriving.was_disconnected) == ([DISCONNECTED_BY_BACKEND], [], False)


async def test_a_room_that_somebody_else_enters_meanwhile_stays_subscribed(house: House) -> None:
    connection, _ = await house.welcome(house.who("alice", "shared"))
    house.broker.gate.clear()
    house.broker.entered.clear()
    refreshing = asyncio.create_task(house.arriving.refresh(connection, house.who("alice", "new")))
    await asyncio.wait_for(house.broker.entered.wait(), PATIENCE_SECONDS)
    arriving = asyncio.create_task(house.welcome(house.who("bob", "shared")))
    await asyncio.sleep(0)

    house.broker.gate.set()
    await refreshing
    _, bob = await arriving
    await push(house, "shared", "hello")
    await house.heard()

    assert bob.events == ["hello"]


async def refused(house: House, who: Identity, code: str) -> None:
    with pytest.raises(GatewayError) as refusal:
        await house.admit(who)
    assert refusal.value.code == code
    assert await house.is_empty()


async def push(house: House, room: str, event: str) -> None:
    await house.publishing.publish(Message(new_id(), "/", (room,), event, ()))
