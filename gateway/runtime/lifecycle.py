"""Start, run, drain and stop a replica; reload the settings that may change while it runs. Owns every task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog

from gateway import __version__
from gateway.dev_console import Development
from gateway.domain.disconnects import DRAINING
from gateway.domain.errors import KeysUnavailable, StateMisconfigured
from gateway.health import Phase
from gateway.http_server import printable_host
from gateway.logs import configure_logging, is_more_verbose
from gateway.runtime.components import FINISH_SECONDS, Components
from gateway.runtime.from_settings import reserved_prefixes
from gateway.services.drain import drain
from gateway.settings import Settings, SettingsError, changed_settings, warnings

JWT_KEYS: Final = frozenset({"jwt_secret", "jwt_public_key", "jwt_jwks_url", "jwt_algorithms", "issuers"})
WEBHOOKS: Final = frozenset({"webhooks", "webhook_secrets"})
RELOADED: Final = JWT_KEYS | WEBHOOKS | {"events_file", "ingest_keys", "log_level"}
"""The settings that SIGHUP reloads. All others need a restart."""
DISCONNECT_SECONDS: Final = 5.0
"""How long disconnected clients may take to close, before their connections are aborted."""
DRAIN_GRACE_SECONDS: Final = 1.0
"""How much longer than DRAIN_SECONDS the drain may take, if the machine stood still."""
STOP_SECONDS: Final = 14.0
"""Limit of everything after the drain: clients close, requests finish (``components.FINISH_SECONDS``), the state is
closed. docs/how-to/operate.md and the chart expect 15 seconds."""
STATE_WAIT_SECONDS: Final = 3.0
"""How long the ports stay closed while the gateway connects to the state. A program that waits for an open port then
finds one that serves. After this time they open, so that probes get the reason."""
NONCE_WAIT_SECONDS: Final = 2.0
"""How long the start waits until the store of nonces begins, which is with a full second of its clock."""
TIMER_SLACK_SECONDS: Final = 0.005
"""Timers of uvloop may fire a millisecond early. A request signed in that millisecond would be rejected."""

log = structlog.get_logger(__name__)


class Gateway:
    """One replica: ``__init__`` builds it, ``run`` runs it."""

    def __init__(self, settings: Settings, *, development: Development | None = None) -> None:
        """Must be called on the running event loop. Raises ``client_bundle.BundleMissing``."""
        self._settings = settings
        self._development = development
        self._components = Components(settings, development=development)
        self._ports: list[int] = []
        _log_warnings(settings)

    async def run(self, stopped: asyncio.Event, on_listening: Callable[[str], None] | None = None) -> None:
        """Serve until ``stopped`` is set, then drain and stop.

        A background task that fails sets it too (invariant 8). Raises its error in an ExceptionGroup, after the stop.
        """
        failures: list[Exception] = []
        has_state = asyncio.Event()

        def on_done(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, Exception):
                failures.append(error)
                stopped.set()

        # Not in a TaskGroup: it would cancel the others after a failure, and the stop needs them.
        background = [asyncio.create_task(work, name=name) for name, work in self._background(has_state)]
        for task in background:
            task.add_done_callback(on_done)
        try:
            if await self._start(has_state, stopped):
                self._serve()
                if on_listening is not None:
                    on_listening(self._url())
                await stopped.wait()
                if not any(isinstance(failure, StateMisconfigured) for failure in failures):
                    # After a failure it does not wait for load balancers.
                    await self._drain(0.0 if failures else self._settings.shutdown_delay_seconds)
        except Exception as error:  # noqa: BLE001  # raised below, after the stop
            failures.append(error)
        finally:
            await self._stop_all(background, failures)
        if failures:
            raise ExceptionGroup("the gateway cannot run", failures)

    async def _stop_all(self, background: list[asyncio.Task[None]], failures: list[Exception]) -> None:
        """Stop, then cancel the background tasks and wait for them. Adds the error of the stop to ``failures``."""
        try:
            await self._stop()
        except Exception as error:  # noqa: BLE001  # raised by ``run``
            failures.append(error)
        finally:
            for task in background:
                task.cancel()
            await asyncio.wait(background)

    def _background(self, has_state: asyncio.Event) -> Iterable[tuple[str, Coroutine[Any, Any, None]]]:
        """Return the background tasks with their names."""
        components = self._components
        return (
            ("state", components.state.run(has_state)),
            (
                "broker listener",
                components.state.broker.listen(
                    components.room_changes.deliver,
                    components.hub.flush,
                    components.room_changes.deliver_now,
                ),
            ),
            ("room changes", components.room_changes.run()),
            ("presence updates", components.disconnector.run()),
            ("disconnect replies", components.disconnect_replies.run(components.state.replies)),
            ("offline receipts", components.offline_receipts.run(components.state.offline_queue)),
            ("acknowledgements", components.acks.run()),
            ("gap reports", components.degraded_mode.run()),
            ("replays", components.replayer.run()),
            ("notices", components.notices.run(has_state)),
            ("jwks", self._prepare_keys()),
            ("event loop lag", components.process_metrics.watch_loop()),
            ("open files", components.process_metrics.watch_files()),
        )

    def reload(self, settings: Settings) -> None:
        """Use the event catalogue, webhooks, ingest keys, token keys and log level of these settings from now on.

        Connected clients stay connected.

        Raises: SettingsError, and changes nothing.
        """
        components = self._components
        changed = changed_settings(components.settings, settings)
        if WEBHOOKS & changed:
            try:
                components.webhooks.change(settings.webhooks)
            except ValueError as error:  # a file changed after it was checked
                raise SettingsError([f"GATEWAY_WEBHOOKS: {error}"]) from None
        if JWT_KEYS & changed:
            components.verifier.change_keys(
                algorithms=settings.jwt_algorithms,
                secrets=settings.jwt_secret,
                public_key=settings.jwt_public_key,
                jwks_url=settings.jwt_jwks_url,
                issuers=settings.issuers,
            )
        if "ingest_keys" in changed:
            components.use_ingest_keys(settings.ingest_keys)
        taken = {name: getattr(settings, name) for name in RELOADED & changed}
        former = components.settings
        components.settings = replace(former, **taken, event_catalogue=settings.event_catalogue)
        components.client_events.catalogue = settings.event_catalogue
        components.client_events.reserved_prefixes = reserved_prefixes(components.settings)
        components.notices.reload()
        # At the more verbose of the two levels, so that this line is also written when the log becomes less verbose.
        configure_logging(is_more_verbose(former.log_level, settings.log_level), former.log_format)
        log.info(
            "settings.reloaded", changed=sorted(taken), ingest_keys=[key.id for key in settings.ingest_keys]
        )
        _log_warnings(settings)
        if changed - RELOADED:
            log.warning(
                "settings.restart_required",
                names=sorted(changed - RELOADED),
                reason="these settings were changed and take effect after a restart",
            )
        configure_logging(settings.log_level, former.log_format)

    # start

    async def _start(self, has_state: asyncio.Event, stopped: asyncio.Event) -> bool:
        """Open the ports when the state is ready; return False if the process was stopped before.

        After STATE_WAIT_SECONDS they open without the state: probes are answered, other requests get a 503. Raises
        ListenFailed.
        """
        try:
            async with asyncio.timeout(STATE_WAIT_SECONDS):
                has_started = await self._wait_for_state(has_state, stopped)
        except TimeoutError:
            await self._open_ports()
            log.warning(
                "gateway.waiting_for_state",
                ports=self._ports,
                reason="the shared state cannot be reached yet",
            )
            return await self._wait_for_state(has_state, stopped)
        if has_started:
            await self._open_ports()
        return has_started

    async def _wait_for_state(self, has_state: asyncio.Event, stopped: asyncio.Event) -> bool:
        return await _wait_unless_stopped(has_state, stopped) and await self._wait_for_nonces(stopped)

    async def _open_ports(self) -> None:
        settings = self._settings
        ports = [settings.port] if settings.ingest_port is None else [settings.port, settings.ingest_port]
        self._ports = [
            await server.start(settings.host, port)
            for server, port in zip(self._components.http_servers, ports, strict=True)
        ]
        self._components.own_ports.update(self._ports)
        if self._development is not None:
            self._development.url = self._url()

    def _url(self) -> str:
        """Return the address of this replica for clients. Its ports are open."""
        return f"http://{printable_host(self._settings.host)}:{self._ports[0]}"

    def _serve(self) -> None:
        settings = self._settings
        self._components.on_state_ready()
        self._components.health.enter(Phase.SERVING)
        log.info(
            "gateway.listening",
            version=__version__,
            host=settings.host,
            ports=self._ports,
            replica=settings.replica_id,
        )

    async def _wait_for_nonces(self, stopped: asyncio.Event) -> bool:
        """Wait until the store of nonces has begun; return False if the process was stopped before.

        A request that was signed before that moment is rejected, so the gateway does not serve earlier.
        """
        dedup = self._components.state.dedup
        seconds = dedup.began_at - dedup.now()
        try:
            async with asyncio.timeout(min(max(0.0, seconds + TIMER_SLACK_SECONDS), NONCE_WAIT_SECONDS)):
                await stopped.wait()
        except TimeoutError:
            pass
        return not stopped.is_set()

    async def _prepare_keys(self) -> None:
        """Fetch the issuer's keys before the first client connects. If that fails, each handshake tries again."""
        try:
            await self._components.verifier.prepare()
        except KeysUnavailable as error:
            log.warning("keys.unavailable", reason=error.message)

    # drain and stop

    async def _drain(self, delay_seconds: float) -> None:
        """Report the drain to load balancers, wait for them, then disconnect one client after another.

        Backends and the remaining clients are served meanwhile. Clients that are left, on a machine that stood still,
        are disconnected afterwards.
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
        for server in components.http_servers:
            server.start_draining()
        disconnect_client = partial(components.clients.disconnect, reason=DRAINING)
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_seconds + DRAIN_GRACE_SECONDS):
                await drain(
                    list(components.clients.by_sid.values()),
                    disconnect_client,
                    seconds=settings.drain_seconds,
                )

    async def _stop(self) -> None:
        """Admit no client, disconnect all, finish requests, and close the state, the keys and the telemetry."""
        components = self._components
        components.health.enter(Phase.DRAINING)
        components.admission.draining = True
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._disconnect_clients()
                components.acks.waits.end_all()
                await asyncio.gather(
                    *[server.stop() for server in components.http_servers],
                    components.client_events.close(finish_seconds=FINISH_SECONDS),
                )
                await components.notices.close()
                await asyncio.gather(
                    components.webhooks.close(),
                    components.state.close(),
                    components.verifier.close(),
                    components.telemetry.close(),
                )
        except TimeoutError:
            raise TimeoutError(f"it took longer than {STOP_SECONDS:.0f} seconds to stop") from None
        components.schedule.close()
        log.info("gateway.stopped", replica=self._settings.replica_id)

    async def _disconnect_clients(self) -> None:
        """Disconnect all clients and wait for them, then close the ports.

        The ports stay open until then: a polling client may need a new connection to receive its last packets.
        """
        components = self._components
        deadline = asyncio.get_running_loop().time() + DISCONNECT_SECONDS
        components.clients.disconnect_all(DRAINING)
        try:
            async with asyncio.timeout_at(deadline):
                await components.engine.empty.wait()
                await components.disconnector.flush()
        except TimeoutError:
            log.warning("gateway.drain_timeout", sessions=len(components.engine.sessions))
        for server in components.http_servers:
            server.close()
        await components.engine.stop(deadline - asyncio.get_running_loop().time())


async def _wait_unless_stopped(event: asyncio.Event, stopped: asyncio.Event) -> bool:
    """Wait until one of the events is set; return whether ``stopped`` is not."""
    waiting = [asyncio.create_task(each.wait(), name="start") for each in (event, stopped)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return not stopped.is_set()


def _log_warnings(settings: Settings) -> None:
    for warning in warnings(settings):
        log.warning("settings.unsafe", name=warning.name, reason=warning.sentence, advice=warning.remedy)
