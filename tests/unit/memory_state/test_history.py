"""History: its exact bounds, gaps and costs."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.positions import START, Position, order
from gateway.state.memory.history import ENTRY_BYTES, INDEX_BYTES, Record, RoomIndex
from tests.contract.values import at, disconnect_command, message, session_takeover


async def read(state, *addresses, after=START):
    return await state.broker.history(after, addresses, max_entries=1_000, max_bytes=1_000_000)


async def test_history_holds_exactly_its_length(make_memory) -> None:
    state = make_memory(history_length=5)
    for _ in range(12):
        await state.broker.append(message("a"))

    assert state.sizes()["history_entries"] == 5
    assert len((await read(state, at("a"))).entries) == 5


async def test_history_holds_no_more_than_its_bytes_including_names(make_memory) -> None:
    state = make_memory(history_bytes=4_000)
    for _ in range(30):
        await state.broker.append(
            message("a" * 150, arguments=('"' + "ä" * 49 + '"',), exclude=frozenset({"b" * 46}))
        )

    # An entry: 150 of the room, 46 of the exclusion, 4 of the event "news", 100 of the argument, and itself.
    assert state.sizes()["history_bytes"] == 3 * (300 + ENTRY_BYTES) + INDEX_BYTES
    assert state.sizes()["history_entries"] == 3


async def test_session_takeover_counts_with_its_sid_and_owner(make_memory) -> None:
    state = make_memory(history_bytes=4_000)
    for _ in range(30):
        await state.broker.append(session_takeover("s" * 150, owner="o" * 150))

    assert state.sizes()["history_bytes"] == 3 * (300 + ENTRY_BYTES) + INDEX_BYTES
    assert state.sizes()["history_entries"] == 3
    assert len((await read(state, at("s" * 150))).entries) == 3


async def test_entry_larger_than_all_bytes_is_a_gap_and_not_a_failure(make_memory) -> None:
    state = make_memory(history_bytes=1_000)
    await state.broker.append(message("a", arguments=(f'"{"x" * 2_000}"',)))

    page = await read(state, at("a"))

    assert (page.entries, page.gap) == ((), "history_trimmed")


async def test_positions_since_the_exact_start_of_the_stream_are_known(make_memory, clock) -> None:
    state = make_memory()
    began = Position(f"{int(clock.wall * 1000)}-0")
    clock.advance(10)
    newest = (await state.broker.append(message("a"))).position
    first, sequence = order(began)

    assert (await read(state, at("a"), after=began)).gap is None
    assert (await read(state, at("a"), after=newest)).gap is None
    assert (await read(state, at("a"), after=Position(f"{first - 1}-9"))).gap == "data_lost"
    assert (await read(state, at("a"), after=Position(f"{first + 10_000}-{sequence + 1}"))).gap == "data_lost"


async def test_old_entries_are_dropped_as_others_are_added_and_leave_nothing_behind(
    make_memory, clock
) -> None:
    state = make_memory(recovery_seconds=100, history_slack_seconds=50)
    for number in range(100):
        await state.broker.append(message(f"room {number}"))
    await state.broker.append(disconnect_command("ann", at=1.0))
    clock.advance(151)
    for _ in range(10):
        await state.broker.append(message("a"))

    sizes = state.sizes()
    assert (sizes["history_entries"], sizes["history_addresses"], sizes["trim_markers"]) == (10, 1, 0)


async def test_entry_dropped_by_age_leaves_no_gap_however_many_rooms_it_had(make_memory, clock) -> None:
    state = make_memory(recovery_seconds=100, history_slack_seconds=50)
    await state.broker.append(message(*(f"room {number}" for number in range(100))))
    clock.advance(151)

    await state.broker.append(message("a"))

    assert state.sizes()["trim_markers"] == 0


async def test_trim_markers_are_removed_as_entries_are_added(make_memory, clock) -> None:
    state = make_memory(history_length=1, recovery_seconds=100, history_slack_seconds=50)
    for number in range(20):
        await state.broker.append(message(f"room {number}"))
    assert state.sizes()["trim_markers"] == 19
    clock.advance(151)

    await state.broker.append(message("a"))

    assert state.sizes()["trim_markers"] == 0


async def test_trim_marker_beyond_the_limit_counts_for_all_addresses_and_expires_too(
    make_memory, clock
) -> None:
    state = make_memory(history_length=1, trim_markers=3, recovery_seconds=100, history_slack_seconds=50)
    positions = [(await state.broker.append(message(f"room {number}"))).position for number in range(10)]

    assert state.sizes()["trim_markers"] == 3
    # Rooms 0 to 8 were trimmed; 6, 7 and 8 have markers of their own, and one marker counts for those before.
    assert (await read(state, at("untouched"), after=positions[4])).gap == "history_trimmed"
    assert (await read(state, at("untouched"), after=positions[5])).gap is None
    assert (await read(state, at("room 8"), after=positions[7])).gap == "history_trimmed"
    assert (await read(state, at("room 8"), after=positions[8])).gap is None
    clock.advance(151)
    assert (await read(state, at("untouched"), after=START)).gap is None


async def test_publish_results_are_bounded_in_number_and_time(make_memory, clock) -> None:
    state = make_memory(history_length=0, recovery_seconds=0)
    for _ in range(1_500):
        await state.broker.append(message("a"))
    assert state.sizes()["publish_results"] == 1_000
    clock.advance(61)

    for _ in range(100):
        await state.broker.append(message("a"))

    assert state.sizes()["publish_results"] == 100


async def test_reading_costs_what_is_read_and_not_what_is_held(make_memory, monkeypatch) -> None:
    state = make_memory(history_length=5_000, history_bytes=10_000_000)
    for number in range(5_000):
        await state.broker.append(message("loud" if number % 1_000 else "quiet"))
    read_records: Counter[str] = Counter()
    read_all = RoomIndex.newer_than

    def counted(self: RoomIndex, order):
        for record in read_all(self, order):
            read_records["records"] += 1
            yield record

    monkeypatch.setattr(RoomIndex, "newer_than", counted)
    await read(state, at("quiet"), at(None))
    assert read_records["records"] == 5

    await state.broker.history(START, [at("loud")], max_entries=10, max_bytes=1_000_000)
    assert read_records["records"] <= 5 + 12


@given(st.lists(st.sampled_from(["add", "drop", "seek"]), max_size=300))
def test_room_index_behaves_like_a_list_whose_front_is_dropped(steps: list[str]) -> None:
    index = RoomIndex()
    model: list[Record] = []
    for number, step in enumerate(steps):
        if step == "drop" and model:
            index.drop_oldest()
            model.pop(0)
        elif step == "seek":
            middle = (number // 2, 0)
            assert list(index.newer_than(middle)) == [record for record in model if record.order > middle]
        else:
            record = Record((number, 0), START, message("a"), (), 0, 0, 0.0)
            index.add(record)
            model.append(record)
        assert bool(index) == bool(model)
    assert list(index.newer_than((-1, 0))) == model


async def test_trim_markers_take_no_more_than_a_quarter_of_the_bytes(make_memory) -> None:
    state = make_memory(history_bytes=40_000)
    start = (await state.broker.append(message("first"))).position
    for number in range(200):
        await state.broker.append(message(f"{number} {'x' * 280}"))

    assert state.sizes()["history_bytes"] <= 40_000
    assert 5 < state.sizes()["trim_markers"] <= 10_000 / 600
    page = await state.broker.history(start, [at("any room")], max_entries=10, max_bytes=1_000)
    assert page.gap == "history_trimmed"
