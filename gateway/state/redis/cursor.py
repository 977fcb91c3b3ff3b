"""How far a replica has got in the stream, and what it must not hand over again. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from gateway.domain import positions
from gateway.domain.positions import Position

_RECENT_IDS: Final = 4096
_RECENT_POSITIONS: Final = 64
_OLDER_POSITIONS: Final = 64
"""One of each _RECENT_POSITIONS."""


class Cursor:
    """The place of the last entry, in the generation of the log that it belongs to.

    Positions rise as long as one connection to one primary lasts, so what is not beyond the newest was seen. Another
    primary may give the same entry another position, because it lost the first: that is told by the id. What the log
    said is certain; what a frame on a channel said may have been put there by anybody.
    """

    def __init__(self) -> None:
        self.generation = ""
        self.newest: Position = positions.START
        self.confirmed: Position = positions.START
        """The last that the log said, which no frame displaces."""
        self._order = positions.order(positions.START)
        self._recent: deque[Position] = deque()
        self._older: deque[Position] = deque(maxlen=_OLDER_POSITIONS)
        self._passed = 0
        self._ids: OrderedDict[str, None] = OrderedDict()

    def begin(self, generation: str, newest: Position) -> None:
        """Everything up to there was seen; nothing of an earlier log counts any more."""
        self.generation = generation
        self.move_to(newest)
        self._recent.clear()
        self._older.clear()

    def move_to(self, position: Position) -> None:
        """This far, also backwards; the log says so."""
        self.confirmed = position
        if self.newest != position:
            self._pass()
            self.newest, self._order = position, positions.order(position)

    def advance(self, position: Position) -> bool:
        """Move to the position of a frame if it comes after everything seen; answers whether it does."""
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
        """Whether that comes after everything seen."""
        return positions.order(position) > self._order

    def contradicts(self, position: Position) -> bool:
        """Whether more was seen than the log held just now, by what a canary says. One that was sent before the log was
        read may say less than that."""
        return self.newest != self.confirmed and positions.order(position) < self._order

    def first_seen(self, id_: str) -> bool:
        """Whether this entry is new; from now on it is not."""
        if id_ in self._ids:
            return False
        self._ids[id_] = None
        if len(self._ids) > _RECENT_IDS:
            self._ids.popitem(last=False)
        return True

    def checkpoints(self) -> list[Position]:
        """Where to look for in the log to go on: the newest, and some before it in case that one is lost."""
        return [self.newest, *reversed(self._recent), *reversed(self._older)]

    @property
    def contiguous(self) -> int:
        """How many of the places follow one another, so that nothing was handed over between them."""
        return 1 + len(self._recent)
