"""Where something stands in the stream of all messages.

Outside this module and the Redis state a position is an opaque string: it is kept, compared for equality and handed
back, never taken apart. Here it is ``<milliseconds since 1970>-<sequence>``, the form of a Redis stream id, ordered
by time first.
"""

from __future__ import annotations

import re
from typing import Final, NewType

from gateway.domain.errors import MalformedPosition

Position = NewType("Position", str)

START: Final = Position("0-0")
"""Before every message."""

_FORM: Final = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})", re.ASCII)


def parse(text: object) -> Position:
    """The position written in ``text``; raises MalformedPosition for anything else."""
    if not isinstance(text, str) or not _FORM.fullmatch(text):
        raise MalformedPosition("not a position that this gateway handed out")
    return Position(text)


def order(position: Position) -> tuple[int, int]:
    """A key that sorts positions from old to new."""
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence)


def is_after(position: Position, other: Position) -> bool:
    """Whether it is the newer one."""
    return order(position) > order(other)


def milliseconds(position: Position) -> int:
    """The wall-clock time of a position, in milliseconds since 1970."""
    return order(position)[0]


def position_at(order: tuple[int, int]) -> Position:
    """The position that sorts there."""
    return Position(f"{order[0]}-{order[1]}")


def next_position(last: tuple[int, int], now_milliseconds: int) -> tuple[int, int]:
    """Where the next position stands: at the time, or just after ``last`` where the clock stands still or went back."""
    then, sequence = last
    return (now_milliseconds, 0) if now_milliseconds > then else (then, sequence + 1)
