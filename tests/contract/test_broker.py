"""Broker: appending entries, counting their recipients, delivering them to the listener."""

from __future__ import annotations

import asyncio
from unittest.mock import ANY

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain import positions
from gateway.domain.messages import LogEntry, SessionTakeover
from gateway.domain.positions import Position
from gateway.domain.traces import Trace
from tests.contract.recording_listener import BlockedListener, listening
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import (
    at,
    connection,
    dedup_key,
    disconnect_command,
    message,
    newest_position,
    session_takeover,
)
from tests.support.waiter import TIMEOUT_SECONDS

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 3)
EACH_EXAMPLE_MAKES_ITS_OWN_STATE = [HealthCheck.function_scoped_fixture]


async def test_newest_position_before_the_first_entry_is_where_the_stream_begins(
    state: StateUnderTest,
) -> None:
    begins = await newest_position(state.broker)

    assert positions.is_after(begins, positions.START)
    assert await state.broker.subscribe([at("org:7")]) == begins
    result = await state.broker.append(message("org:7"))
    assert positions.is_after(result.position, begins)


async def test_result_has_the_id_of_the_entry_and_the_newest_position(state: StateUnderTest) -> None:
    news = message("org:7")

    result = await state.broker.append(news)

    assert result.id == news.id
    assert not result.replayed
    assert result.position == await newest_position(state.broker)
    assert positions.parse(result.position) == result.position


async def test_positions_rise_strictly(state: StateUnderTest) -> None:
    handed_out = [(await state.broker.append(message("org:7"))).position for _ in range(50)]

    assert handed_out == sorted(set(handed_out), key=positions.order)


async def test_positions_rise_strictly_when_the_clock_goes_back(state: StateUnderTest) -> None:
    before = await state.broker.append(message("org:7"))
    await state.set_clock_back(3600)

    after = await state.broker.append(message("org:7"))

    assert positions.order(before.position) < positions.order(after.position)


async def test_volatile_message_repeats_the_newest_position(state: StateUnderTest) -> None:
    before = await state.broker.append(message("org:7"))

    volatile = await state.broker.append(message("org:7", volatile=True))

    assert volatile.position == before.position == await newest_position(state.broker)


# --- counts ---


async def test_count_of_one_room_is_exact(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["org:7"])
    await state.presence.register(connection("s2", "bob"), ["org:7"])
    await state.presence.register(connection("s3", "bob", namespace="/chat"), ["org:7"])

    result = await state.broker.append(message("org:7"))

    assert (result.connections, result.exact) == (2, True)


async def test_count_of_several_rooms_is_an_upper_bound(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["org:7", "org:8"])

    result = await state.broker.append(message("org:7", "org:8"))

    assert (result.connections, result.exact) == (2, False)


async def test_count_with_exclusions_is_an_upper_bound(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["org:7"])

    result = await state.broker.append(message("org:7", exclude=frozenset({"s1"})))

    assert (result.connections, result.exact) == (1, False)


async def test_message_to_everyone_counts_its_namespace(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), [])
    await state.presence.register(connection("s2", "bob"), [])
    await state.presence.register(connection("s3", "cid", namespace="/chat"), [])

    result = await state.broker.append(message())

    assert (result.connections, result.exact) == (2, True)


async def test_disconnect_command_counts_the_user_in_all_its_namespaces_exactly(
    state: StateUnderTest,
) -> None:
    await state.presence.register(connection("s1", "ann"), ["user:ann"])
    await state.presence.register(connection("s2", "ann", namespace="/chat"), ["user:ann"])
    await state.presence.register(connection("s3", "bob"), ["user:bob"])

    result = await state.broker.append(disconnect_command("ann", at=state.now(), namespaces=("/", "/chat")))

    assert (result.connections, result.exact) == (2, True)


