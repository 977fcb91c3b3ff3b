"""PresenceEvents: changes of users between online and offline, until each consumer was notified of the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import pytest

from gateway.domain.notifications import PRESENCE_PARTITIONS, partition_of
from gateway.domain.presence import (
    MAX_PRESENCE_ADDRESSES,
    ClosedConnection,
    PresenceChange,
    PresenceConsumer,
    PresenceRules,
)
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import at, connection

ALL = range(PRESENCE_PARTITIONS)
WEBHOOK, CLIENTS = PresenceConsumer.WEBHOOK, PresenceConsumer.CLIENTS
OFFLINE_AFTER = 10.0
BOTH = PresenceRules(OFFLINE_AFTER, frozenset({WEBHOOK, CLIENTS}))
ONE = PresenceRules(OFFLINE_AFTER, frozenset({WEBHOOK}))
CLOCKS_AGREE_WITHIN_SECONDS = 5.0


@pytest.fixture
async def state(make_state: MakeState) -> StateUnderTest:
    """A state that records changes for one consumer."""
    made = await make_state()
    made.presence_events.configure(ONE)
    return made


async def connect(
    state: StateUnderTest, user: str = "ann", *rooms: str, sid: str = "", namespace: str = "/"
) -> None:
    await state.presence.register(connection(sid or f"~{user}", user, namespace=namespace), rooms)


async def disconnect(state: StateUnderTest, user: str = "ann", *, sid: str = "") -> None:
    await state.presence.unregister(sid or f"~{user}")


async def sweep(state: StateUnderTest) -> int:
    return await state.presence_events.sweep(ALL, limit=1_000)


async def become_offline(state: StateUnderTest, user: str = "ann") -> None:
    """End the connection of a user and let the time until offline pass."""
    await disconnect(state, user)
    await state.advance(OFFLINE_AFTER + 1)
    await sweep(state)


async def undelivered(
    state: StateUnderTest,
    consumer: PresenceConsumer = WEBHOOK,
    partitions: Collection[int] = ALL,
    *,
    limit: int = 1_000,
) -> tuple[PresenceChange, ...]:
    return await state.presence_events.undelivered(consumer, partitions, limit=limit)


async def newest(
    state: StateUnderTest, user: str = "ann", consumer: PresenceConsumer = WEBHOOK
) -> PresenceChange:
    """Return the only undelivered change of a user."""
    (change,) = [each for each in await undelivered(state, consumer) if each.user == user]
    return change


async def deliver(state: StateUnderTest, consumer: PresenceConsumer = WEBHOOK) -> tuple[PresenceChange, ...]:
    """Notify a consumer of every change; return the changes."""
    changes = await undelivered(state, consumer)
    await state.presence_events.delivered(consumer, changes)
    return changes


def states(changes: Sequence[PresenceChange]) -> list[tuple[str, bool]]:
    return [(each.user, each.is_online) for each in changes]


# --- online and offline ---


async def test_nothing_is_recorded_without_rules(make_state: MakeState) -> None:
    state = await make_state()
    await connect(state)
    await state.advance(1)
    await disconnect(state)
    await state.advance(OFFLINE_AFTER + 1)

    assert await sweep(state) == 0
    assert await undelivered(state) == ()
    assert await state.presence_events.undelivered_counts() == {}


async def test_user_is_online_with_the_first_connection(state: StateUnderTest) -> None:
    await connect(state, "änn", "user:änn")

    change = await newest(state, "änn")

    assert (change.user, change.is_online, change.connections) == ("änn", True, 1)
    assert change.version / 1000 == pytest.approx(state.now(), abs=CLOCKS_AGREE_WITHIN_SECONDS)
    assert change.since == pytest.approx(state.now(), abs=CLOCKS_AGREE_WITHIN_SECONDS)
    assert change.partition == partition_of("änn", PRESENCE_PARTITIONS)
    assert set(change.addresses) == {at(None), at("user:änn")}


async def test_further_connections_change_no_state_and_are_counted(state: StateUnderTest) -> None:
    await connect(state, sid="~s1")
    first = await newest(state)
    await connect(state, sid="~s2", namespace="/chat")
    await connect(state, sid="~s3")
    await disconnect(state, sid="~s1")

    change = await newest(state)

    assert (change.version, change.since, change.connections) == (first.version, first.since, 2)


async def test_user_is_offline_after_the_seconds_without_a_connection(state: StateUnderTest) -> None:
    await connect(state)
    (online,) = await deliver(state)
    left_at = state.now()
    await disconnect(state)
    await state.advance(OFFLINE_AFTER - 5)
    assert (await sweep(state), await undelivered(state)) == (0, ())

    await state.advance(6)

    assert await sweep(state) == 1
    change = await newest(state)
    assert (change.is_online, change.connections) == (False, 0)
    assert change.version > online.version
    assert change.version / 1000 == pytest.approx(state.now(), abs=CLOCKS_AGREE_WITHIN_SECONDS)
    assert change.since == pytest.approx(left_at, abs=CLOCKS_AGREE_WITHIN_SECONDS)
    assert await sweep(state) == 0


@pytest.mark.parametrize("how", ["parked", "recorded", "recorded and parked"])
async def test_connection_that_ended_in_any_way_is_gone(state: StateUnderTest, how: str) -> None:
    await connect(state)
    await deliver(state)
    if how == "parked":
        await state.presence.unregister("~ann", is_parked=True)
    else:
        closed = ClosedConnection("~ann", user="ann", is_parked=how == "recorded and parked")
        await state.disconnects.record([closed])
    await state.advance(OFFLINE_AFTER + 1)

    assert await sweep(state) == 1
    assert states(await deliver(state)) == [("ann", False)]


async def test_user_who_connects_again_within_the_seconds_stays_online(state: StateUnderTest) -> None:
    await connect(state)
    await deliver(state)
    for _ in range(5):
        await disconnect(state)
        await state.advance(OFFLINE_AFTER - 5)
        await connect(state)
        await state.advance(OFFLINE_AFTER - 5)
        assert await sweep(state) == 0

    await state.advance(OFFLINE_AFTER + 1)

    assert (await sweep(state), await undelivered(state)) == (0, ())


async def test_seconds_count_from_the_last_end_of_a_connection(state: StateUnderTest) -> None:
    await connect(state)
    await deliver(state)
    await disconnect(state)
    await state.advance(OFFLINE_AFTER - 5)
    await connect(state)
    await disconnect(state)
    await state.advance(OFFLINE_AFTER - 5)
    assert await sweep(state) == 0

    await state.advance(6)

    assert await sweep(state) == 1


async def test_user_with_a_connection_in_another_namespace_is_online(state: StateUnderTest) -> None:
    await connect(state, sid="~s1")
    await connect(state, sid="~s2", namespace="/chat")
    await deliver(state)
    await disconnect(state, sid="~s1")
    await state.advance(OFFLINE_AFTER + 1)
    assert (await sweep(state), await undelivered(state)) == (0, ())

    await disconnect(state, sid="~s2")
    await state.advance(OFFLINE_AFTER + 1)

    assert (await sweep(state), states(await undelivered(state))) == (1, [("ann", False)])


async def test_sid_registered_again_changes_no_state(state: StateUnderTest) -> None:
    await connect(state)
    await deliver(state)
    await connect(state)
    await state.advance(OFFLINE_AFTER + 1)

    assert (await sweep(state), await undelivered(state)) == (0, ())


async def test_user_whose_sid_was_registered_for_another_one_becomes_offline(state: StateUnderTest) -> None:
    await connect(state, "ann", sid="~s1")
    await deliver(state)
    await connect(state, "bob", sid="~s1")
    await state.presence_events.audit(ALL, limit=100)
    await state.advance(OFFLINE_AFTER + 1)
    await sweep(state)

    assert sorted(states(await undelivered(state))) == [("ann", False), ("bob", True)]


async def test_unknown_sid_changes_no_state(state: StateUnderTest) -> None:
    await disconnect(state, sid="~unknown")
    await state.advance(OFFLINE_AFTER + 1)

    assert (await sweep(state), await undelivered(state)) == (0, ())


async def test_sweep_changes_no_more_states_than_its_limit(state: StateUnderTest) -> None:
    users = [f"user-{number}" for number in range(7)]
    for user in users:
        await connect(state, user)
    await deliver(state)
    for user in users:
        await disconnect(state, user)
    await state.advance(OFFLINE_AFTER + 1)

    assert [await state.presence_events.sweep(ALL, limit=3) for _ in range(4)] == [3, 3, 1, 0]
    assert sorted(each.user for each in await undelivered(state)) == users


async def test_sweep_changes_only_users_of_its_partitions(state: StateUnderTest) -> None:
    users = [f"user-{number}" for number in range(20)]
    for user in users:
        await connect(state, user)
    await deliver(state)
    for user in users:
        await disconnect(state, user)
    await state.advance(OFFLINE_AFTER + 1)
    mine = {0, 1, 2, 3, 4, 5, 6, 7}

    await state.presence_events.sweep(mine, limit=1_000)

    assert {each.user for each in await undelivered(state)} == {
        user for user in users if partition_of(user, PRESENCE_PARTITIONS) in mine
    }


# --- versions ---


async def test_versions_of_a_user_rise_although_the_clock_goes_back(state: StateUnderTest) -> None:
    versions = []
    for _ in range(3):
        await connect(state)
        versions += [each.version for each in await deliver(state)]
        await state.set_clock_back(600)
        await become_offline(state)
        versions += [each.version for each in await deliver(state)]

    assert len(versions) == 6
    assert versions == sorted(set(versions))


async def test_versions_rise_when_a_user_comes_and_goes_at_once(make_state: MakeState) -> None:
    state = await make_state()
    state.presence_events.configure(PresenceRules(0.0, frozenset({WEBHOOK})))
    versions = []
    for _ in range(5):
        await connect(state)
        versions += [each.version for each in await deliver(state)]
        await disconnect(state)
        await sweep(state)
        versions += [each.version for each in await deliver(state)]

    assert len(versions) == 10
    assert versions == sorted(set(versions))


# --- what is undelivered ---


async def test_change_stays_undelivered_until_its_version_was_delivered(state: StateUnderTest) -> None:
    await connect(state)
    change = await newest(state)
    assert await undelivered(state) == (change,)

    await state.presence_events.delivered(WEBHOOK, [change])

    assert await undelivered(state) == ()
    await state.presence_events.delivered(WEBHOOK, [change])
    assert await undelivered(state) == ()


async def test_each_consumer_is_notified_by_itself(make_state: MakeState) -> None:
    state = await make_state()
    state.presence_events.configure(BOTH)
    await connect(state)
    (change,) = await deliver(state, WEBHOOK)

    assert (await undelivered(state, WEBHOOK), await undelivered(state, CLIENTS)) == ((), (change,))
    await become_offline(state)
    (offline,) = await deliver(state, CLIENTS)
    assert not offline.is_online
    assert (await undelivered(state, WEBHOOK), await undelivered(state, CLIENTS)) == ((offline,), ())


async def test_consumer_that_is_not_of_the_rules_gets_nothing(state: StateUnderTest) -> None:
    await connect(state)

    assert await undelivered(state, CLIENTS) == ()
    assert len(await undelivered(state, WEBHOOK)) == 1


async def test_only_the_newest_change_of_a_user_is_undelivered(state: StateUnderTest) -> None:
    await connect(state)
    (first,) = await undelivered(state)
    await become_offline(state)
    (second,) = await undelivered(state)
    await connect(state)

    (third,) = await undelivered(state)

    assert states([first, second, third]) == [("ann", True), ("ann", False), ("ann", True)]
    assert first.version < second.version < third.version


async def test_delivery_of_an_older_version_leaves_the_newer_one_undelivered(state: StateUnderTest) -> None:
    await connect(state)
    (online,) = await undelivered(state)
    await become_offline(state)

    await state.presence_events.delivered(WEBHOOK, [online])

    change = await newest(state)
    assert not change.is_online
    assert change.version > online.version


async def test_user_who_leaves_while_online_is_being_delivered_becomes_offline_for_the_consumer(
    state: StateUnderTest,
) -> None:
    await connect(state)
    await become_offline(state)
    await deliver(state)
    await connect(state)
    sending = await undelivered(state)
    assert states(sending) == [("ann", True)]

    await become_offline(state)
    await state.presence_events.delivered(WEBHOOK, sending)

    assert states(await deliver(state)) == [("ann", False)]


async def test_online_that_reached_one_consumer_is_followed_by_offline_for_it(make_state: MakeState) -> None:
    state = await make_state()
    state.presence_events.configure(BOTH)
    await connect(state)
    await become_offline(state)
    for consumer in (WEBHOOK, CLIENTS):
        await deliver(state, consumer)
    await connect(state)
    assert states(await deliver(state, CLIENTS)) == [("ann", True)]

    await become_offline(state)

    assert states(await deliver(state, CLIENTS)) == [("ann", False)]


async def test_user_who_flaps_while_nothing_is_delivered_has_one_change(state: StateUnderTest) -> None:
    await connect(state)
    (first,) = await deliver(state)
    for _ in range(5):
        await become_offline(state)
        await connect(state)

    assert (await state.presence_events.undelivered_counts())[WEBHOOK][0] == 1
    change = await newest(state)
    assert change.is_online
    assert change.version > first.version


async def test_unknown_users_are_never_delivered_nor_postponed(state: StateUnderTest) -> None:
    unknown = PresenceChange("eve", True, 1, 1.0, 1, 0)

    await state.presence_events.delivered(WEBHOOK, [unknown])
    await state.presence_events.postpone(WEBHOOK, [unknown], seconds=0.0)

    assert await undelivered(state) == ()


async def test_oldest_changes_are_returned_first_up_to_the_limit(state: StateUnderTest) -> None:
    users = [f"user-{number}" for number in range(9)]
    for user in users:
        await connect(state, user)
        await state.advance(0.01)

    assert [each.user for each in await undelivered(state)] == users
    assert [each.user for each in await undelivered(state, limit=4)] == users[:4]


async def test_changes_of_other_partitions_are_not_returned(state: StateUnderTest) -> None:
    users = [f"user-{number}" for number in range(20)]
    for user in users:
        await connect(state, user)

    for partition in ALL:
        assert {each.user for each in await undelivered(state, WEBHOOK, [partition])} == {
            user for user in users if partition_of(user, PRESENCE_PARTITIONS) == partition
        }
    assert await undelivered(state, WEBHOOK, []) == ()


async def test_undelivered_changes_stay_for_days(state: StateUnderTest) -> None:
    await connect(state, "ann")
    await connect(state, "bob")
    await deliver(state)
    await become_offline(state, "bob")
    await connect(state, "cid")

    for _ in range(10):
        await state.advance(20_000)
        await sweep(state)
        await state.presence_events.audit(ALL, limit=100)

    assert sorted(states(await undelivered(state))) == [("bob", False), ("cid", True)]


# --- postponing ---


async def test_postponed_change_is_returned_after_its_seconds_and_others_meanwhile(
    state: StateUnderTest,
) -> None:
    await connect(state, "ann")
    await connect(state, "bob")
    await state.presence_events.postpone(WEBHOOK, [await newest(state, "ann")], seconds=30)
    assert [each.user for each in await undelivered(state)] == ["bob"]
    await state.advance(25)
    assert [each.user for each in await undelivered(state)] == ["bob"]

    await state.advance(6)

    assert sorted(each.user for each in await undelivered(state)) == ["ann", "bob"]


async def test_postponed_change_may_be_delivered(state: StateUnderTest) -> None:
    await connect(state)
    change = await newest(state)
    await state.presence_events.postpone(WEBHOOK, [change], seconds=5)

    await state.presence_events.delivered(WEBHOOK, [change])
    await state.advance(6)

    assert await undelivered(state) == ()
    assert (await state.presence_events.undelivered_counts())[WEBHOOK] == (0, None)


async def test_one_consumer_is_postponed_without_the_other(make_state: MakeState) -> None:
    state = await make_state()
    state.presence_events.configure(BOTH)
    await connect(state)

    await state.presence_events.postpone(WEBHOOK, [await newest(state)], seconds=30)

    assert (len(await undelivered(state, WEBHOOK)), len(await undelivered(state, CLIENTS))) == (0, 1)


async def test_newer_change_is_returned_although_the_former_was_postponed(state: StateUnderTest) -> None:
    await connect(state)
    online = await newest(state)
    await state.presence_events.postpone(WEBHOOK, [online], seconds=3_600)

    await become_offline(state)

    assert states(await undelivered(state)) == [("ann", False)]
    await state.presence_events.postpone(WEBHOOK, [online], seconds=3_600)
    assert states(await undelivered(state)) == [("ann", False)]


# --- addresses ---


async def test_addresses_are_those_of_all_connections_since_the_user_is_online(state: StateUnderTest) -> None:
    await connect(state, "ann", "~s1", "org:7", "user:ann", sid="~s1")
    await connect(state, "ann", "org:8", "user:ann", sid="~s2", namespace="/chat")
    await disconnect(state, sid="~s1")
    await state.presence.change_rooms("~s2", ["org:9", "~s2"])
    expected = {
        at(None), at("org:7"), at("user:ann"),
        at(None, "/chat"), at("org:8", "/chat"), at("user:ann", "/chat"), at("org:9", "/chat"),
    }  # fmt: skip
    assert set((await newest(state)).addresses) == expected
    await deliver(state)

    await disconnect(state, sid="~s2")
    await state.advance(OFFLINE_AFTER + 1)
    await sweep(state)

    assert set((await newest(state)).addresses) == expected


async def test_addresses_begin_anew_when_a_user_is_online_again(state: StateUnderTest) -> None:
    await connect(state, "ann", "org:7")
    await deliver(state)
    await become_offline(state)
    await deliver(state)

    await connect(state, "ann", "org:8", namespace="/chat")

    assert set((await newest(state)).addresses) == {at(None, "/chat"), at("org:8", "/chat")}


async def test_as_many_addresses_are_kept_as_may_be_with_the_namespace_among_them(
    state: StateUnderTest,
) -> None:
    await connect(state, "ann", *[f"room-{number}" for number in range(200)], sid="~s1")
    await connect(state, "ann", *[f"room-{number}" for number in range(100, 400)], sid="~s2")

    addresses = (await newest(state)).addresses

    assert len(addresses) == len(set(addresses)) == MAX_PRESENCE_ADDRESSES
    assert at(None) in addresses


# --- auditing ---


async def test_audit_leaves_users_with_a_connection_online(state: StateUnderTest) -> None:
    for user in ("ann", "bob", "cid"):
        await connect(state, user)
    await deliver(state)

    assert await state.presence_events.audit(ALL, limit=100) == 3
    await state.advance(OFFLINE_AFTER + 1)

    assert (await sweep(state), await undelivered(state)) == (0, ())


async def test_audit_examines_up_to_its_limit_of_its_partitions(state: StateUnderTest) -> None:
    users = [f"user-{number}" for number in range(20)]
    for user in users:
        await connect(state, user)
    in_first = sum(partition_of(user, PRESENCE_PARTITIONS) == 0 for user in users)

    assert await state.presence_events.audit(ALL, limit=7) == 7
    assert await state.presence_events.audit([0], limit=100) == in_first
    assert await state.presence_events.audit([], limit=100) == 0


async def unnoticed_end(state: StateUnderTest, user: str = "ann") -> None:
    """End the connection of a user without a record of it."""
    state.presence_events.configure(None)
    await disconnect(state, user)
    state.presence_events.configure(ONE)


async def test_audit_finds_every_user_without_a_connection(state: StateUnderTest) -> None:
    users = [f"user-{number}" for number in range(12)]
    for user in users:
        await connect(state, user)
    await deliver(state)
    for user in users[::2]:
        await unnoticed_end(state, user)

    for _ in range(4):
        await state.presence_events.audit(ALL, limit=3)
    await state.advance(OFFLINE_AFTER - 5)
    assert await sweep(state) == 0
    await state.advance(6)
    await sweep(state)

    assert sorted(states(await undelivered(state))) == [(user, False) for user in sorted(users[::2])]
    assert await state.presence_events.audit(ALL, limit=100) == 6


async def test_user_who_connects_after_an_audit_stays_online(state: StateUnderTest) -> None:
    await connect(state)
    await deliver(state)
    await unnoticed_end(state)
    await state.presence_events.audit(ALL, limit=100)

    await connect(state)
    await state.advance(OFFLINE_AFTER + 1)

    assert (await sweep(state), await undelivered(state)) == (0, ())


async def test_audits_do_not_postpone_the_time_of_offline(state: StateUnderTest) -> None:
    await connect(state)
    await deliver(state)
    await unnoticed_end(state)
    for _ in range(3):
        await state.presence_events.audit(ALL, limit=100)
        await state.advance(4)

    await sweep(state)

    assert states(await undelivered(state)) == [("ann", False)]


# --- rules ---


async def test_user_who_connected_while_there_were_no_rules_is_not_set_offline(state: StateUnderTest) -> None:
    await connect(state)
    await deliver(state)
    await disconnect(state)
    state.presence_events.configure(None)
    await connect(state)
    state.presence_events.configure(ONE)
    await state.advance(OFFLINE_AFTER + 1)

    await sweep(state)

    assert [each for each in await undelivered(state) if not each.is_online] == []


async def test_user_who_connected_before_there_were_rules_is_online_soon(make_state: MakeState) -> None:
    state = await make_state()
    await connect(state, "ann", "org:7")
    await connect(state, "bob")
    await disconnect(state, "bob")

    state.presence_events.configure(ONE)

    async with asyncio.timeout(60):
        while not await undelivered(state):
            await sweep(state)
            await asyncio.sleep(0.01)
    change = await newest(state)
    assert (change.is_online, change.connections) == (True, 1)
    assert set(change.addresses) == {at(None), at("org:7")}
    assert len(await deliver(state)) == 1
    await become_offline(state)
    assert states(await undelivered(state)) == [("ann", False)]


async def test_connection_registered_again_changes_no_state(state: StateUnderTest) -> None:
    await connect(state)
    await deliver(state)

    await state.presence.register_again({"~ann": None})
    await state.advance(OFFLINE_AFTER + 1)

    assert (await sweep(state), await undelivered(state)) == (0, ())


async def test_seconds_of_the_newest_rules_count(state: StateUnderTest) -> None:
    await connect(state)
    await deliver(state)
    state.presence_events.configure(PresenceRules(3_600.0, frozenset({WEBHOOK})))
    await disconnect(state)
    await state.advance(OFFLINE_AFTER + 1)
    assert await sweep(state) == 0
    await state.advance(3_600)

    assert await sweep(state) == 1


async def test_counts_are_those_of_each_consumer(make_state: MakeState) -> None:
    state = await make_state()
    state.presence_events.configure(BOTH)
    assert await state.presence_events.undelivered_counts() == {WEBHOOK: (0, None), CLIENTS: (0, None)}
    await connect(state, "ann")
    first = await newest(state)
    await state.advance(30)
    await connect(state, "bob")
    await state.presence_events.delivered(CLIENTS, [first])

    counts = await state.presence_events.undelivered_counts()

    assert (counts[WEBHOOK][0], counts[CLIENTS][0]) == (2, 1)
    assert counts[WEBHOOK][1] == pytest.approx(first.since, abs=0.01)
    assert counts[CLIENTS][1] == pytest.approx(first.since + 30, abs=CLOCKS_AGREE_WITHIN_SECONDS)
    await state.presence_events.postpone(WEBHOOK, [first], seconds=60)
    assert (await state.presence_events.undelivered_counts())[WEBHOOK][0] == 2
