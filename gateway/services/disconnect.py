"""Remove connections and keep the shared state up to date with closed and upgraded ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address, SessionTakeover
from gateway.hub import Connection, ConnectionState, Hub
from gateway.interfaces import Broker, Presence, Sessions

Update = Callable[[], Awaitable[object]]

log = structlog.get_logger(__name__)


class Disconnector:
    """Removes connections from the hub at once; one task then updates the shared state, in the same order."""

    def __init__(self, *, hub: Hub, broker: Broker, presence: Presence, sessions: Sessions) -> None:
        self._hub = hub
        self._broker = broker
        self._presence = presence
        self._sessions = sessions
        self._updates: asyncio.Queue[Update] = asyncio.Queue()
        self._ending: set[str] = set()

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
        self._updates.put_nowait(
            lambda: self._record_disconnect(connection, unneeded, keeps_session=keeps_session)
        )

    def is_ending(self, pid: str) -> bool:
        """Whether a session is about to be deleted, and the shared state may still have it."""
        return pid in self._ending

    def queue_takeover(self, takeover: SessionTakeover) -> None:
        """Queue the append of a takeover: the replica that had the connection may still have it."""
        self._updates.put_nowait(lambda: self._broker.append(takeover))

    def on_transport_upgraded(self, connection: Connection) -> None:
        """Let the hub use the new transport of a connection, and queue the update of its presence."""
        connection.on_transport_changed()
        transport = connection.transport.name
        self._updates.put_nowait(lambda: self._presence.change_transport(connection.sid, transport))

    async def run(self) -> None:
        """Update the shared state, until cancelled."""
        while True:
            update = await self._updates.get()
            try:
                await update()
            except (BrokerUnavailable, BrokerTimeout) as error:
                log.warning("presence.update_failed", code=error.code)
            finally:
                self._updates.task_done()

    async def flush(self) -> None:
        """Wait until every update queued so far was made or has failed."""
        await self._updates.join()

    async def _record_disconnect(
        self, connection: Connection, unneeded: list[Address], *, keeps_session: bool
    ) -> None:
        # The state makes up for a failed step later; a failed step does not prevent the others.
        async with AsyncExitStack() as steps:
            steps.push_async_callback(self._end_session, connection, keeps_session=keeps_session)
            # If it was resumed here meanwhile, its sid is registered for the resumed connection.
            if connection.sid not in self._hub.connections:
                is_parked = keeps_session and connection.session is not None
                steps.push_async_callback(self._presence.unregister, connection.sid, is_parked=is_parked)
            # Rooms that other connections joined meanwhile stay subscribed.
            await self._broker.unsubscribe([address for address in unneeded if not self._hub.has(address)])

    async def _end_session(self, connection: Connection, *, keeps_session: bool) -> None:
        session = connection.session
        if session is not None:
            end = self._sessions.park if keeps_session else self._sessions.delete
            try:
                await end(session.pid, owner=session.owner)
            finally:
                self._ending.discard(session.pid)