async def test_session_takeover_counts_the_connection_with_its_sid_exactly(state: StateUnderTest) -> None:
    await state.presence.register(connection("s1", "ann"), ["a"])
    await state.presence.register(connection("s2", "ann"), ["a"])

    result = await state.broker.append(session_takeover("s1"))

    assert (result.connections, result.exact) == (1, True)
    assert (await state.broker.append(session_takeover("s1", namespace="/chat"))).connections == 0


async def test_count_without_recipients_is_zero(state: StateUnderTest) -> None:
    result = await state.broker.append(message("org:7"))

    assert (result.connections, result.exact) == (0, True)


# --- appending an id again ---


@pytest.mark.parametrize("volatile", [False, True])
async def test_appending_an_id_again_changes_nothing_and_returns_the_first_result(
    state: StateUnderTest, volatile: bool
) -> None:
    news = message("org:7", volatile=volatile)
    await state.broker.subscribe([at("org:7")])
    first = await state.broker.append(news)
    await state.presence.register(connection("s1", "ann"), ["org:7"])
    newest = (await state.broker.append(message("org:8"))).position

    again = await state.broker.append(news)

    assert again == first
    assert await newest_position(state.broker) == newest
    async with listening(state.broker) as listener:
        assert await listener.entries() == [news]


async def test_id_appended_concurrently_is_accepted_once(state: StateUnderTest) -> None:
    news = message("org:7")
    await state.broker.subscribe([at("org:7")])

    results = await asyncio.gather(*(state.broker.append(news) for _ in range(20)))

    assert set(results) == {results[0]}
    async with listening(state.broker) as listener:
        assert await listener.entries() == [news]


# --- delivery ---


async def test_entry_for_a_subscribed_address_is_delivered_unchanged(
    state: StateUnderTest,
) -> None:
    news = message(
        "org:7", arguments=('{"text":"grüß dich 👋"}', "null", "1e400"), exclude=frozenset({"s1", "org:8"})
    )
    command = disconnect_command("ann", at=1234.125, revoke=True, namespaces=("/", "/chat"))
    await state.broker.subscribe([at("org:7"), at("user:ann", "/chat")])

    async with listening(state.broker) as listener:
        results = [await state.broker.append(news), await state.broker.append(command)]

        assert await listener.first(2) == [(results[0].position, news), (results[1].position, command)]


@pytest.mark.parametrize("volatile", [False, True])
@pytest.mark.parametrize("size", [1, 200_000])
async def test_trace_is_delivered_with_its_message_even_one_too_large_for_a_channel(
    state: StateUnderTest, volatile: bool, size: int
) -> None:
    await state.broker.subscribe([at("org:7")])
    news = message("org:7", arguments=(f'"{"x" * size}"',), volatile=volatile, trace=TRACE)

    await state.broker.append(news)

    async with listening(state.broker) as listener:
        assert await listener.entries() == [news]


async def test_trace_is_in_the_history(state: StateUnderTest) -> None:
    before = await newest_position(state.broker)
    news = message("org:7", trace=TRACE)
    await state.broker.append(news)

    page = await state.broker.history(before, [at("org:7")], max_entries=10, max_bytes=1000)

    assert [entry for _, entry in page.entries] == [news]


async def test_session_takeover_is_delivered_unchanged_to_subscribers_of_its_sid(
    state: StateUnderTest,
) -> None:
    takeovers = [session_takeover("s1"), session_takeover("käse", namespace="/chät", owner="replica-2/~ü,1")]
    await state.broker.subscribe([at("s1"), at("käse", "/chät"), at(None)])

    async with listening(state.broker) as listener:
        results = [await state.broker.append(each) for each in takeovers]
        for other in (
            session_takeover("s2"),
            session_takeover("s1", namespace="/chat"),
            session_takeover("käse"),
        ):
            await state.broker.append(other)

        delivered_entries = await listener.all_so_far()
        assert delivered_entries == [
            (result.position, each) for result, each in zip(results, takeovers, strict=True)
        ]
        assert [type(entry) for _, entry in delivered_entries] == [SessionTakeover, SessionTakeover]


