"""What became of a connection: it left, or it changed its carrier."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address, SessionTakeover
from gateway.hub import Connection, ConnectionState, Hub
from gateway.interfaces import Broker, Presence, Sessions

log = structlog.get_logger(__name__)

Update = Callable[[], Awaitable[object]]


class Disconnector:
    """Takes connections out of the hub at once, and tells the shared state by one task, in the order it happened."""

    def __init__(self, *, hub: Hub, broker: Broker, presence: Presence, sessions: Sessions) -> None:
        self._hub = hub
        self._broker = broker
        self._presence = presence
        self._sessions = sessions
        self._updates: asyncio.Queue[Update] = asyncio.Queue()
        self._ending: set[str] = set()

    def disconnect(self, connection: Connection, *, keeps_session: bool = True) -> None:
        """It is gone: nothing more is delivered to it, the rest of the world hears soon. Idempotent.

        Unless ``keeps_session`` it is gone for good, and cannot be resumed.
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
            lambda: self._report_disconnect(connection, unneeded, keeps_session=keeps_session)
        )

    def is_ending(self, pid: str) -> bool:
        """Whether that session ended for good, and the shared state does not know yet."""
        return pid in self._ending

    def queue_takeover(self, takeover: SessionTakeover) -> None:
        """A connection of another replica was resumed here, and that may not know yet."""
        self._updates.put_nowait(lambda: self._broker.append(takeover))

    def on_transport_upgraded(self, connection: Connection) -> None:
        """It is on another carrier now."""
        connection.on_transport_changed()
        transport = connection.transport.name
        self._updates.put_nowait(lambda: self._presence.change_transport(connection.sid, transport))

    async def run(self) -> None:
        """Tell the shared state, until cancelled."""
        while True:
            report = await self._updates.get()
            try:
                await report()
            except (BrokerUnavailable, BrokerTimeout) as error:
                log.warning("presence.update_failed", code=error.code)
            finally:
                self._updates.task_done()

    async def flush(self) -> None:
        """Wait until everything so far has been told."""
        await self._updates.join()

    async def _report_disconnect(
        self, connection: Connection, unneeded: list[Address], *, keeps_session: bool
    ) -> None:
        # What fails, the state makes up for (``ports``); whatever fails, the other steps are taken.
        async with AsyncExitStack() as steps:
            steps.push_async_callback(self._end_session, connection, keeps_session=keeps_session)
            # Where it was resumed meanwhile that one is registered by its name.
            if connection.sid not in self._hub.connections:
                steps.push_async_callback(self._presence.unregister, connection.sid)
            # Somebody may have come in since: what is needed again stays subscribed.
            await self._broker.unsubscribe([address for address in unneeded if not self._hub.has(address)])

    async def _end_session(self, connection: Connection, *, keeps_session: bool) -> None:
        session = connection.session
        if session is not None:
            end = self._sessions.park if keeps_session else self._sessions.delete
            try:
                await end(session.pid, owner=session.owner)
            finally:
                self._ending.discard(session.pid)
