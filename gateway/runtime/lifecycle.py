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

from gateway.dev_console import Development
from gateway.domain.disconnects import DRAINING
from gateway.domain.errors import KeysUnavailable, StateMisconfigured
from gateway.health import Phase
from gateway.http_server import printable_host
from gateway.logs import configure_logging, is_more_verbose
from gateway.runtime.components import Components
from gateway.services.drain import drain
from gateway.settings import Settings, changed_settings

log = structlog.get_logger(__name__)

JWT_KEYS: Final = frozenset({"jwt_secret", "jwt_public_key", "jwt_jwks_url", "jwt_algorithms"})
RELOADED: Final = JWT_KEYS | {"ingest_keys", "log_level"}
"""All others need another process."""


def reload(components: Components, settings: Settings) -> None:
    """Use the new keys and the new log level from now on, for whoever comes; nobody who is here is dropped."""
    changed = changed_settings(components.settings, settings)
    if JWT_KEYS & changed:
        components.verifier.change_keys(
            algorithms=settings.jwt_algorithms,
            secret=settings.jwt_secret,
            public_key=settings.jwt_public_key,
            jwks_url=settings.jwt_jwks_url,
        )
    if "ingest_keys" in changed:
        components.use_ingest_keys(settings.ingest_keys)
    taken = {name: getattr(settings, name) for name in RELOADED & changed}
    former, components.settings = components.settings, replace(components.settings, **taken)
    # Whoever makes the log quieter wants to see that this was heard.
    configure_logging(is_more_verbose(former.log_level, settings.log_level), former.log_format)
    log.info("settings.reloaded", changed=sorted(taken), ingest_keys=[key.id for key in settings.ingest_keys])
    if changed - RELOADED:
        log.warning(
            "settings.restart_required",
            names=sorted(changed - RELOADED),
            reason="these settings were changed, and hold once the process is started again",
        )
    configure_logging(settings.log_level, former.log_format)


DISCONNECT_SECONDS: Final = 5.0
"""How long clients that were asked may take to leave, before they are cut off."""
DRAIN_GRACE_SECONDS: Final = 1.0
"""How much longer than DRAIN_SECONDS the drain may take, where the machine stood still meanwhile."""
STOP_SECONDS: Final = 14.0
"""What comes after the drain, in all: clients leave, requests finish (``rooms.FINISH_SECONDS``), the shared state is
left. docs/how-to/operate.md and the chart reckon with 15 seconds."""
STATE_WAIT_SECONDS: Final = 3.0
"""How long the ports stay shut while the shared state is being reached. Whoever waits for an open port finds one that
serves; whoever asks for health hears soon why there is none."""
NONCE_WAIT_SECONDS: Final = 2.0
"""How long nobody is served because the memory of nonces is about to begin. It begins with a second of the clock of
Redis: what is longer is a clock that is wrong, for which nobody waits."""
TIMER_SLACK_SECONDS: Final = 0.005
"""Timers of uvloop may come a millisecond early, and whoever signed in that millisecond would be refused."""


