"""Positions: parsing, order, the next one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import positions
from gateway.domain.errors import MalformedPosition
from gateway.domain.positions import START, Position

MILLISECONDS = st.integers(0, 10**13)


@pytest.mark.parametrize("text", ["0-0", "1700000000000-0", "1-9999999999999999"])
def test_position_is_milliseconds_and_a_sequence(text: str) -> None:
    assert positions.parse(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0-",
        "-0",
        "00-0",
        "0-01",
        "+1-0",
        "1-0 ",
        "1-0\n",
        "1_0-0",
        "1.0-0",
        "١-0",
        "1" * 17 + "-0",
        "1-0-0",
    ],
)
def test_other_text_is_malformed(text: str) -> None:
    with pytest.raises(MalformedPosition):
        positions.parse(text)


@pytest.mark.parametrize("value", [None, 1, 1.5, b"1-0", ["1-0"], {"1-0": 1}, True])
def test_value_that_is_not_text_is_malformed(value: object) -> None:
    with pytest.raises(MalformedPosition):
        positions.parse(value)


def test_positions_are_ordered_as_numbers_and_not_as_texts() -> None:
    written = [Position(text) for text in ("10-0", "9-10", "100-2", "9-9", "0-0", "2-0")]

    assert sorted(written, key=positions.order) == ["0-0", "2-0", "9-9", "9-10", "10-0", "100-2"]


def test_position_has_its_time() -> None:
    assert positions.milliseconds(Position("1700000000123-4")) == 1700000000123


def test_next_position_is_now() -> None:
    assert positions.next_position(positions.order(START), 1700000000000) == (1700000000000, 0)


@pytest.mark.parametrize("now", [1699999999999, 1700000000000])
def test_next_position_is_just_after_the_last_when_the_clock_stands_still_or_went_back(now: int) -> None:
    assert positions.next_position((1700000000000, 7), now) == (1700000000000, 8)


@given(clock=st.lists(MILLISECONDS, min_size=1, max_size=50))
def test_positions_rise_and_can_be_parsed_whatever_the_clock_does(clock: list[int]) -> None:
    last = positions.order(START)
    for now in clock:
        following = positions.next_position(last, now)
        position = positions.position_at(following)
        assert following > last
        assert positions.parse(position) == position
        assert positions.order(position) == following
        last = following
