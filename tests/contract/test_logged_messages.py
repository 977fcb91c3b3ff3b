"""LoggedMessages: the newest messages of an address, and erasing messages."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain import positions
from gateway.domain.errors import MalformedPosition
from gateway.domain.messages import Address, LogEntry, Message, RoomChange, new_id
from gateway.domain.positions import START, Position
from gateway.interfaces import Page
from tests.contract.recording_listener import listening
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import at, disconnect_command, message, newest_position, session_takeover

Item = tuple[Position, LogEntry]
LATER = Position("9999999999999-0")


async def append(state: StateUnderTest, *entries: LogEntry) -> list[Item]:
    return [((await state.broker.append(entry)).position, entry) for entry in entries]


async def read(state: StateUnderTest, after: Position, *addresses: Address) -> Page:
    """Read a page without limits."""
    return await state.broker.history(after, addresses, max_entries=100_000, max_bytes=1_000_000_000)


async def read_newest(
    state: StateUnderTest, address: Address, *, limit: int = 100, max_bytes: int = 1_000_000
) -> Page:
    return await state.logged_messages.newest(address, max_messages=limit, max_bytes=max_bytes)


def room_change(*rooms: str) -> RoomChange:
    return RoomChange(new_id(), "/", rooms, ("x",), is_join=True)


# newest


async def test_newest_messages_of_an_address_are_returned_oldest_first(state: StateUnderTest) -> None:
    items = await append(state, *(message("a", "b") if n % 2 else message("b") for n in range(12)))

    page = await read_newest(state, at("a"), limit=3)

    assert (list(page.entries), page.has_more, page.gap) == ([items[7], items[9], items[11]], False, None)
    assert list((await read_newest(state, at("b"), limit=100)).entries) == items
    assert (await read_newest(state, at("c"))).entries == ()


async def test_newest_messages_are_those_of_their_namespace_and_address(state: StateUnderTest) -> None:
    items = await append(state, message("a"), message(), message("a", namespace="/chat"))

    for item, address in zip(items, (at("a"), at(None), at("a", "/chat")), strict=True):
        assert (await read_newest(state, address)).entries == (item,)


async def test_newest_messages_end_before_too_many_bytes(state: StateUnderTest) -> None:
    items = await append(state, *(message("a", arguments=('"' + "x" * 98 + '"',)) for _ in range(5)))

    assert list((await read_newest(state, at("a"), max_bytes=300)).entries) == items[2:]
    assert list((await read_newest(state, at("a"), max_bytes=299)).entries) == items[3:]
    assert list((await read_newest(state, at("a"), max_bytes=1)).entries) == items[4:]


async def test_entries_that_are_no_messages_are_not_among_the_newest(state: StateUnderTest) -> None:
    items = await append(
        state,
        message("user:ann", "s1"),
        *(disconnect_command("ann", at=1.0) for _ in range(5)),
        session_takeover("s1"),
        room_change("s1"),
        message("user:ann", "s1", volatile=True),
    )

    assert (await read_newest(state, at("user:ann"), limit=2)).entries == (items[0],)
    assert (await read_newest(state, at("s1"), limit=2)).entries == (items[0],)


async def test_newest_message_is_found_behind_thousands_of_other_entries(make_state: MakeState) -> None:
    state = await make_state(history_length=20_000)
    items = await append(state, *(message("a") for _ in range(3)))
    await append(state, *(room_change("a") for _ in range(1_300)))

    for limit in (1, 2, 100):
        page = await read_newest(state, at("a"), limit=limit)
        assert (list(page.entries), page.gap) == (items[-limit:], None)


async def test_thousands_of_erased_messages_are_passed_over(make_state: MakeState) -> None:
    state = await make_state(history_length=20_000)
    await append(state, room_change("a"))
    erased = await append(state, *(message("a") for _ in range(5_000)))
    assert await state.logged_messages.erase(at("a"), erased[-1][0]) == 5_000

    page = await read_newest(state, at("a"))
    assert (page.entries, page.gap) == ((), None)
    items = await append(state, message("a"))
    assert list((await read_newest(state, at("a"))).entries) == items


async def test_newest_messages_report_a_gap_only_where_others_should_be_held(make_state: MakeState) -> None:
    state = await make_state(history_length=10)
    await append(state, *(message("a") for _ in range(5)))
    assert (await read_newest(state, at("a"))).gap is None
    items = await append(state, *(message("b") for _ in range(40)), *(message("a") for _ in range(3)))

    page = await read_newest(state, at("a"), limit=2)
    assert (list(page.entries), page.gap) == (items[-2:], None)
    assert (await read_newest(state, at("a"), limit=4)).gap == "history_trimmed"
    assert (await read_newest(state, at("c"))).gap is None
    await state.advance(200)
    await append(state, message("a"))
    assert (await read_newest(state, at("a"))).gap is None


# erase


async def test_erased_messages_are_neither_read_nor_missing(state: StateUnderTest) -> None:
    items = await append(state, message("a"), message("b"), message("a"), message("a"))

    removed = await state.logged_messages.erase(at("a"), items[2][0])

    assert removed == 2
    assert await read(state, START, at("a"), at("b")) == Page(
        (items[1], items[3]), last_position=items[3][0], has_more=False, gap=None
    )
    assert (await read_newest(state, at("a"))).entries == (items[3],)
    for position, _ in items:
        assert (await read(state, position, at("a"), at("b"))).gap is None
    assert await state.logged_messages.erase(at("a"), items[2][0]) == 0


async def test_pages_have_what_is_between_erased_messages_once(make_state: MakeState) -> None:
    state = await make_state(history_length=20_000)
    kept = await append(state, room_change("a", "b"))
    # Runs that end before, at and after the ends of the parts in which Redis is read, and others within them.
    for run in (1, 2, 13, 14, 15, 16, 17, 31, 32, 33, 63, 65, 1, 1, 700, 1, 1_500, 3):
        await append(state, *(message("a", "b") if n % 3 else message("a") for n in range(run)))
        kept += await append(state, room_change("a", "b"), message("b"))
    assert await state.logged_messages.erase(at("a"), LATER) == 2_508

    for max_entries in (1, 4, 100_000):
        found: list[Item] = []
        page = Page((), START, has_more=True, gap=None)
        while page.has_more:
            page = await state.broker.history(
                page.last_position, [at("a"), at("b")], max_entries=max_entries, max_bytes=1_000_000
            )
            found += page.entries
        assert found == kept


async def test_message_for_several_addresses_is_erased_from_all_of_them(state: StateUnderTest) -> None:
    items = await append(
        state,
        message("b"),
        message("a", "b", "c"),
        message("c"),
        message("b", "a"),
        message("b"),
        message("c", "a"),
    )

    assert await state.logged_messages.erase(at("a"), LATER) == 3

    page = await read(state, START, at("a"), at("b"), at("c"))
    assert (list(page.entries), page.gap) == ([items[0], items[2], items[4]], None)
    assert list((await read_newest(state, at("b"))).entries) == [items[0], items[4]]
    assert list((await read_newest(state, at("c"))).entries) == [items[2]]


async def test_other_entries_of_the_address_are_not_erased(state: StateUnderTest) -> None:
    items = await append(
        state,
        message("user:ann"),
        disconnect_command("ann", at=1.5),
        message("user:ann"),
        room_change("user:ann"),
        message("user:ann"),
    )

    assert await state.logged_messages.erase(at("user:ann"), LATER) == 3

    assert list((await read(state, START, at("user:ann"))).entries) == [items[1], items[3]]
    assert list((await read(state, items[2][0], at("user:ann"))).entries) == [items[3]]


async def test_erasing_reaches_only_its_address_and_namespace(state: StateUnderTest) -> None:
    items = await append(state, message("a"), message(), message("a", namespace="/chat"))

    assert await state.logged_messages.erase(at(None), LATER) == 1
    assert await state.logged_messages.erase(at("x"), LATER) == 0

    page = await read(state, START, at("a"), at(None), at("a", "/chat"))
    assert list(page.entries) == [items[0], items[2]]


async def test_position_that_was_never_handed_out_is_rejected(state: StateUnderTest) -> None:
    with pytest.raises(MalformedPosition):
        await state.logged_messages.erase(at("a"), Position("yesterday"))


async def test_erased_message_leaves_no_gap_once_the_log_is_trimmed_beyond_it(make_state: MakeState) -> None:
    state = await make_state(history_length=10)
    (first, *_) = await append(state, message("z"), message("a", "b"), message("b", "a"))
    assert await state.logged_messages.erase(at("a"), LATER) == 2
    await append(state, *(message("c") for _ in range(60)))

    assert (await read(state, first[0], at("a"), at("b"))).gap is None
    assert (await read(state, first[0], at("c"))).gap == "history_trimmed"
    assert (await read_newest(state, at("b"))).gap is None


async def test_trimmed_entry_stays_a_gap_when_later_messages_are_erased(make_state: MakeState) -> None:
    state = await make_state(history_length=10)
    items = await append(state, message("z"), message("a"), *(message("c") for _ in range(60)), message("a"))

    assert await state.logged_messages.erase(at("a"), LATER) == 1

    assert (await read(state, items[0][0], at("a"))).gap == "history_trimmed"


async def test_message_that_is_older_than_its_index_is_erased_as_well(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=10.0, history_slack_seconds=5.0)
    async with listening(state.broker):
        await append(state, message("a"), message("b"))
        await state.advance(60)

        removed = await state.logged_messages.erase(at("a"), LATER)

        assert removed == 1
        assert await state.logged_messages.erase(at("a"), LATER) == 0


async def test_listener_gets_each_message_that_is_accepted_while_others_are_erased(
    state: StateUnderTest,
) -> None:
    await state.broker.subscribe([at("a"), at("b")])
    async with listening(state.broker) as listener:
        kept: list[LogEntry] = []
        before = await append(state, *(message("a") for _ in range(300)))

        async def push() -> None:
            for _ in range(300):
                kept.extend(entry for _, entry in await append(state, message("a", "b")))

        pushing = asyncio.create_task(push())
        removed = await state.logged_messages.erase(at("a"), before[-1][0])
        await pushing

        assert removed == 300
        assert [entry for entry in await listener.entries() if entry in kept] == kept
        assert [entry for _, entry in (await read(state, START, at("b"))).entries] == kept


async def test_erasing_a_long_history_reaches_all_of_it(make_state: MakeState) -> None:
    state = await make_state(history_length=10_000)
    await append(state, *(message("a", "b") if n % 3 else message("b") for n in range(3_000)))

    assert await state.logged_messages.erase(at("a"), LATER) == 2_000

    entries, after, has_more = 0, START, True
    while has_more:
        page = await read(state, after, at("a"), at("b"))
        entries, after, has_more = entries + len(page.entries), page.last_position, page.has_more
        assert page.gap is None
    assert entries == 1_000
    assert await state.logged_messages.erase(at("b"), LATER) == 1_000
    assert (await read(state, START, at("a"), at("b"))).entries == ()


async def test_message_for_a_hundred_addresses_is_erased_from_each(state: StateUnderTest) -> None:
    rooms = [f"r{n}" for n in range(100)]
    for _ in range(3):
        await append(state, *(message(room) for room in rooms), message(*rooms), message(*rooms))

    assert await state.logged_messages.erase(at("r7"), LATER) == 9

    page = await read(state, START, *map(at, rooms))
    assert (len(page.entries), page.gap) == (3 * 99, None)


ROOMS = ["a", "b", "c"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.lists(st.sampled_from(ROOMS), min_size=1, max_size=3, unique=True)),
        st.tuples(st.just("command"), st.sampled_from(ROOMS)),
        st.tuples(st.just("erase"), st.sampled_from(ROOMS), st.integers(0, 30)),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_history_equals_a_list_from_which_messages_were_removed(
    make_state: MakeState, steps: list[tuple[str, ...]]
) -> None:
    state = await make_state()
    begins = await newest_position(state.broker)
    every: list[Item] = []
    kept: list[Item] = []
    for step in steps:
        if step[0] == "push":
            items = await append(state, message(*step[1]))
        elif step[0] == "command":
            items = await append(state, room_change(step[1]))
        else:
            _, room, place = step
            upto = every[min(int(place), len(every) - 1)][0] if every else begins
            gone = [
                item
                for item in kept
                if isinstance(item[1], Message)
                and room in item[1].rooms
                and not positions.is_after(item[0], upto)
            ]
            assert await state.logged_messages.erase(at(room), upto) == len(gone)
            kept = [item for item in kept if item not in gone]
            items = []
        every += items
        kept += items

    for after in [START, begins, *(position for position, _ in every)]:
        for rooms in (["a"], ["b", "c"], ROOMS):
            page = await read(state, after, *map(at, rooms))
            assert (list(page.entries), page.gap) == (
                [
                    item
                    for item in kept
                    if positions.is_after(item[0], after)
                    and any(address.room in rooms for address in item[1].addresses)
                ],
                None,
            )
    for room in ROOMS:
        newest = [item for item in kept if isinstance(item[1], Message) and room in item[1].rooms]
        assert list((await read_newest(state, at(room), limit=3)).entries) == newest[-3:]
