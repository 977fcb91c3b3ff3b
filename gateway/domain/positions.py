"""Positions: where an entry is in the stream of all entries.

Outside this module and the Redis state a position is an opaque string: code keeps it, compares it for equality and
returns it, and never takes it apart. Here it is ``<milliseconds since 1970>-<sequence>``, the form of a Redis stream
id, ordered by time first.
"""

from __future__ import annotations

import re
from typing import Final, NewType

from gateway.domain.errors import MalformedPosition

Position = NewType("Position", str)

START: Final = Position("0-0")
"""Before every entry."""
END: Final = Position("9999999999999999-0")
"""After every entry: where a session begins whose position is not known yet."""

_FORM: Final = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})", re.ASCII)


def parse(text: object) -> Position:
    """Return the position that ``text`` is.

    Raises: MalformedPosition for anything that is not the text of a position.
    """
    if not isinstance(text, str) or not _FORM.fullmatch(text):
        raise MalformedPosition("not a position that this gateway handed out")
    return Position(text)


def order(position: Position) -> tuple[int, int]:
    """Return a key that sorts positions from old to new."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence)


def is_after(position: Position, other: Position) -> bool:
    """Whether ``position`` is newer than ``other``."""
    return order(position) > order(other)


def milliseconds(position: Position) -> int:
    """Return the wall-clock time of a position, in milliseconds since 1970."""
    return order(position)[0]


def at_time(seconds: float) -> Position:
    """Return the position of the first entry that could be accepted at a time, in seconds since 1970."""
    return position_at((max(0, int(seconds * 1000)), 0))


def position_at(order: tuple[int, int]) -> Position:
    """Return the position with this sort key."""
    return Position(f"{order[0]}-{order[1]}")


def next_position(last: tuple[int, int], now_milliseconds: int) -> tuple[int, int]:
    """Return the sort key of the next position: now, or just after ``last`` if the clock stood still or went back."""
    last_milliseconds, sequence = last
    if now_milliseconds > last_milliseconds:
        return now_milliseconds, 0
    return last_milliseconds, sequence + 1
