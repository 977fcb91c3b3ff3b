"""Remove connections and keep the shared state up to date with closed and upgraded ones."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final, NamedTuple

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address, SessionTakeover
from gateway.domain.presence import ClosedConnection
from gateway.hub import Connection, ConnectionState, Hub
from gateway.interfaces import Broker, Clock, Disconnects, Presence
from gateway.metrics import MetricFactory

MAX_WAITING: Final = 10_000
"""With so many updates that wait, new connections are rejected until fewer do."""
_BATCH: Final = 50
"""Updates that one worker makes at once, so that the shared state does not work for long on one request."""
_WORKERS: Final = 8
"""Batches under way at once, so that a long round trip limits the rate less."""

log = structlog.get_logger(__name__)


class _Closed(NamedTuple):
    """A connection that was removed from the hub, and the addresses that no other connection had then."""

    connection: Connection
    unneeded: list[Address]
    keeps_session: bool


_Update = _Closed | Callable[[], Awaitable[object]]


class Disconnector:
    """Removes connections from the hub at once; few tasks then update the shared state, many connections at once.

    Updates are begun in the order in which they were queued. A client that connects and leaves in a loop makes no queue
    that grows: a user of whom ``max_connections_per_user`` disconnects wait connects later, and so does everyone while
    MAX_WAITING updates wait (``check_waiting``).
    """

    def __init__(
        self,
        *,
        hub: Hub,
        broker: Broker,
        presence: Presence,
        disconnects: Disconnects,
        clock: Clock,
        max_connections_per_user: int | None,
        metrics: MetricFactory,
    ) -> None:
        self._hub = hub
        self._broker = broker
        self._presence = presence
        self._disconnects = disconnects
        self._clock = clock
        self._max_of_user = max_connections_per_user
        self._updates: asyncio.Queue[_Update] = asyncio.Queue()
        self._queued_at: deque[float] = deque()
        self._begun_at: dict[int, float] = {}
        """When the oldest update was queued that each worker is making."""
        self._waiting = 0
        self._of_user: Counter[str] = Counter()
        self._ending: set[str] = set()
        metrics.callback_gauge(
            "presence_updates_waiting",
            "Closed and upgraded connections that the shared state does not know of yet.",
            read=lambda: self._waiting,
        )
        metrics.callback_gauge(
            "presence_updates_oldest_age_seconds",
            "For how long the oldest of them has been waiting.",
            read=self._oldest_age_seconds,
        )

    @property
    def waiting(self) -> int:
        """The number of updates that are not made yet."""
        return self._waiting

    def check_waiting(self, user: str) -> None:
        """Reject a connect attempt while too many updates wait, of the user or of all.

        Raises: BrokerUnavailable.
        """
        if self._waiting >= MAX_WAITING:
            raise BrokerUnavailable("the shared state is too far behind with closed connections")
        if self._max_of_user is not None and self._of_user[user] >= self._max_of_user:
            raise BrokerUnavailable("too many closed connections of this user still count")

    def disconnect(self, connection: Connection, *, keeps_session: bool = True) -> None:
        """Remove a connection from the hub, and queue the update of the shared state. Idempotent.

        Unless ``keeps_session`` its session is deleted, so that it cannot be resumed.
        """
        if connection.state is ConnectionState.CLOSED:
            return
        connection.close()
        if connection.expiry is not None:
            connection.expiry.cancel()
        unneeded = self._hub.remove(connection)
        if connection.session is not None and not keeps_session:
            self._ending.add(connection.session.pid)
        self._of_user[connection.user] += 1
        self._queue(_Closed(connection, unneeded, keeps_session))

    def is_ending(self, pid: str) -> bool:
        """Whether a session is about to be deleted, and the shared state may still have it."""
        return pid in self._ending

    def queue_takeover(self, takeover: SessionTakeover) -> None:
        """Queue the append of a takeover: the replica that had the connection may still have it."""
        self._queue(lambda: self._broker.append(takeover))

    def on_transport_upgraded(self, connection: Connection) -> None:
        """Let the hub use the new transport of a connection, and queue the update of its presence."""
        connection.on_transport_changed()
        transport = connection.transport.name
        self._queue(lambda: self._presence.change_transport(connection.sid, transport))

    async def run(self) -> None:
        """Update the shared state, until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for number in range(_WORKERS):
                workers.create_task(self._work(number), name=f"presence updates {number}")

    async def flush(self) -> None:
        """Wait until every update queued so far was made or has failed."""
        await self._updates.join()

    def _queue(self, update: _Update) -> None:
        self._waiting += 1
        self._queued_at.append(self._clock.monotonic())
        self._updates.put_nowait(update)

    def _oldest_age_seconds(self) -> float:
        since = [*self._begun_at.values(), *(at for at in islice(self._queued_at, 1))]
        return self._clock.monotonic() - min(since) if since else 0.0

    async def _work(self, number: int) -> None:
        while True:
            batch = [await self._updates.get()]
            while len(batch) < _BATCH and not self._updates.empty():
                batch.append(self._updates.get_nowait())
            self._begun_at[number], *_ = [self._queued_at.popleft() for _ in batch]
            try:
                await self._make(batch)
            finally:
                del self._begun_at[number]
                self._waiting -= len(batch)
                for _ in batch:
                    self._updates.task_done()

    async def _make(self, updates: Sequence[_Update]) -> None:
        closed = [update for update in updates if isinstance(update, _Closed)]
        others = [update() for update in updates if not isinstance(update, _Closed)]
        # The tasks begin in this order, and so do the requests to the shared state.
        outcomes = await asyncio.gather(*others, self._record(closed), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BrokerUnavailable | BrokerTimeout):
                log.warning("presence.update_failed", code=outcome.code)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def _record(self, closed: Sequence[_Closed]) -> None:
        if not closed:
            return
        try:
            # The state makes up for it later if it fails.
            await self._disconnects.record([self._closed_connection(each) for each in closed])
        finally:
            # Until now entries name this replica as one to reply to them. Rooms that other connections joined
            # meanwhile stay subscribed.
            unneeded = {address for each in closed for address in each.unneeded}
            await self._broker.unsubscribe([each for each in unneeded if not self._hub.has(each)])
            for connection, _, _ in closed:
                self._of_user[connection.user] -= 1
                if not self._of_user[connection.user]:
                    del self._of_user[connection.user]
                if connection.session is not None:
                    self._ending.discard(connection.session.pid)

    def _closed_connection(self, closed: _Closed) -> ClosedConnection:
        connection, _, keeps_session = closed
        session = connection.session
        return ClosedConnection(
            connection.sid,
            connection.user,
            pid="" if session is None else session.pid,
            owner="" if session is None else session.owner,
            is_parked=keeps_session and session is not None,
            # If it was resumed here meanwhile, its sid is registered for the resumed connection.
            keeps_sid=connection.sid in self._hub.connections,
        )