async def test_session_takeover_is_in_the_stream_where_it_was_appended(state: StateUnderTest) -> None:
    entries: list[LogEntry] = [
        message("s1"),
        session_takeover("s1"),
        disconnect_command("ann", at=1.5),
        session_takeover("s1"),
        message("s1"),
    ]
    await state.broker.subscribe([at("s1"), at("user:ann")])

    async with listening(state.broker) as listener:
        results = [await state.broker.append(entry) for entry in entries]

        assert await listener.all_so_far() == [
            (result.position, entry) for result, entry in zip(results, entries, strict=True)
        ]
    handed_out = [result.position for result in results]
    assert handed_out == sorted(set(handed_out), key=positions.order)


async def test_entry_for_other_addresses_is_not_delivered(state: StateUnderTest) -> None:
    await state.broker.subscribe([at("org:7"), at(None, "/chat")])

    async with listening(state.broker) as listener:
        for other in (message("org:8"), message("org:7", namespace="/chat"), message()):
            await state.broker.append(other)

        assert await listener.entries() == []


async def test_message_to_everyone_is_delivered_to_subscribers_of_the_namespace(
    state: StateUnderTest,
) -> None:
    everyone = message(namespace="/chat")
    await state.broker.subscribe([at(None, "/chat")])

    async with listening(state.broker) as listener:
        await state.broker.append(everyone)

        assert await listener.entries() == [everyone]


async def test_entry_for_several_subscribed_addresses_is_delivered_once(state: StateUnderTest) -> None:
    news = message("org:7", "org:8", "org:9")
    await state.broker.subscribe([at("org:7"), at("org:8")])

    async with listening(state.broker) as listener:
        await state.broker.append(news)

        assert await listener.entries() == [news]


async def test_volatile_message_is_delivered_in_its_turn(state: StateUnderTest) -> None:
    entries = [message("org:7", volatile=number % 2 == 0) for number in range(6)]
    await state.broker.subscribe([at("org:7")])

    async with listening(state.broker) as listener:
        for entry in entries:
            await state.broker.append(entry)

        assert await listener.entries() == entries


async def test_subscribing_returns_the_position_after_which_everything_is_delivered(
    state: StateUnderTest,
) -> None:
    await state.broker.append(message("org:7"))
    appended: list[tuple[Position, LogEntry]] = []

    async def append_many() -> None:
        for _ in range(50):
            news = message("org:7")
            appended.append(((await state.broker.append(news)).position, news))

    async with listening(state.broker) as listener:
        appending = asyncio.create_task(append_many())
        since = await state.broker.subscribe([at("org:7")])
        await appending

        due = [item for item in appended if positions.order(item[0]) > positions.order(since)]
        delivered_entries = await listener.all_so_far()
        assert [
            item for item in delivered_entries if positions.order(item[0]) > positions.order(since)
        ] == due


async def test_subscribing_again_delivers_once(state: StateUnderTest) -> None:
    news = message("org:7")
    await state.broker.subscribe([at("org:7")])
    await state.broker.subscribe([at("org:7"), at("org:7")])

    async with listening(state.broker) as listener:
        await state.broker.append(news)

        assert await listener.entries() == [news]


async def test_unsubscribed_address_gets_nothing_new(state: StateUnderTest) -> None:
    kept = message("org:8")
    await state.broker.subscribe([at("org:7"), at("org:8")])
    await state.broker.unsubscribe([at("org:7"), at("never subscribed")])
    await state.broker.unsubscribe([at("org:7")])

    async with listening(state.broker) as listener:
        await state.broker.append(message("org:7"))
        await state.broker.append(kept)

        assert await listener.entries() == [kept]