class Gateway:
    """One replica: built by ``__init__``, run by ``run``."""

    def __init__(self, settings: Settings, *, development: Development | None = None) -> None:
        """Must be made on the running event loop. Raises ``bundle.BundleMissing``."""
        self._settings = settings
        self.url = ""
        self._components = Components(settings, development=development, url=lambda: self.url)
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
                if await self._start(has_state, stopped):
                    self._serve()
                    if on_listening is not None:
                        on_listening(self.url)
                    await stopped.wait()
                    if not any(isinstance(failure, StateMisconfigured) for failure in failures):
                        # Where something is broken load balancers are not waited for.
                        await self._drain(0.0 if failures else self._settings.shutdown_delay_seconds)
            finally:
                await self._stop()
                for task in background:
                    task.cancel()
        if failures:
            raise ExceptionGroup("the gateway cannot go on", failures)

    def _background(self, has_state: asyncio.Event) -> Iterable[tuple[str, Coroutine[Any, Any, None]]]:
        """What goes on beside everything else, under the names of its tasks."""
        components = self._components
        return (
            ("state", components.state.run(has_state)),
            ("broker listener", components.state.broker.listen(components.hub.deliver)),
            ("reports", components.disconnector.run()),
            ("gaps", components.degraded_mode.run()),
            ("catching up", components.replayer.run()),
            ("keys", self._prepare_keys()),
            ("event loop lag", components.process_metrics.watch_loop()),
        )

    def reload(self, settings: Settings) -> None:
        """Take over what may change while it runs: keys of backends, keys of tokens, the log level."""
        reload(self._components, settings)

    # coming up

    async def _start(self, has_state: asyncio.Event, stopped: asyncio.Event) -> bool:
        """Open the ports once all is there that it takes to serve; whether nobody stopped the process meanwhile.

        Where that takes long they open earlier: probes are answered then, and everybody else is told to come back.
        Raises CannotListen.
        """
        try:
            async with asyncio.timeout(STATE_WAIT_SECONDS):
                goes_on = await self._wait_for_state(has_state, stopped)
        except TimeoutError:
            await self._open_ports()
            log.warning(
                "gateway.waiting_for_state",
                ports=self._ports,
                reason="the shared state cannot be reached yet",
            )
            return await self._wait_for_state(has_state, stopped)
        if goes_on:
            await self._open_ports()
        return goes_on

    async def _wait_for_state(self, has_state: asyncio.Event, stopped: asyncio.Event) -> bool:
        return await _is_set_first(has_state, stopped) and await self._wait_for_nonces(stopped)

    async def _open_ports(self) -> None:
        settings = self._settings
        ports = [settings.port] if settings.ingest_port is None else [settings.port, settings.ingest_port]
        self._ports = [
            await listener.start(settings.host, port)
            for listener, port in zip(self._components.http_servers, ports, strict=True)
        ]
        self.url = f"http://{printable_host(settings.host)}:{self._ports[0]}"

    def _serve(self) -> None:
        settings = self._settings
        self._components.on_state_ready()
        self._components.health.enter(Phase.SERVING)
        log.info("gateway.listening", host=settings.host, ports=self._ports, replica=settings.replica_id)

    async def _wait_for_nonces(self, stopped: asyncio.Event) -> bool:
        """Wait until requests that are signed now are good; whether nobody stopped the process meanwhile.

        A request signed before the memory of nonces began is refused, so nobody is served before it has begun.
        """
        seconds = self._components.state.dedup.began_at - self._components.clock.now()
        if seconds > NONCE_WAIT_SECONDS:
            log.warning("gateway.clock_skew", seconds=round(seconds, 1))
        try:
            async with asyncio.timeout(min(max(0.0, seconds + TIMER_SLACK_SECONDS), NONCE_WAIT_SECONDS)):
                await stopped.wait()
        except TimeoutError:
            pass
        return not stopped.is_set()

    async def _prepare_keys(self) -> None:
        """Fetch the issuer's keys ahead of the first client; if they cannot be had, each handshake asks again."""
        try:
            await self._components.verifier.prepare()
        except KeysUnavailable as error:
            log.warning("keys.unavailable", reason=error.message)

    # going down

    async def _drain(self, delay_seconds: float) -> None:
        """Say that nobody should be sent here, wait until that is known, then ask one client after the other to leave.

        Those who were not asked yet are served on, and so are backends. Who was not asked in time, on a machine that
        stood still, is sent away afterwards.
        """
        components, settings = self._components, self._settings
        components.health.enter(Phase.DRAINING)
        log.info(
            "gateway.draining",
            replica=settings.replica_id,
            sessions=len(components.engine.sessions),
            delay_seconds=delay_seconds,
            drain_seconds=settings.drain_seconds,
        )
        await asyncio.sleep(delay_seconds)
        components.admission.draining = True
        for listener in components.http_servers:
            listener.start_draining()
        disconnect_client = partial(components.clients.disconnect, reason=DRAINING)
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_seconds + DRAIN_GRACE_SECONDS):
                await drain(
                    list(components.clients.by_sid.values()),
                    disconnect_client,
                    seconds=settings.drain_seconds,
                )

    async def _stop(self) -> None:
        """Take nobody new, send away who is left, finish what runs, leave the other replicas, close."""
        components = self._components
        components.health.enter(Phase.DRAINING)
        components.admission.draining = True
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._disconnect_clients()
                await asyncio.gather(*[listener.stop() for listener in components.http_servers])
                await asyncio.gather(
                    components.state.close(), components.verifier.close(), components.telemetry.close()
                )
        except TimeoutError:
            raise TimeoutError(f"it took longer than {STOP_SECONDS:.0f} seconds to stop") from None
        components.schedule.close()
        log.info("gateway.stopped", replica=self._settings.replica_id)

    async def _disconnect_clients(self) -> None:
        """The ports stay open: who polls fetches its goodbye over a new connection if it has to."""
        components = self._components
        deadline = asyncio.get_running_loop().time() + DISCONNECT_SECONDS
        components.clients.disconnect_all(DRAINING)
        try:
            async with asyncio.timeout_at(deadline):
                await components.engine.empty.wait()
                await components.disconnector.flush()
        except TimeoutError:
            log.warning("gateway.drain_timeout", sessions=len(components.engine.sessions))
        for listener in components.http_servers:
            listener.close()
        await components.engine.stop(deadline - asyncio.get_running_loop().time())


async def _is_set_first(event: asyncio.Event, other: asyncio.Event) -> bool:
    """Wait for two events; whether it was the first that came."""
    waiting = [asyncio.create_task(each.wait(), name="start") for each in (event, other)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return not other.is_set()
