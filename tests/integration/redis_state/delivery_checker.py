"""Checks of delivery: each accepted message is received by every client of its room, or the client is notified.

``Client`` is what a connection is for the state: a subscription at one replica while it is connected, a parked session
while it is not, and a read of the history when it resumes.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.domain import positions
from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, RecoveryFailed
from gateway.domain.messages import Message, new_id
from gateway.domain.positions import Position
from gateway.domain.sessions import RecoverySession
from tests.contract.values import at
from tests.integration.redis_state.replicas import Replica, make


class Accepted(NamedTuple):
    """A message that Redis accepted."""

    message: Message
    position: Position

    @property
    def at(self) -> float:
        """When Redis accepted it, which is earlier than its pusher knows: a wall-clock time."""
        return positions.milliseconds(self.position) / 1000


@dataclass
class Client:
    """A client of one room, and of everyone in the namespace."""

    room: str
    received: set[str] = field(default_factory=set)
    notified_at: list[float] = field(default_factory=list)
    """When it was notified that messages may be missing; of a new connection, when that began. Wall-clock times, as the
    positions of messages are."""
    began_at: float = 0.0
    attached_at: float = 0.0
    """Since when it gets what its replica reports."""
    _began_after: Position = positions.START
    _replica: Replica | None = None
    _first: int = 0
    _pid: str = field(default_factory=new_id)
    _owner: str = "0"
    _offset: Position | None = None

    async def connect(self, replica: Replica) -> None:
        """Begin a new session at a replica."""
        self._replica, self._first = replica, len(replica.listener.received)
        self._pid = new_id()
        self.began_at = self.attached_at = time.time()
        position = await replica.state.broker.subscribe([at(None), at(self.room)])
        self._owner = new_id()
        self._offset = self._began_after = position
        rooms = frozenset({self.room})
        session = RecoverySession(self._pid, self._pid, "u", "/", self._owner, rooms, position)
        await replica.state.sessions.save(session)

    async def leave(self) -> None:
        """Lose the connection. The session is parked."""
        replica = self._replica
        assert replica is not None
        self._collect()
        self._replica = None
        await replica.state.sessions.park(self._pid, owner=self._owner)

    async def resume(self, replica: Replica) -> str | None:
        """Resume at a replica, or begin anew; return the code of the failure."""
        self._owner, self.attached_at = new_id(), time.time()
        try:
            await replica.state.sessions.resume(self._pid, user="u", namespace="/", owner=self._owner)
            first = len(replica.listener.received)
            await replica.state.broker.subscribe([at(None), at(self.room)])
            await self._read_history(replica)
        except RecoveryFailed as failure:
            self.notified_at.append(time.time())
            await self.connect(replica)
            return failure.code
        self._replica, self._first = replica, first
        return None

    async def _read_history(self, replica: Replica) -> None:
        assert self._offset is not None
        more = True
        while more:
            page = await replica.state.broker.history(
                self._offset, [at(None), at(self.room)], max_entries=100, max_bytes=1_000_000
            )
            if page.gap is not None:
                raise RecoveryFailed(page.gap)
            self.received |= {entry.id for _, entry in page.entries}
            self._offset, more = page.last_position, page.has_more

    def _collect(self) -> None:
        replica = self._replica
        if replica is None:
            return
        for position, entry in replica.listener.received[self._first :]:
            if at(None) in entry.addresses or at(self.room) in entry.addresses:
                self.received.add(entry.id)
                self._offset = position
        self._first = len(replica.listener.received)
        self.notified_at += [moment for moment in replica.notified_at if moment >= self.attached_at]

    def untold(self, accepted: list[Accepted]) -> list[str]:
        """Return the ids of the messages, accepted since it began, that it neither received nor was notified of."""
        self._collect()
        last = max(self.notified_at, default=0.0)
        return [
            each.message.id
            for each in accepted
            if (not each.message.rooms or self.room in each.message.rooms)
            and each.at > self.began_at
            and positions.is_after(each.position, self._began_after)
            and each.message.id not in self.received
            and each.at > last
        ]


class Pusher:
    """Appends messages through a replica until it is cancelled; keeps those that were accepted."""

    def __init__(self, replica: Replica, *rooms: str, pause_seconds: float = 0.005) -> None:
        self._replica = replica
        self._rooms = rooms
        self._pause_seconds = pause_seconds
        self.accepted: list[Accepted] = []
        self.unknown: list[Message] = []

    async def run(self) -> None:
        number = 0
        while True:
            news = make(self._rooms[number % len(self._rooms)])
            number += 1
            try:
                result = await self._replica.state.broker.append(news)
            except BrokerTimeout:
                self.unknown.append(news)
            except BrokerUnavailable:
                pass
            else:
                self.accepted.append(Accepted(news, result.position))
            await asyncio.sleep(self._pause_seconds)


def dedup_key(idempotency_key: str, number: int) -> DedupKey:
    """Return the dedup key of one request of several with the same idempotency key and body."""
    return DedupKey(
        "backend",
        f"nonce-{idempotency_key}-{number}",
        time.time() + 360,
        idempotency_key,
        "scope",
        "body",
        None,
    )