async def test_entries_are_delivered_one_at_a_time(state: StateUnderTest) -> None:
    running = 0
    most_running = 0
    delivered: list[LogEntry] = []
    all_delivered = asyncio.Event()

    async def deliver(entry: LogEntry, position: Position, *, more: bool) -> None:
        nonlocal running, most_running
        running += 1
        most_running = max(most_running, running)
        second_chance = asyncio.Event()
        asyncio.get_running_loop().call_soon(second_chance.set)
        await second_chance.wait()
        running -= 1
        delivered.append(entry)
        if len(delivered) == 20:
            all_delivered.set()

    await state.broker.subscribe([at("org:7")])
    listener = asyncio.create_task(state.broker.listen(deliver))
    await asyncio.gather(*(state.broker.append(message("org:7")) for _ in range(20)))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await all_delivered.wait()
    listener.cancel()

    assert most_running == 1


async def test_append_does_not_wait_for_a_blocked_listener(state: StateUnderTest) -> None:
    blocked = BlockedListener(state.broker)
    await state.broker.subscribe([at("org:7")])

    async with listening(state.broker, blocked), asyncio.timeout(TIMEOUT_SECONDS):
        await state.broker.append(message("org:7"))
        await blocked.entered.wait()
        await state.broker.append(message("org:7"))


async def test_exception_of_the_callback_ends_listening_and_is_raised(state: StateUnderTest) -> None:
    async def deliver(entry: LogEntry, position: Position, *, more: bool) -> None:
        raise LookupError("of the hub")

    await state.broker.subscribe([at("org:7")])
    await state.broker.append(message("org:7"))

    with pytest.raises(LookupError, match="of the hub"):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await state.broker.listen(deliver)


@settings(deadline=None, max_examples=25, suppress_health_check=EACH_EXAMPLE_MAKES_ITS_OWN_STATE)
@given(
    rooms_of_appenders=st.lists(
        st.lists(st.sampled_from([("a",), ("b",), ("a", "b"), ("unheard",), ()]), max_size=8), max_size=6
    )
)
async def test_concurrent_appends_are_delivered_as_accepted_in_the_order_of_positions(
    make_state: MakeState, rooms_of_appenders: list[list[tuple[str, ...]]]
) -> None:
    state = await make_state()
    await state.broker.subscribe([at("a"), at("b"), at(None)])
    accepted: list[tuple[Position, LogEntry]] = []

    async def append(rooms: list[tuple[str, ...]]) -> None:
        for names in rooms:
            news = message(*names)
            result = await state.broker.append(news)
            if names != ("unheard",):
                accepted.append((result.position, news))

    async with listening(state.broker) as listener:
        await asyncio.gather(*(append(rooms) for rooms in rooms_of_appenders))

        assert await listener.all_so_far() == sorted(accepted, key=lambda item: positions.order(item[0]))


async def test_result_has_the_connections_at_each_address_if_asked_for(state: StateUnderTest) -> None:
    for sid, user in (("s1", "ann"), ("s2", "ann"), ("s3", "bob")):
        await state.presence.register(connection(sid, user), [f"user:{user}"])
    rooms = ("user:ann", "user:eve", "user:bob")
    news, key = message(*rooms), dedup_key(state, idempotency_key="key")

    result = await state.broker.append(news, key, with_counts=True)

    assert (result.counts, result.connections, result.exact) == ((2, 0, 1), 3, True)
    await state.presence.unregister("s1", is_parked=True)
    assert await state.broker.append(news, with_counts=True) == result
    repeat = await state.broker.append(
        message(*rooms), dedup_key(state, idempotency_key="key"), with_counts=True
    )
    assert repeat == result._replace(replayed=True)
    later = await state.broker.append(message(*rooms), with_counts=True)
    assert (later.counts, later.recoverable) == ((1, 0, 1), 1)
    assert await state.broker.append(message(*rooms)) == later._replace(counts=())._replace(
        id=ANY, position=ANY
    )


async def test_number_of_recipients_that_have_to_be_in_further_rooms_is_an_upper_bound(
    state: StateUnderTest,
) -> None:
    await state.presence.register(connection("s1", "ann"), ["a"])

    result = await state.broker.append(message("a")._replace(all_of=("b",)))

    assert (result.connections, result.exact) == (1, False)
