"""Recovery sessions: the position from which each room is replayed."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import positions
from gateway.domain.positions import START, Position
from gateway.domain.sessions import MAX_LEFT_ROOMS, RecoverySession

FIRST = Position("1000-5")
LATER = Position("1000-10")
LATEST = Position("2000-0")
SESSION = RecoverySession("pid", "s1", "ann", "/", "a/1", frozenset({"a", "b"}), FIRST)
ROOMS = st.frozensets(st.sampled_from("abcde"))


def test_new_session_sees_everything_since_its_first_position() -> None:
    assert [SESSION.visible_from(room) for room in ("a", "b", None)] == [FIRST, FIRST, FIRST]
    assert SESSION.joined_at == {}


def test_room_joined_later_is_visible_from_there() -> None:
    session = SESSION.with_rooms({"a", "b", "c"}, LATER)

    assert [session.visible_from(room) for room in ("a", "b", "c", None)] == [FIRST, FIRST, LATER, FIRST]
    assert (session.rooms, session.joined_at) == (frozenset({"a", "b", "c"}), {"c": LATER})


def test_session_with_other_rooms_is_a_copy_with_the_same_other_fields() -> None:
    session = SESSION.with_rooms({"c"}, LATER)

    assert replace(session, rooms=SESSION.rooms, joined_at=SESSION.joined_at) == SESSION
    assert (SESSION.rooms, SESSION.joined_at) == (frozenset({"a", "b"}), {})


def test_same_rooms_are_no_change() -> None:
    joined = SESSION.with_rooms({"a", "c"}, LATER)

    assert SESSION.with_rooms({"b", "a"}, LATEST) == SESSION
    assert joined.with_rooms({"a", "c"}, LATEST) == joined


def test_room_joined_later_keeps_its_position_while_other_rooms_change() -> None:
    session = SESSION.with_rooms({"a", "b", "c"}, LATER).with_rooms({"b", "c", "d"}, LATEST)

    assert [session.visible_from(room) for room in ("b", "c", "d")] == [FIRST, LATER, LATEST]


def test_messages_from_before_a_joined_room_was_left_are_seen_and_later_ones_not() -> None:
    joined = SESSION.with_rooms({"a", "b", "c"}, LATER, joined={"c"})
    left = joined.with_rooms({"a", "b"}, LATEST)
    again = left.with_rooms({"a", "b", "c"}, Position("3000-0"), joined={"c"})

    def seen(session: RecoverySession, room: str) -> list[bool]:
        return [
            session.sees(room, Position(at)) for at in ("1000-10", "1500-0", "2000-0", "2000-1", "3000-1")
        ]

    assert seen(left, "c") == [False, True, True, False, False]
    assert seen(again, "c") == [False, True, True, False, True]
    assert left.rooms_since(LATER) == {"a", "b", "c"}
    assert left.rooms_since(LATEST) == {"a", "b"}


def test_granted_room_that_a_token_no_longer_grants_is_not_seen() -> None:
    assert not SESSION.with_rooms({"b"}, LATEST).sees("a", LATER)


def test_number_of_rooms_that_were_left_is_bounded() -> None:
    session = SESSION
    for number in range(MAX_LEFT_ROOMS + 5):
        at = 10_000 * (number + 1)
        room = f"r{number}"
        joined = session.with_rooms({"a", "b", room}, Position(f"{at}-0"), joined={room})
        session = joined.with_rooms({"a", "b"}, Position(f"{at + 5_000}-0"))

    assert len(session.left) == MAX_LEFT_ROOMS
    assert session.left[-1].room == f"r{MAX_LEFT_ROOMS + 4}"


def test_room_that_was_left_and_joined_again_is_visible_from_the_second_join() -> None:
    without = SESSION.with_rooms({"a", "b", "c"}, LATER).with_rooms({"b"}, LATER)
    assert (without.rooms, without.joined_at) == (frozenset({"b"}), {})

    again = without.with_rooms({"a", "b", "c"}, LATEST)

    assert [again.visible_from(room) for room in ("a", "b", "c")] == [LATEST, FIRST, LATEST]


def test_replay_starts_at_the_offset_but_never_before_the_first_position() -> None:
    assert SESSION.replay_start(LATER) == LATER
    assert SESSION.replay_start(FIRST) == FIRST
    assert SESSION.replay_start(None) == FIRST
    for before in (START, Position("999-99"), Position("1000-4")):
        assert SESSION.replay_start(before) == FIRST


def test_positions_are_compared_as_numbers() -> None:
    session = replace(SESSION, first_position=Position("9-9"))

    assert session.replay_start(Position("9-10")) == "9-10"
    assert session.replay_start(Position("10-0")) == "10-0"


@given(
    first=ROOMS,
    changes=st.lists(st.tuples(ROOMS, st.integers(0, 3)), max_size=8),
)
def test_each_room_is_visible_from_when_it_was_last_joined(
    first: frozenset[str], changes: list[tuple[frozenset[str], int]]
) -> None:
    session = replace(SESSION, rooms=first)
    model = dict.fromkeys(first, FIRST)
    then = positions.order(FIRST)
    for rooms, passed in changes:
        then = (then[0] + passed, then[1])
        now = positions.position_at(then)
        session = session.with_rooms(rooms, now)
        model = {room: model.get(room, now) for room in rooms}

    assert {room: session.visible_from(room) for room in session.rooms} == model
    assert session.joined_at.keys() <= session.rooms
    assert session.visible_from(None) == FIRST
