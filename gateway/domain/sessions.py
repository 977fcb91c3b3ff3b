"""Recovery sessions: what is needed to resume a connection on any replica, and what a client asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from gateway.domain import positions
from gateway.domain.messages import RoomChange
from gateway.domain.positions import Position

MAX_LEFT_ROOMS: Final = 32
"""Rooms that a session remembers after the connection left them; the earliest ones are forgotten first."""
VisibleRooms = Mapping[str, Position]
"""Rooms, each with the position after which its messages are for a user."""


def earliest(rooms: Iterable[VisibleRooms]) -> VisibleRooms:
    """Return all the rooms, each with its earliest position."""
    found: dict[str, Position] = {}
    for each in rooms:
        for room, position in each.items():
            if room not in found or positions.is_after(found[room], position):
                found[room] = position
    return found


class Stay(NamedTuple):
    """When a connection was in a room that it left: after one position, up to another one."""

    room: str
    after: Position
    upto: Position


@dataclass(frozen=True, slots=True)
class RecoverySession:
    """What is needed to resume a connection on any replica.

    ``pid`` is the secret that the client resumes with. ``owner`` names the connect attempt that owns the session: the
    one that created it, then the last one that resumed it. Each attempt has a name of its own, so a late write of a
    former owner is recognised and changes nothing. ``rooms`` are the rooms of the connection. ``joined_at`` has those
    that it joined after ``first_position``, each with the position at which it joined: older messages of that room are
    not for it. ``joined_rooms`` are those of the rooms that it joined by itself: no token granted them, so they stay
    when it is resumed with another token. ``changed_at`` is the position up to which every change of rooms by a backend
    has taken effect: it may have left such a room again since then. ``left`` are joined rooms that it left: a message
    that was accepted before may not have reached the client, or was not for it because of this room.
    """

    pid: str
    sid: str
    user: str
    namespace: str
    owner: str
    rooms: frozenset[str]
    first_position: Position
    joined_at: Mapping[str, Position] = field(default_factory=dict, hash=False)
    joined_rooms: frozenset[str] = frozenset()
    changed_at: Position | None = None
    left: tuple[Stay, ...] = ()

    def begun_at(self, position: Position) -> RecoverySession:
        """Return it with its first position. ``replace`` takes four times as long, twice for each connect."""
        return RecoverySession(
            self.pid,
            self.sid,
            self.user,
            self.namespace,
            self.owner,
            self.rooms,
            position,
            self.joined_at,
            self.joined_rooms,
            self.changed_at,
            self.left,
        )

    def visible_from(self, room: str | None) -> Position:
        """Return the position after which messages to a room are for this connection; room None is everyone."""
        return self.first_position if room is None else self.joined_at.get(room, self.first_position)

    def sees(self, room: str | None, position: Position) -> bool:
        """Whether a message to a room at a position is for this connection; room None is everyone."""
        if (room is None or room in self.rooms) and positions.is_after(position, self.visible_from(room)):
            return True
        return any(
            stay.room == room
            and positions.is_after(position, stay.after)
            and not positions.is_after(position, stay.upto)
            for stay in self.left
        )

    def rooms_since(self, position: Position) -> frozenset[str]:
        """Return the rooms that it is in, and those that it left after a position."""
        return self.rooms.union([stay.room for stay in self.left if positions.is_after(stay.upto, position)])

    @property
    def visible_rooms(self) -> VisibleRooms:
        """The rooms, each with the position after which its messages are for this connection."""
        return {room: self.visible_from(room) for room in self.rooms}

    def with_rooms(
        self,
        rooms: Collection[str],
        at: Position,
        *,
        joined: Collection[str] = (),
        changed_at: Position | None = None,
    ) -> RecoverySession:
        """Return the session with other rooms: those it had keep their position, new ones are joined ``at``.

        ``joined`` are those of the rooms that no token granted; ``changed_at`` is the position of the change of a
        backend.
        """
        joined_at = {
            room: self.joined_at.get(room, at) if room in self.rooms else at
            for room in rooms
            if room not in self.rooms or room in self.joined_at
        }
        return replace(
            self,
            rooms=frozenset(rooms),
            joined_at=joined_at,
            joined_rooms=frozenset(joined),
            left=self._left(self.joined_rooms.difference(rooms), at),
            changed_at=changed_at or self.changed_at,
        )

    def _left(self, rooms: Collection[str], at: Position) -> tuple[Stay, ...]:
        stays = [Stay(room, self.visible_from(room), at) for room in rooms]
        new = [stay for stay in stays if positions.is_after(stay.upto, stay.after)]
        return (*self.left, *new)[-MAX_LEFT_ROOMS:] if new else self.left

    def changed_by(self, change: RoomChange, at: Position) -> RecoverySession:
        """Return the session after a change of rooms at a position. The same change may be applied again.

        Of the rooms only those are left that no token granted, and that were not joined after the change.
        """
        if self.changed_at is not None and not positions.is_after(at, self.changed_at):
            return self
        if change.is_join:
            added = [room for room in change.changed if room not in self.rooms]
            rooms, joined = self.rooms.union(added), self.joined_rooms.union(added)
        else:
            left = [
                room
                for room in self.joined_rooms.intersection(change.changed)
                if positions.is_after(at, self.visible_from(room))
            ]
            rooms, joined = self.rooms.difference(left), self.joined_rooms.difference(left)
        return self.with_rooms(rooms, at, joined=joined, changed_at=at)

    def began_at(self, position: Position, visible: VisibleRooms) -> RecoverySession:
        """Return the session as if it had begun at an earlier position, and joined its rooms when ``visible`` says."""
        later = {
            room: at
            for room, at in visible.items()
            if room in self.rooms and positions.is_after(at, position)
        }
        return replace(self, first_position=position, joined_at=later, changed_at=self.first_position)

    def replay_start(self, offset: Position | None) -> Position:
        """Return the position to replay from: the offset of the client, but never before ``first_position``."""
        if offset is None or not positions.is_after(offset, self.first_position):
            return self.first_position
        return offset


@dataclass(frozen=True, slots=True)
class ResumedSession:
    """A session as it was before it was resumed. ``in_use``: its former owner may not know yet that it lost it."""

    session: RecoverySession
    in_use: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveryRequest:
    """What a client asks for when it connects, unchecked.

    ``owner`` is made by the gateway and names this connect attempt; a session that is created or resumed for it gets
    this owner (``RecoverySession.owner``). ``pid`` and ``offset`` are what the stock client sends by itself. ``resume``
    is a position that the application kept. ``is_declined``: the client does not want to be resumable.
    """

    owner: str
    pid: object = None
    offset: object = None
    resume: object = None
    is_declined: bool = False
