"""Brings a replica up, keeps it running, takes it down; owns every task.

Takes over settings that may change while the process runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog

from gateway.app.rooms import Rooms
from gateway.application.draining import ask_one_by_one
from gateway.dev_door import Development
from gateway.domain.endings import DRAINING
from gateway.domain.errors import KeysUnavailable, StateUnusable
from gateway.health import Phase
from gateway.listening import printable_host
from gateway.logs import configure_logging, more_talkative
from gateway.settings import Settings, differing

log = structlog.get_logger(__name__)

JWT_KEYS: Final = frozenset({"jwt_secret", "jwt_public_key", "jwt_jwks_url", "jwt_algorithms"})
RELOADED: Final = JWT_KEYS | {"ingest_keys", "log_level"}
"""All others need another process."""


def reload(rooms: Rooms, settings: Settings) -> None:
    """Use the new keys and the new log level from now on, for whoever comes; nobody who is here is dropped."""
    changed = differing(rooms.settings, settings)
    if JWT_KEYS & changed:
        rooms.verifier.change_keys(
            algorithms=settings.jwt_algorithms,
            secret=settings.jwt_secret,
            public_key=settings.jwt_public_key,
            jwks_url=settings.jwt_jwks_url,
        )
    if "ingest_keys" in changed:
        rooms.use_ingest_keys(settings.ingest_keys)
    taken = {name: getattr(settings, name) for name in RELOADED & changed}
    former, rooms.settings = rooms.settings, replace(rooms.settings, **taken)
    # Whoever makes the log quieter wants to see that this was heard.
    configure_logging(more_talkative(former.log_level, settings.log_level), former.log_format)
    log.info("settings.reloaded", changed=sorted(taken), ingest_keys=[key.id for key in settings.ingest_keys])
    if changed - RELOADED:
        log.warning(
            "settings.need_restart",
            names=sorted(changed - RELOADED),
            reason="these settings were changed, and hold once the process is started again",
        )
    configure_logging(settings.log_level, former.log_format)


LEAVE_SECONDS: Final = 5.0
"""How long clients that were asked may take to leave, before they are cut off."""
OVERTIME_SECONDS: Final = 1.0
"""How much longer than DRAIN_SECONDS the drain may take, where the machine stood still meanwhile."""
STOP_SECONDS: Final = 14.0
"""What comes after the drain, in all: clients leave, requests finish (``rooms.FINISH_SECONDS``), the shared state is
left. docs/how-to/operate.md and the chart reckon with 15 seconds."""
SHUT_SECONDS: Final = 3.0
"""How long the ports stay shut while the shared state is being reached. Whoever waits for an open port finds one that
serves; whoever asks for health hears soon why there is none."""
NONCES_SECONDS: Final = 2.0
"""How long nobody is served because the memory of nonces is about to begin. It begins with a second of the clock of
Redis: what is longer is a clock that is wrong, for which nobody waits."""
EARLY_SECONDS: Final = 0.005
"""Timers of uvloop may come a millisecond early, and whoever signed in that millisecond would be refused."""


class Gateway:
    """One replica: built by ``__init__``, run by ``run``."""

    def __init__(self, settings: Settings, *, development: Development | None = None) -> None:
        """Must be made on the running event loop. Raises ``bundle.BundleMissing``."""
        self._settings = settings
        self.url = ""
        self._rooms = Rooms(settings, development=development, url=lambda: self.url)
        self._ports: list[int] = []

    async def run(self, stopped: asyncio.Event, on_listening: Callable[[str], None] | None = None) -> None:
        """Serve until ``stopped`` is set; then let clients and requests finish.

        A background task that dies sets it too (law 8), and its error is raised once everybody has left, in an
        ExceptionGroup.
        """
        failures: list[Exception] = []
        has_state = asyncio.Event()

        async def until_it_dies(work: Coroutine[Any, Any, None]) -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001  # raised below; the others go on, since leaving takes them all
                failures.append(error)
                stopped.set()

        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(until_it_dies(work), name=name)
                for name, work in self._background(has_state)
            ]
            try:
                if await self._come_up(has_state, stopped):
                    self._serve()
                    if on_listening is not None:
                        on_listening(self.url)
                    await stopped.wait()
                    if not any(isinstance(failure, StateUnusable) for failure in failures):
                        # Where something is broken load balancers are not waited for.
                        await self._drain(0.0 if failures else self._settings.shutdown_delay)
            finally:
                await self._stop()
                for task in background:
                    task.cancel()
        if failures:
            raise ExceptionGroup("the gateway cannot go on", failures)

    def _background(self, has_state: asyncio.Event) -> Iterable[tuple[str, Coroutine[Any, Any, None]]]:
        """What goes on beside everything else, under the names of its tasks."""
        rooms = self._rooms
        return (
            ("state", rooms.state.run(has_state)),
            ("broker listener", rooms.state.broker.listen(rooms.hub.deliver)),
            ("reports", rooms.reporting.run()),
            ("gaps", rooms.coping.run()),
            ("catching up", rooms.catching_up.run()),
            ("keys", self._prepare_keys()),
            ("event loop lag", rooms.metrics.replica.watch_loop()),
        )

    def reload(self, settings: Settings) -> None:
        """Take over what may change while it runs: keys of backends, keys of tokens, the log level."""
        reload(self._rooms, settings)

    # coming up

    async def _come_up(self, has_state: asyncio.Event, stopped: asyncio.Event) -> bool:
        """Open the ports once all is there that it takes to serve; whether nobody stopped the process meanwhile.

        Where that takes long they open earlier: probes are answered then, and everybody else is told to come back.
        Raises CannotListen.
        """
        try:
            async with asyncio.timeout(SHUT_SECONDS):
                goes_on = await self._can_serve(has_state, stopped)
        except TimeoutError:
            await self._open_ports()
            log.warning("gateway.waiting", ports=self._ports, reason="the shared state cannot be reached yet")
            return await self._can_serve(has_state, stopped)
        if goes_on:
            await self._open_ports()
        return goes_on

    async def _can_serve(self, has_state: asyncio.Event, stopped: asyncio.Event) -> bool:
        return await _comes_first(has_state, stopped) and await self._nonces_begun(stopped)

    async def _open_ports(self) -> None:
        settings = self._settings
        ports = [settings.port] if settings.ingest_port is None else [settings.port, settings.ingest_port]
        self._ports = [
            await listener.start(settings.host, port)
            for listener, port in zip(self._rooms.listeners, ports, strict=True)
        ]
        self.url = f"http://{printable_host(settings.host)}:{self._ports[0]}"

    def _serve(self) -> None:
        settings = self._settings
        self._rooms.state_reached()
        self._rooms.health.enter(Phase.SERVING)
        log.info("gateway.listening", host=settings.host, ports=self._ports, replica=settings.replica_id)

    async def _nonces_begun(self, stopped: asyncio.Event) -> bool:
        """Wait until requests that are signed now are good; whether nobody stopped the process meanwhile.

        A request signed before the memory of nonces began is refused, so nobody is served before it has begun.
        """
        seconds = self._rooms.state.claims.began_at - self._rooms.clock.now()
        if seconds > NONCES_SECONDS:
            log.warning("gateway.clock_behind", seconds=round(seconds, 1))
        try:
            async with asyncio.timeout(min(max(0.0, seconds + EARLY_SECONDS), NONCES_SECONDS)):
                await stopped.wait()
        except TimeoutError:
            pass
        return not stopped.is_set()

    async def _prepare_keys(self) -> None:
        """Fetch the issuer's keys ahead of the first client; if they cannot be had, each handshake asks again."""
        try:
            await self._rooms.verifier.prepare()
        except KeysUnavailable as error:
            log.warning("keys.unavailable", reason=error.message)

    # going down

    async def _drain(self, delay_seconds: float) -> None:
        """Say that nobody should be sent here, wait until that is known, then ask one client after the other to leave.

        Those who were not asked yet are served on, and so are backends. Who was not asked in time, on a machine that
        stood still, is sent away afterwards.
        """
        rooms, settings = self._rooms, self._settings
        rooms.health.enter(Phase.DRAINING)
        log.info(
            "gateway.draining",
            replica=settings.replica_id,
            sessions=len(rooms.engine.sessions),
            delay_seconds=delay_seconds,
            drain_seconds=settings.drain_seconds,
        )
        await asyncio.sleep(delay_seconds)
        rooms.admission.draining = True
        for listener in rooms.listeners:
            listener.begin_leaving()
        ask = partial(rooms.door.ask_to_leave, ending=DRAINING)
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_seconds + OVERTIME_SECONDS):
                await ask_one_by_one(rooms.door.guests, ask, seconds=settings.drain_seconds)

    async def _stop(self) -> None:
        """Take nobody new, send away who is left, finish what runs, leave the other replicas, close."""
        rooms = self._rooms
        rooms.health.enter(Phase.DRAINING)
        rooms.admission.draining = True
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._see_clients_off()
                await asyncio.gather(*[listener.stop() for listener in rooms.listeners])
                await asyncio.gather(rooms.state.leave(), rooms.verifier.close(), rooms.telemetry.close())
        except TimeoutError:
            raise TimeoutError(f"it took longer than {STOP_SECONDS:.0f} seconds to stop") from None
        rooms.schedule.close()
        log.info("gateway.stopped", replica=self._settings.replica_id)

    async def _see_clients_off(self) -> None:
        """The ports stay open: who polls fetches its goodbye over a new connection if it has to."""
        rooms = self._rooms
        deadline = asyncio.get_running_loop().time() + LEAVE_SECONDS
        rooms.door.send_away(DRAINING)
        try:
            async with asyncio.timeout_at(deadline):
                await rooms.engine.empty.wait()
                await rooms.reporting.settled()
        except TimeoutError:
            log.warning("gateway.clients_cut_off", sessions=len(rooms.engine.sessions))
        for listener in rooms.listeners:
            listener.close()
        await rooms.engine.stop(deadline - asyncio.get_running_loop().time())


async def _comes_first(event: asyncio.Event, other: asyncio.Event) -> bool:
    """Wait for two events; whether it was the first that came."""
    waiting = [asyncio.create_task(each.wait(), name="start") for each in (event, other)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return not other.is_set()
