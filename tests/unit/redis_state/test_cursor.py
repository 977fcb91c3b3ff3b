"""How far a replica has read, and what it must not deliver twice."""

from __future__ import annotations

from gateway.domain.positions import Position
from gateway.state.redis.cursor import Cursor


def at(number: int) -> Position:
    return Position(f"1700000000000-{number}")


def test_frames_move_the_cursor_forward_only() -> None:
    seen = Cursor()

    assert [seen.advance(at(number)) for number in (1, 2, 2, 1, 9)] == [True, True, False, False, True]
    assert seen.newest == at(9)


def test_id_is_new_once() -> None:
    seen = Cursor()

    assert [seen.first_seen(each) for each in ("a", "b", "a")] == [True, True, False]


def test_checkpoints_begin_with_the_newest_and_are_bounded() -> None:
    seen = Cursor()
    for number in range(1000):
        seen.advance(at(number))

    places = seen.checkpoints()

    assert places[:3] == [at(999), at(998), at(997)]
    assert len(places) < 100


def test_probe_sent_before_the_log_was_read_contradicts_nothing() -> None:
    seen = Cursor()
    seen.advance(at(3))
    seen.move_to(at(9))

    assert not seen.contradicts(at(3))


def test_frame_beyond_the_end_of_the_log_is_contradicted() -> None:
    seen = Cursor()
    seen.advance(at(999))

    assert seen.contradicts(at(3))
    assert not seen.contradicts(at(999))


def test_checkpoints_of_an_earlier_log_are_dropped() -> None:
    seen = Cursor()
    seen.advance(at(5))
    seen.begin("another", at(1))

    assert (seen.generation, seen.newest) == ("another", at(1))
    assert seen.checkpoints() == [at(1)]
