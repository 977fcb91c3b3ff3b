"""What became of a connection: it left, or it changed its carrier."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address, Move
from gateway.hub import Connection, Hub, State
from gateway.ports import Broker, Presence, Sessions

log = structlog.get_logger(__name__)

Report = Callable[[], Awaitable[object]]


class Reporting:
    """Takes connections out of the hub at once, and tells the shared state by one task, in the order it happened."""

    def __init__(self, *, hub: Hub, broker: Broker, presence: Presence, sessions: Sessions) -> None:
        self._hub = hub
        self._broker = broker
        self._presence = presence
        self._sessions = sessions
        self._reports: asyncio.Queue[Report] = asyncio.Queue()
        self._ending: set[str] = set()

    def depart(self, connection: Connection, *, keeps_session: bool = True) -> None:
        """It is gone: nothing more is delivered to it, the rest of the world hears soon. Idempotent.

        Unless ``keeps_session`` it is gone for good, and cannot be resumed.
        """
        if connection.state is State.GONE:
            return
        connection.go()
        if connection.expiry is not None:
            connection.expiry.cancel()
        unneeded = self._hub.remove(connection)
        if connection.session is not None and not keeps_session:
            self._ending.add(connection.session.pid)
        self._reports.put_nowait(
            lambda: self._tell_departure(connection, unneeded, keeps_session=keeps_session)
        )

    def is_ending(self, pid: str) -> bool:
        """Whether that session ended for good, and the shared state does not know yet."""
        return pid in self._ending

    def moved(self, move: Move) -> None:
        """A connection of another replica was resumed here, and that may not know yet."""
        self._reports.put_nowait(lambda: self._broker.append(move))

    def upgraded(self, connection: Connection) -> None:
        """It is on another carrier now."""
        connection.changed_carrier()
        transport = connection.link.transport
        self._reports.put_nowait(lambda: self._presence.change_transport(connection.sid, transport))

    async def run(self) -> None:
        """Tell the shared state, until cancelled."""
        while True:
            report = await self._reports.get()
            try:
                await report()
            except (BrokerUnavailable, BrokerTimeout) as error:
                log.warning("report.not_told", code=error.code)
            finally:
                self._reports.task_done()

    async def settled(self) -> None:
        """Wait until everything so far has been told."""
        await self._reports.join()

    async def _tell_departure(
        self, connection: Connection, unneeded: list[Address], *, keeps_session: bool
    ) -> None:
        # What fails, the state makes up for (``ports``); whatever fails, the other steps are taken.
        async with AsyncExitStack() as steps:
            steps.push_async_callback(self._tell_session, connection, keeps_it=keeps_session)
            # Where it was resumed meanwhile that one is registered by its name.
            if connection.sid not in self._hub.connections:
                steps.push_async_callback(self._presence.unregister, connection.sid)
            # Somebody may have come in since: what is needed again stays subscribed.
            await self._broker.unsubscribe([address for address in unneeded if not self._hub.has(address)])

    async def _tell_session(self, connection: Connection, *, keeps_it: bool) -> None:
        session = connection.session
        if session is not None:
            end = self._sessions.leave if keeps_it else self._sessions.delete
            try:
                await end(session.pid, owner=session.owner)
            finally:
                self._ending.discard(session.pid)
