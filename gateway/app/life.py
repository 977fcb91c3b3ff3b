"""Brings a replica up, keeps it running, takes it down; owns every task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from gateway.app.rooms import Rooms
from gateway.dev_door import Development
from gateway.domain.endings import DRAINING, Ending
from gateway.domain.errors import KeysUnavailable
from gateway.listening import printable_host
from gateway.settings import Settings

log = structlog.get_logger(__name__)

LEAVE_SECONDS: Final = 5.0
"""How long clients may take to leave when the process stops."""
NONCES_SECONDS: Final = 2.0
"""How long the ports stay shut because the memory of nonces is about to begin. It begins with a second of the clock of
Redis: what is longer is a clock that is wrong, for which nobody waits."""


class Gateway:
    """One replica: built by ``__init__``, run by ``run``."""

    def __init__(self, settings: Settings, *, development: Development | None = None) -> None:
        """Must be made on the running event loop. Raises ``bundle.BundleMissing``."""
        self._settings = settings
        self.url = ""
        self._rooms = Rooms(settings, development=development, url=lambda: self.url)

    async def run(self, stopped: asyncio.Event, on_listening: Callable[[str], None] | None = None) -> None:
        """Serve until ``stopped`` is set; then let clients and requests finish.

        A background task that dies ends it just the same, and its error is raised once everybody has left (law 8).
        """
        async with asyncio.TaskGroup() as tasks:
            has_state = asyncio.Event()
            background = [
                tasks.create_task(self._rooms.state.run(has_state), name="state"),
                tasks.create_task(
                    self._rooms.state.broker.listen(self._rooms.hub.deliver), name="broker listener"
                ),
                tasks.create_task(self._rooms.reporting.run(), name="reports"),
                tasks.create_task(self._rooms.coping.run(), name="gaps"),
                tasks.create_task(self._rooms.catching_up.run(), name="catching up"),
                tasks.create_task(self._prepare_keys(), name="keys"),
            ]
            try:
                if await _comes_first(has_state, stopped) and await self._nonces_begun(stopped):
                    await self.start()
                    if on_listening is not None:
                        on_listening(self.url)
                    await stopped.wait()
            finally:
                await self.stop()
                for task in background:
                    task.cancel()

    async def start(self) -> None:
        """Open the ports. Raises CannotListen."""
        settings = self._settings
        ports = [settings.port] if settings.ingest_port is None else [settings.port, settings.ingest_port]
        bound = [
            await listener.start(settings.host, port)
            for listener, port in zip(self._rooms.listeners, ports, strict=True)
        ]
        self.url = f"http://{printable_host(settings.host)}:{bound[0]}"
        self._rooms.health.listening = True
        log.info("gateway.listening", host=settings.host, ports=bound, replica=settings.replica_id)

    async def _nonces_begun(self, stopped: asyncio.Event) -> bool:
        """Wait until requests that are signed now are good; whether nobody stopped the process meanwhile.

        A request signed before the memory of nonces began is refused, so nobody is served before it has begun.
        """
        seconds = self._rooms.state.claims.began_at - self._rooms.clock.now()
        if seconds > NONCES_SECONDS:
            log.warning("gateway.clock_behind", seconds=round(seconds, 1))
        try:
            async with asyncio.timeout(min(max(0.0, seconds), NONCES_SECONDS)):
                await stopped.wait()
        except TimeoutError:
            pass
        return not stopped.is_set()

    async def stop(self) -> None:
        """Take nobody new, send clients elsewhere, finish what runs, leave the other replicas, close."""
        self._rooms.health.draining = self._rooms.admission.draining = True
        for listener in self._rooms.listeners:
            listener.close()
        await self._send_clients_away(DRAINING)
        await self._rooms.engine.stop(LEAVE_SECONDS)
        for listener in self._rooms.listeners:
            await listener.stop()
        await self._rooms.state.leave()
        await self._rooms.verifier.close()
        self._rooms.schedule.close()
        log.info("gateway.stopped", replica=self._settings.replica_id)

    async def _send_clients_away(self, ending: Ending) -> None:
        self._rooms.door.send_away(ending)
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._rooms.engine.empty.wait()
                await self._rooms.reporting.settled()
        except TimeoutError:
            log.warning("gateway.clients_cut_off", sessions=len(self._rooms.engine.sessions))

    async def _prepare_keys(self) -> None:
        """Fetch the issuer's keys ahead of the first client; if they cannot be had, each handshake asks again."""
        try:
            await self._rooms.verifier.prepare()
        except KeysUnavailable as error:
            log.warning("keys.unavailable", reason=error.message)


async def _comes_first(event: asyncio.Event, other: asyncio.Event) -> bool:
    """Wait for two events; whether it was the first that came."""
    waiting = [asyncio.create_task(each.wait(), name="start") for each in (event, other)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return not other.is_set()
