"""How far a replica has read in the stream, from where it delivers, and what it must not deliver twice. No I/O."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from typing import Final

import structlog

from gateway.domain import positions
from gateway.domain.positions import Position

_RECENT_IDS: Final = 4096
_RECENT_POSITIONS: Final = 64
_MAX_FOREIGN: Final = 64
_OLDER_POSITIONS: Final = 64
"""Each stands for _RECENT_POSITIONS older ones."""

log = structlog.get_logger(__name__)


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

    def is_new(self, id_: str, position: Position, generation: str) -> bool:
        """Return whether an entry is of this log, beyond the newest position, and was not delivered at another one."""
        return generation == self.generation and self.is_beyond(position) and id_ not in self._ids

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


class WatchedChannels:
    """The channels whose entries are delivered, each with where it begins."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._since: dict[bytes, tuple[str, Position]] = {}
        """A generation of the log, and the last position there not to deliver."""
        self._provisional: set[bytes] = set()
        """Channels whose beginning is earlier than necessary, until ``set_start`` is called for them."""

    def __contains__(self, channel: bytes) -> bool:
        return channel in self._since

    def watch(self, channels: Collection[bytes]) -> None:
        """Deliver entries of these channels from now on."""
        for channel in channels:
            if channel not in self._since:
                self._since[channel] = (self._cursor.generation, self._cursor.newest)
                self._provisional.add(channel)

    def set_start(self, channels: Collection[bytes], generation: str, position: Position) -> None:
        """Set the position after which entries of these channels are delivered, where none is set yet.

        Of several concurrent callers the first sets it; its position serves those with later ones, too.
        """
        for channel in channels:
            if channel in self._provisional:
                self._provisional.discard(channel)
                self._since[channel] = (generation, position)

    def watch_from(self, channels: Collection[bytes]) -> bool:
        """Deliver entries of these channels after the newest position. Return whether all began there or earlier."""
        generation, newest = here = self._cursor.generation, self._cursor.newest
        begun = True
        for channel in channels:
            since, at = self._since.get(channel, ("", newest))
            if since != generation or channel in self._provisional or positions.is_after(at, newest):
                self._since[channel], begun = here, False
                self._provisional.discard(channel)
        return begun

    def unwatch(self, channels: Collection[bytes]) -> None:
        """Deliver no further entries of these channels."""
        for channel in channels:
            self._since.pop(channel, None)
            self._provisional.discard(channel)

    def has_wanted(self, channel: bytes, position: Position) -> bool:
        """Whether an entry of the present log at a position of a channel is to be delivered."""
        since = self._since.get(channel)
        if since is None:
            return False
        # For a channel that was watched since an earlier log, every entry of this one is wanted.
        return since[0] != self._cursor.generation or positions.is_after(position, since[1])


class ForeignLogs:
    """Generations of logs of other deployments, as frames on the channels of this one named them."""

    def __init__(self) -> None:
        self._generations: set[str] = set()

    def __contains__(self, generation: str) -> bool:
        return generation in self._generations

    def add(self, generation: str) -> None:
        """Remember a generation; the first one is logged."""
        if not self._generations:
            log.warning("redis.foreign_messages")
        if len(self._generations) >= _MAX_FOREIGN:
            self._generations.clear()
        self._generations.add(generation)
