"""What is needed to resume a connection elsewhere, and what a client asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from gateway.domain import positions
from gateway.domain.positions import Position


@dataclass(frozen=True, slots=True)
class RecoverySession:
    """A connection that may come back, to any replica.

    ``pid`` is the secret that the client resumes with. ``owner`` names the connection that has it now, and no
    other ever; who is no longer the owner changes nothing. ``rooms`` are those it is in, and ``entered`` says of which
    it entered after ``first_position``, and where: what went to a room before that is none of its business.
    """

    pid: str
    sid: str
    user: str
    namespace: str
    owner: str
    rooms: frozenset[str]
    first_position: Position
    joined_at: Mapping[str, Position] = field(default_factory=dict, hash=False)

    def visible_from(self, room: str | None) -> Position:
        """From where on it gets what goes to a room that it is in; None is everyone."""
        return self.first_position if room is None else self.joined_at.get(room, self.first_position)

    def with_rooms(self, rooms: Collection[str], at: Position) -> RecoverySession:
        """The same in other rooms: those it was in before keep where they were entered, the others are entered now."""
        entered = {
            room: self.joined_at.get(room, at) if room in self.rooms else at
            for room in rooms
            if room not in self.rooms or room in self.joined_at
        }
        return replace(self, rooms=frozenset(rooms), joined_at=entered)

    def replay_start(self, offset: Position | None) -> Position:
        """Where a client goes on that says so: never before the beginning."""
        if offset is None or not positions.is_after(offset, self.first_position):
            return self.first_position
        return offset


@dataclass(frozen=True, slots=True)
class ResumedSession:
    """A session as it was. ``in_use``: its former owner may not know yet that it has lost it."""

    session: RecoverySession
    in_use: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveryRequest:
    """What a client asks for when it connects, as it wrote it; ``owner`` names this attempt (``Session.owner``).

    ``pid`` and ``offset`` are what the stock client sends by itself. ``resume`` is a position that an application kept.
    """

    owner: str
    pid: object = None
    offset: object = None
    resume: object = None
    is_declined: bool = False
