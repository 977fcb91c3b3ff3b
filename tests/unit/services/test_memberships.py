"""Memberships: rooms that a connection joins and leaves by itself."""

from __future__ import annotations

import asyncio
import re

import pytest

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, ClientEventRejected
from gateway.domain.messages import Address
from gateway.hub import Connection
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.services.harness import ConnectedClient, Services


async def client(services: Services, *rooms: str) -> ConnectedClient:
    """Connect a live client whose token grants these rooms."""
    connected = await services.connect_client(services.identity("alice", *rooms))
    await connected.wait_live()
    return connected


async def resume(services: Services, before: ConnectedClient, *rooms: str) -> ConnectedClient:
    """Lose a connection and resume it with a token that grants these rooms."""
    services.disconnector.disconnect(before.connection)
    await asyncio.wait_for(services.disconnector.flush(), TIMEOUT_SECONDS)
    after = await services.connect_client(services.identity("alice", *rooms), pid=before.pid)
    await after.wait_live()
    assert after.connection.sid == before.connection.sid
    return after


def joined(connection: Connection) -> set[str]:
    """The rooms without those of the user and of the sid; the session has the same."""
    if connection.session is not None:
        assert connection.session.rooms == connection.rooms
        assert connection.session.joined_rooms == connection.joined_rooms
    return set(connection.rooms) - {"user:alice", connection.sid}


async def recipients(services: Services, room: str) -> int:
    """How many connections a push to a room reports."""
    return (await services.broker.append(services.message(room))).connections


# join


async def test_joined_room_is_in_hub_subscriptions_presence_and_session(services: Services) -> None:
    alice = await client(services)

    assert await services.memberships.join(alice.connection, ["a", "b", "a"]) == ("a", "b")

    assert joined(alice.connection) == {"a", "b"}
    assert {Address("/", "a"), Address("/", "b")} <= services.broker.subscribed
    assert await recipients(services, "a") == 1
    await services.push("b", "news")
    await services.wait_delivered()
    assert "news" in alice.event_names


async def test_message_before_the_join_is_not_for_the_connection(services: Services) -> None:
    alice = await client(services)
    await services.push("a", "early")
    await services.memberships.join(alice.connection, ["a"])
    await services.push("a", "late")

    after = await resume(services, alice)

    assert "early" not in [*alice.event_names, *after.event_names]


async def test_rooms_of_the_connection_are_not_joined_again(services: Services) -> None:
    alice = await client(services, "granted")
    await services.memberships.join(alice.connection, ["a"])
    services.presence.error = AssertionError("nothing is written")

    again = await services.memberships.join(
        alice.connection, ["a", "granted", "user:alice", alice.connection.sid]
    )

    assert again == ()


async def test_rooms_over_the_limit_are_joined_all_or_none() -> None:
    services = Services(max_rooms=4)
    alice = await client(services, "granted")

    assert await services.memberships.join(alice.connection, ["a"]) == ("a",)
    with pytest.raises(ClientEventRejected) as rejection:
        await services.memberships.join(alice.connection, ["b", "c"])
    assert await services.memberships.join(alice.connection, ["a", "b"]) == ("b",)

    assert rejection.value.code == "too_many_rooms"
    assert joined(alice.connection) == {"granted", "a", "b"}
    await services.close()


