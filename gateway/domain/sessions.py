"""What is needed to resume a connection elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.positions import Position


@dataclass(frozen=True, slots=True)
class Session:
    """A connection that may come back, to any replica.

    ``pid`` is the secret that the client resumes with. ``owner`` names the replica and transport that serve it now;
    who is no longer the owner changes nothing. ``rooms`` are its own rooms, those from claims left out.
    """

    pid: str
    sid: str
    user: str
    namespace: str
    owner: str
    rooms: frozenset[str]
    first_position: Position
