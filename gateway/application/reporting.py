"""What became of a connection: it left, or it changed its carrier."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address
from gateway.hub import Connection, Hub, State
from gateway.ports import Broker, Presence

log = structlog.get_logger(__name__)

Report = Callable[[], Awaitable[None]]


class Reporting:
    """Takes connections out of the hub at once, and tells the shared state by one task, in the order it happened."""

    def __init__(self, *, hub: Hub, broker: Broker, presence: Presence) -> None:
        self._hub = hub
        self._broker = broker
        self._presence = presence
        self._reports: asyncio.Queue[Report] = asyncio.Queue()

    def depart(self, connection: Connection) -> None:
        """It is gone: nothing more is delivered to it, the rest of the world hears soon. Idempotent."""
        if connection.state is State.GONE:
            return
        connection.go()
        if connection.expiry is not None:
            connection.expiry.cancel()
        unneeded = self._hub.remove(connection)
        self._reports.put_nowait(lambda: self._tell_departure(connection.sid, unneeded))

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

    async def _tell_departure(self, sid: str, unneeded: list[Address]) -> None:
        await self._presence.unregister(sid)
        # Somebody may have come in since: what is needed again stays subscribed.
        await self._broker.unsubscribe([address for address in unneeded if not self._hub.has(address)])
