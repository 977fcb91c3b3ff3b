"""How far a replica has read in the stream, and what it must not deliver twice. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from gateway.domain import positions
from gateway.domain.positions import Position

_RECENT_IDS: Final = 4096
_RECENT_POSITIONS: Final = 64
_OLDER_POSITIONS: Final = 64
"""Each stands for _RECENT_POSITIONS older ones."""


class Cursor:
    """The newest position that was read, and the generation of the log to which it belongs.

    Positions rise while one connection to one primary lasts, so an entry that is not beyond the newest position was
    delivered. Another primary, which lost the first position of an entry, may assign it another one; ids detect that.
    Positions from the log are confirmed; those of frames on channels are not, because any user of Redis may publish.
    """

    def __init__(self) -> None:
        self.generation = ""
        self.newest: Position = positions.START
        self.confirmed: Position = positions.START
        """The last position that came from the log. Frames do not change it."""
        self._order = positions.order(positions.START)
        self._recent: deque[Position] = deque()
        self._older: deque[Position] = deque(maxlen=_OLDER_POSITIONS)
        self._passed = 0
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __str__(self) -> str:
        """Return the generation and the newest position with a blank between; empty before the first position."""
        return (
            f"{self.generation} {self.newest}" if self.generation and self.newest != positions.START else ""
        )

    def begin(self, generation: str, newest: Position) -> None:
        """Begin at a position of a generation of the log, and drop the positions of other generations."""
        self.generation = generation
        self.move_to(newest)
        self._recent.clear()
        self._older.clear()

    def move_to(self, position: Position) -> None:
        """Move to a position that the log gave, forward or back."""
        self.confirmed = position
        if self.newest != position:
            self._pass()
            self.newest, self._order = position, positions.order(position)

    def advance(self, position: Position) -> bool:
        """Move to the position of a frame if it is beyond the newest. Return whether it was."""
        order = positions.order(position)
        if order <= self._order:
            return False
        self._pass()
        self.newest, self._order = position, order
        return True

    def _pass(self) -> None:
        self._recent.append(self.newest)
        if len(self._recent) > _RECENT_POSITIONS:
            passed = self._recent.popleft()
            self._passed += 1
            if self._passed % _RECENT_POSITIONS == 0:
                self._older.append(passed)

    def is_beyond(self, position: Position) -> bool:
        """Return whether a position is after the newest one that was read."""
        return positions.order(position) > self._order

    def contradicts(self, position: Position) -> bool:
        """Return whether frames were read beyond the end of the log that a probe reports.

        A probe that was sent before the log was read contradicts nothing: it may report an earlier end.
        """
        return self.newest != self.confirmed and positions.order(position) < self._order

    def first_seen(self, id_: str) -> bool:
        """Return whether an id is new, and remember it."""
        if id_ in self._ids:
            return False
        self._ids[id_] = None
        if len(self._ids) > _RECENT_IDS:
            self._ids.popitem(last=False)
        return True

    def checkpoints(self) -> list[Position]:
        """Return positions to look for in the log, newest first: older ones serve if Redis has lost newer ones."""
        return [self.newest, *reversed(self._recent), *reversed(self._older)]

    @property
    def contiguous(self) -> int:
        """The number of checkpoints, from the newest, between which nothing was delivered."""
        return 1 + len(self._recent)
