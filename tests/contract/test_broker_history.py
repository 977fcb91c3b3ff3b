"""Broker: reading the history after a position."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain import positions
from gateway.domain.errors import MalformedPosition
from gateway.domain.messages import Address, LogEntry, json_bytes
from gateway.domain.positions import START, Position
from gateway.interfaces import Broker, Page
from tests.contract.states import MakeState, StateUnderTest
from tests.contract.values import at, disconnect_command, message, newest_position, session_takeover

Item = tuple[Position, LogEntry]


async def append(state: StateUnderTest, *entries: LogEntry) -> list[Item]:
    return [((await state.broker.append(entry)).position, entry) for entry in entries]


async def read(broker: Broker, after: Position, *addresses: Address) -> Page:
    """Read a page without limits."""
    return await broker.history(after, addresses, max_entries=100_000, max_bytes=1_000_000_000)


async def test_history_returns_the_entries_after_a_position_for_the_addresses(state: StateUnderTest) -> None:
    items = await append(
        state,
        message("a"),
        message("b"),
        message("c"),
        message(),
        message("a", namespace="/chat"),
        disconnect_command("ann", at=1.5),
    )

    page = await read(state.broker, items[0][0], at("a"), at("b"), at(None), at("user:ann"))

    assert page == Page((items[1], items[3], items[5]), last_position=items[5][0], has_more=False, gap=None)


async def test_entry_for_several_of_the_addresses_is_returned_once(state: StateUnderTest) -> None:
    items = await append(state, message("a", "b"), message("b", "a", "c"))

    page = await read(state.broker, START, at("a"), at("b"), at("b"))

    assert list(page.entries) == items


async def test_page_without_entries_reaches_the_newest_position(state: StateUnderTest) -> None:
    items = await append(state, message("a"), message("b"))

    page = await read(state.broker, items[0][0], at("a"))

    assert page == Page((), last_position=items[1][0], has_more=False, gap=None)


async def test_history_of_an_empty_stream_is_empty(state: StateUnderTest) -> None:
    begins = await newest_position(state.broker)

    for after in (START, begins):
        assert await read(state.broker, after, at("a")) == Page(
            (), last_position=begins, has_more=False, gap=None
        )


async def test_position_before_the_first_entry_misses_everything_since(make_state: MakeState) -> None:
    state = await make_state(history_length=10)
    begins = await newest_position(state.broker)
    items = await append(state, message("a"), message("b"), message("a"))

    page = await read(state.broker, begins, at("a"))

    assert page == Page((items[0], items[2]), last_position=items[2][0], has_more=False, gap=None)
    await append(state, *(message("a") for _ in range(100)))
    assert (await read(state.broker, begins, at("a"))).gap == "history_trimmed"


async def test_start_of_one_stream_is_no_position_of_the_next(make_state: MakeState) -> None:
    former, state = await make_state(), await make_state()
    begins = await newest_position(former.broker)

    for _ in range(2):
        assert (await read(state.broker, begins, at("a"))).gap == "data_lost"
        await append(state, message("a"))


async def test_session_takeover_is_in_the_history_of_its_sid_and_namespace(state: StateUnderTest) -> None:
    items = await append(
        state,
        session_takeover("s1"),
        session_takeover("s2"),
        session_takeover("s1", namespace="/chat"),
        message("s1"),
    )

    page = await read(state.broker, START, at("s1"), at(None))

    assert page == Page((items[0], items[3]), last_position=items[3][0], has_more=False, gap=None)
    assert list((await read(state.broker, START, at("s1", "/chat"))).entries) == [items[2]]


async def test_session_takeover_counts_no_bytes_of_a_page(state: StateUnderTest) -> None:
    items = await append(
        state, session_takeover("s1"), session_takeover("s1", owner="x" * 100), session_takeover("s1")
    )

    page = await state.broker.history(START, [at("s1")], max_entries=2, max_bytes=1)

    assert page == Page(tuple(items[:2]), last_position=items[1][0], has_more=True, gap=None)


async def test_volatile_messages_are_not_kept(state: StateUnderTest) -> None:
    items = await append(state, message("a"), message("a", volatile=True), message("a"))

    page = await read(state.broker, START, at("a"))

    assert list(page.entries) == [items[0], items[2]]


@pytest.mark.parametrize("text", ["", "1", "-", "1-", "01-0", "1-0-0", "1-0\n", "x-y", "-1-0", "١-0"])
async def test_malformed_position_is_rejected(state: StateUnderTest, text: str) -> None:
    with pytest.raises(MalformedPosition):
        await read(state.broker, Position(text), at("a"))


# --- pages ---


async def test_page_ends_where_the_next_begins(state: StateUnderTest) -> None:
    items = await append(state, *(message("a") for _ in range(5)))

    first = await state.broker.history(START, [at("a")], max_entries=3, max_bytes=1_000)
    second = await state.broker.history(first.last_position, [at("a")], max_entries=3, max_bytes=1_000)

    assert first == Page(tuple(items[:3]), last_position=items[2][0], has_more=True, gap=None)
    assert second == Page(tuple(items[3:]), last_position=items[4][0], has_more=False, gap=None)


async def test_page_that_is_just_full_has_no_more(state: StateUnderTest) -> None:
    items = await append(state, message("a"), message("a"), message("b"))

    page = await state.broker.history(START, [at("a")], max_entries=2, max_bytes=1_000)

    assert page == Page(tuple(items[:2]), last_position=items[2][0], has_more=False, gap=None)


async def test_max_bytes_counts_the_json_of_the_arguments_in_utf_8(state: StateUnderTest) -> None:
    items = await append(state, *(message("a", arguments=('"ää"', '"xx"')) for _ in range(3)))

    page = await state.broker.history(START, [at("a")], max_entries=10, max_bytes=20)

    assert list(page.entries) == items[:2]
    assert page.has_more
    page = await state.broker.history(START, [at("a")], max_entries=10, max_bytes=19)
    assert list(page.entries) == items[:1]


async def test_page_has_one_entry_even_if_it_is_larger_than_the_page(state: StateUnderTest) -> None:
    items = await append(state, message("a", arguments=(f'"{"x" * 5000}"',)), message("a"))

    page = await state.broker.history(START, [at("a")], max_entries=10, max_bytes=100)

    assert list(page.entries) == items[:1]
    assert page.has_more


# --- bounds ---


async def test_history_beyond_its_length_is_trimmed_with_a_gap(make_state: MakeState) -> None:
    state = await make_state(history_length=10)
    items = await append(state, *(message("a") for _ in range(100)))

    page = await read(state.broker, START, at("a"))

    assert page.gap == "history_trimmed"
    assert 10 <= len(page.entries) <= 20
    assert list(page.entries) == items[-len(page.entries) :]


async def test_history_beyond_its_bytes_is_trimmed_with_a_gap(make_state: MakeState) -> None:
    state = await make_state(history_bytes=20_000)
    items = await append(state, *(message("a", arguments=(f'"{"x" * 998}"',)) for _ in range(200)))

    page = await read(state.broker, START, at("a"))

    assert page.gap == "history_trimmed"
    assert 10 <= len(page.entries) <= 40
    assert list(page.entries) == items[-len(page.entries) :]


async def test_gap_is_only_for_addresses_that_lost_a_newer_entry(make_state: MakeState) -> None:
    state = await make_state(history_length=10)
    quiet, lost, _ = await append(state, message("quiet"), message("lost"), message("other"))
    await append(state, *(message("busy") for _ in range(100)))

    assert (await read(state.broker, quiet[0], at("quiet"))).gap is None
    assert (await read(state.broker, quiet[0], at("never used"))).gap is None
    assert (await read(state.broker, quiet[0], at("quiet"), at("lost"))).gap == "history_trimmed"
    assert (await read(state.broker, lost[0], at("quiet"), at("lost"))).gap is None
    assert (await read(state.broker, START, at("quiet"))).gap == "history_trimmed"


async def test_age_of_a_position_is_no_gap(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100, history_slack_seconds=50)
    seen = (await append(state, message("a")))[0][0]
    await state.advance(10_000)
    missed = await append(state, message("a"))

    page = await read(state.broker, seen, at("a"))

    assert list(page.entries) == missed
    assert page.gap is None


async def test_entries_dropped_by_age_are_no_gap(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100, history_slack_seconds=50)
    await append(state, *(message("a") for _ in range(10)))
    await state.advance(10_000)
    newest = await append(state, *(message("b") for _ in range(10)))

    page = await read(state.broker, START, at("a"))

    assert (page.gap, page.last_position) == (None, newest[-1][0])


async def test_gap_closes_when_its_entry_would_have_been_dropped_by_age(make_state: MakeState) -> None:
    state = await make_state(history_length=5, recovery_seconds=100, history_slack_seconds=50)
    await append(state, message("a"), *(message("b") for _ in range(50)))
    assert (await read(state.broker, START, at("a"))).gap == "history_trimmed"

    await state.advance(200)

    assert (await read(state.broker, START, at("a"))).gap is None


async def test_history_is_kept_for_the_window_and_its_slack(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=100, history_slack_seconds=50)
    items = await append(state, message("a"), message("a"))
    await state.advance(140)
    items += await append(state, message("a"))

    page = await read(state.broker, START, at("a"))

    assert (list(page.entries), page.gap) == (items, None)


async def test_history_without_a_window_keeps_nothing_and_has_no_gap(make_state: MakeState) -> None:
    state = await make_state(recovery_seconds=0)
    items = await append(state, message("a"), message("a"))

    page = await read(state.broker, START, at("a"))

    assert page == Page((), last_position=items[-1][0], has_more=False, gap=None)


# --- positions that the stream does not know ---


def shifted(position: Position, *, milliseconds: int = 0, sequence: int = 0) -> Position:
    then, number = positions.order(position)
    return positions.position_at((then + milliseconds, number + sequence))


async def of_now(state: StateUnderTest) -> Position:
    """Return a position that an entry might have got now."""
    return positions.position_at((int(state.now() * 1000), 0))


@pytest.mark.parametrize("age_milliseconds", [3_600_000, 86_400_000 * 365])
@pytest.mark.parametrize("appended", [0, 3])
async def test_position_from_before_the_stream_began_is_lost_data(
    state: StateUnderTest, age_milliseconds: int, appended: int
) -> None:
    items = await append(state, *(message("a") for _ in range(appended)))
    before = shifted(await of_now(state), milliseconds=-age_milliseconds)

    for requested in (before, Position("1-0"), Position("0-1")):
        for room in ("a", "never used"):
            assert (await read(state.broker, requested, at(room))).gap == "data_lost"

    assert await read(state.broker, START, at("a")) == Page(
        tuple(items),
        last_position=items[-1][0] if items else await newest_position(state.broker),
        has_more=False,
        gap=None,
    )


@pytest.mark.parametrize("appended", [0, 3])
async def test_position_in_the_future_of_the_stream_is_lost_data(
    state: StateUnderTest, appended: int
) -> None:
    await append(state, *(message("a") for _ in range(appended)))
    now, newest = await of_now(state), await newest_position(state.broker)
    future = [shifted(now, milliseconds=3_600_000), shifted(newest, sequence=1), Position(f"{9**16}-{9**16}")]

    for requested in future:
        for room in ("a", "never used"):
            page = await read(state.broker, requested, at(room))
            assert page == Page((), last_position=newest, has_more=False, gap="data_lost")

    assert (await read(state.broker, START, at("a"))).gap is None


async def test_start_and_every_position_of_an_entry_are_known(state: StateUnderTest) -> None:
    items = await append(
        state, message("a"), message("b"), message("a", volatile=True), session_takeover("s1")
    )

    gaps = {(await read(state.broker, position, at("a"))).gap for position in (START, *(p for p, _ in items))}

    assert gaps == {None}


@pytest.mark.parametrize("appended_before", [0, 1])
async def test_positions_of_entries_after_the_clock_went_back_are_known(
    state: StateUnderTest, appended_before: int
) -> None:
    await append(state, *(message("a") for _ in range(appended_before)))
    await state.set_clock_back(3600)
    items = await append(state, message("a"), message("a"))

    page = await read(state.broker, items[0][0], at("a"))

    assert page == Page((items[1],), last_position=items[1][0], has_more=False, gap=None)


async def test_start_is_before_trimmed_entries_and_never_lost_data(make_state: MakeState) -> None:
    state = await make_state(history_length=5)
    first, *_ = await append(state, *(message("a") for _ in range(50)))
    before = shifted(first[0], milliseconds=-3_600_000)

    assert (await read(state.broker, START, at("a"))).gap == "history_trimmed"
    assert (await read(state.broker, first[0], at("a"))).gap == "history_trimmed"
    assert (await read(state.broker, before, at("a"))).gap == "data_lost"


# --- against a list ---

ROOMS = ("a", "b", "c", "d")
SOME_ROOMS = st.lists(st.sampled_from(ROOMS), max_size=3, unique=True).map(tuple)
ENTRIES = st.lists(st.tuples(SOME_ROOMS, st.integers(0, 40)), max_size=40)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=ENTRIES,
    requested=st.lists(st.sampled_from((None, *ROOMS)), min_size=1, max_size=4),
    start=st.integers(0, 40),
    length=st.integers(1, 40),
    max_entries=st.integers(1, 5),
    max_bytes=st.integers(1, 100),
)
async def test_pages_are_the_end_of_a_list_and_have_a_gap_if_it_is_not_all(
    make_state: MakeState,
    *,
    sent: list[tuple[tuple[str, ...], int]],
    requested: list[str | None],
    start: int,
    length: int,
    max_entries: int,
    max_bytes: int,
) -> None:
    state = await make_state(history_length=length)
    items = await append(state, *(message(*rooms, arguments=(f'"{"x" * size}"',)) for rooms, size in sent))
    after = items[start][0] if start < len(items) else START
    addresses = [at(room) for room in requested]

    read_back, gaps = await read_pages(state.broker, after, addresses, max_entries, max_bytes)

    log = [item for item in items if positions.order(item[0]) > positions.order(after)]
    due = [item for item in log if not set(addresses).isdisjoint(item[1].addresses)]
    assert read_back == due[len(due) - len(read_back) :]
    assert gaps == ({"history_trimmed"} if len(read_back) < len(due) else set())
    assert all(item in read_back for item in due if item in items[-length:])


async def read_pages(
    broker: Broker, after: Position, addresses: list[Address], max_entries: int, max_bytes: int
) -> tuple[list[Item], set[str]]:
    """Read everything page by page; check each page against its bounds."""
    found: list[Item] = []
    gaps: set[str] = set()
    more = True
    while more:
        page = await broker.history(after, addresses, max_entries=max_entries, max_bytes=max_bytes)
        assert len(page.entries) <= max_entries
        assert len(page.entries) <= 1 or sum(json_bytes(entry) for _, entry in page.entries) <= max_bytes
        assert page.entries or not page.has_more
        found += page.entries
        if page.gap is not None:
            gaps.add(page.gap)
        after, more = page.last_position, page.has_more
    assert after == await newest_position(broker)
    return found, gaps


async def test_attachments_are_in_the_history_and_count_towards_the_size_of_a_page(
    state: StateUnderTest,
) -> None:
    attachments = ("", "AAE=", "A" * 1000, "")
    items = await append(state, *[message("a")._replace(attachments=attachments) for _ in range(3)])

    page = await read(state.broker, START, at("a"))
    small = await state.broker.history(START, (at("a"),), max_entries=100, max_bytes=1500)

    assert list(page.entries) == items
    assert list(small.entries) == items[: len(small.entries)]
    assert (len(small.entries) < 3, small.has_more) == (True, True)