async def test_concurrent_joins_do_not_exceed_the_limit() -> None:
    services = Services(max_rooms=4)
    alice = await client(services)

    answers = await asyncio.gather(
        *(services.memberships.join(alice.connection, [f"room {number}"]) for number in range(10)),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [*[tuple] * 3, *[ClientEventRejected] * 7]
    assert len(joined(alice.connection)) == 3
    await services.close()


async def test_room_of_another_sid_is_not_joined(services: Services) -> None:
    alice, bob = await client(services), await client(services)

    with pytest.raises(ClientEventRejected) as rejection:
        await services.memberships.join(alice.connection, ["a", bob.connection.sid])

    assert rejection.value.code == "not_allowed"
    assert joined(alice.connection) == set()


async def test_sid_begins_with_a_tilde(services: Services) -> None:
    alice = await client(services)

    assert re.fullmatch(r"~[A-Za-z0-9_-]{20}", alice.connection.sid)


async def test_room_that_may_be_the_sid_of_an_older_release_is_not_joined_yet(services: Services) -> None:
    alice = await client(services)
    services.join_wait_seconds = {"b": 7.5}

    with pytest.raises(ClientEventRejected) as rejection:
        await services.memberships.join(alice.connection, ["a", "b"])
    assert await services.memberships.join(alice.connection, ["a"]) == ("a",)

    assert (rejection.value.code, rejection.value.retry_after_seconds) == ("broker_unavailable", 7.5)


@pytest.mark.parametrize("error", [BrokerUnavailable("gone"), BrokerTimeout("unknown")])
@pytest.mark.parametrize("part", ["broker", "presence"])
async def test_failed_join_changes_nothing_and_its_repeat_does(
    services: Services, part: str, error: Exception
) -> None:
    alice = await client(services)
    getattr(services, part).error = error
    with pytest.raises(type(error)):
        await services.memberships.join(alice.connection, ["a"])
    getattr(services, part).error = None
    assert joined(alice.connection) == set()
    assert Address("/", "a") not in services.broker.subscribed or part == "presence"

    assert await services.memberships.join(alice.connection, ["a"]) == ("a",)

    assert joined(alice.connection) == {"a"}
    assert await recipients(services, "a") == 1


async def test_connection_that_is_closed_joins_and_leaves_nothing(services: Services) -> None:
    alice = await client(services)
    await services.memberships.join(alice.connection, ["a"])
    services.disconnector.disconnect(alice.connection)

    assert await services.memberships.join(alice.connection, ["b"]) == ()
    assert await services.memberships.leave(alice.connection, ["a"]) == ()
    await services.memberships.undo(alice.connection, joined=["a"], left=["b"])

    assert await services.is_empty()


async def test_connection_that_is_closed_during_the_join_leaves_nothing(services: Services) -> None:
    alice = await client(services)
    services.broker.entered.clear()
    services.broker.gate.clear()
    joining = asyncio.create_task(services.memberships.join(alice.connection, ["a"]))
    await asyncio.wait_for(services.broker.entered.wait(), TIMEOUT_SECONDS)

    services.disconnector.disconnect(alice.connection)
    services.broker.gate.set()

    assert await joining == ()
    assert await services.is_empty()


# leave


async def test_left_room_is_gone_everywhere(services: Services) -> None:
    alice = await client(services)
    await services.memberships.join(alice.connection, ["a", "b"])

    assert await services.memberships.leave(alice.connection, ["b", "c", "b"]) == ("b",)

    assert joined(alice.connection) == {"a"}
    assert Address("/", "b") not in services.broker.subscribed
    assert await recipients(services, "b") == 0


async def test_room_that_the_token_grants_and_that_of_the_sid_are_not_left(services: Services) -> None:
    alice = await client(services, "granted")

    left = await services.memberships.leave(alice.connection, ["granted", "user:alice", alice.connection.sid])

    assert left == ()
    assert joined(alice.connection) == {"granted"}


async def test_failed_leave_changes_nothing(services: Services) -> None:
    alice = await client(services)
    await services.memberships.join(alice.connection, ["a"])
    services.presence.error = BrokerUnavailable("gone")

    with pytest.raises(BrokerUnavailable):
        await services.memberships.leave(alice.connection, ["a"])

    assert joined(alice.connection) == {"a"}
    assert Address("/", "a") in services.broker.subscribed


async def test_failed_join_leaves_no_subscription(services: Services) -> None:
    alice = await client(services)
    services.presence.error = BrokerUnavailable("gone")

    with pytest.raises(BrokerUnavailable):
        await services.memberships.join(alice.connection, ["a"])

    assert joined(alice.connection) == set()
    assert Address("/", "a") not in services.broker.subscribed


# undo


async def test_undone_join_is_left_even_without_the_shared_state(services: Services) -> None:
    alice = await client(services)
    await services.memberships.join(alice.connection, ["a", "b"])
    services.presence.error = services.broker.error = BrokerUnavailable("gone")

    await services.memberships.undo(alice.connection, joined=["b"])

    assert joined(alice.connection) == {"a"}
    assert Address("/", "b") not in services.broker.subscribed


async def test_undone_leave_is_joined_again(services: Services) -> None:
    alice = await client(services)
    await services.memberships.join(alice.connection, ["a"])
    await services.memberships.leave(alice.connection, ["a"])

    await services.memberships.undo(alice.connection, left=["a"])

    assert joined(alice.connection) == {"a"}
    assert await recipients(services, "a") == 1


async def test_leave_that_cannot_be_undone_stays_left(services: Services) -> None:
    alice = await client(services)
    await services.memberships.join(alice.connection, ["a"])
    await services.memberships.leave(alice.connection, ["a"])
    services.broker.error = BrokerUnavailable("gone")

    await services.memberships.undo(alice.connection, left=["a"])

    assert joined(alice.connection) == set()


# refresh and resume


async def test_joined_rooms_stay_with_a_refreshed_token(services: Services) -> None:
    alice = await client(services, "old")
    await services.memberships.join(alice.connection, ["a"])

    await services.connector.refresh(alice.connection, services.identity("alice", "new"))

    assert joined(alice.connection) == {"new", "a"}


async def test_room_that_a_token_grants_ends_with_it_also_if_it_was_joined_before(services: Services) -> None:
    alice = await client(services)
    await services.memberships.join(alice.connection, ["a"])

    await services.connector.refresh(alice.connection, services.identity("alice", "a"))
    assert joined(alice.connection) == {"a"}
    assert await services.memberships.leave(alice.connection, ["a"]) == ()
    await services.connector.refresh(alice.connection, services.identity("alice"))

    assert joined(alice.connection) == set()


async def test_join_during_a_refresh_is_kept(services: Services) -> None:
    alice = await client(services, "old")
    services.broker.entered.clear()
    services.broker.gate.clear()
    refreshing = asyncio.create_task(
        services.connector.refresh(alice.connection, services.identity("alice", "new"))
    )
    await asyncio.wait_for(services.broker.entered.wait(), TIMEOUT_SECONDS)
    joining = asyncio.create_task(services.memberships.join(alice.connection, ["a"]))
    services.broker.gate.set()

    await refreshing

    assert await joining == ("a",)
    assert joined(alice.connection) == {"new", "a"}


async def test_resumed_connection_keeps_joined_rooms_and_gets_what_it_missed_there(
    services: Services,
) -> None:
    alice = await client(services, "granted")
    await services.memberships.join(alice.connection, ["a", "b"])
    await services.memberships.leave(alice.connection, ["b"])
    services.disconnector.disconnect(alice.connection)
    await services.push("a", "missed")
    await services.push("b", "left")

    after = await resume(services, alice, "granted")

    assert joined(after.connection) == {"granted", "a"}
    assert after.event_names == ["connect", "missed", "authenticated"]
    assert await recipients(services, "a") == 1


async def test_resumed_connection_has_no_room_of_its_former_token(services: Services) -> None:
    alice = await client(services, "old")
    await services.memberships.join(alice.connection, ["a"])

    after = await resume(services, alice, "new")

    assert joined(after.connection) == {"new", "a"}
    assert joined((await resume(services, after)).connection) == {"a"}
