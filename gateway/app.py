"""The composition root: knows every room of the house, joins them, owns every task, starts and stops the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from aiohttp import web

from gateway import dev_door, health
from gateway.application.arriving import Arriving
from gateway.application.coping import Coping
from gateway.application.expiring import Expiring
from gateway.application.publishing import Publishing
from gateway.application.reporting import Reporting
from gateway.clock import SystemClock
from gateway.dev_door import Development
from gateway.domain.condition import Condition
from gateway.domain.endings import DRAINING, Ending
from gateway.domain.errors import KeysUnavailable
from gateway.hub import Hub
from gateway.identity import JwtVerifier, fetch_text
from gateway.listening import Handler, Listener, printable_host
from gateway.metrics import CONTENT_TYPE, Metrics
from gateway.schedule import HeapSchedule
from gateway.settings import Settings
from gateway.socketio_door import bundle, encoding
from gateway.socketio_door.clients import Client
from gateway.socketio_door.door import Door, DoorOptions
from gateway.socketio_door.refresh import Refreshing
from gateway.socketio_door.welcome import Welcome
from gateway.state.memory import MemoryState
from gateway.state.redis import RedisState
from gateway.transport.addresses import TrustedProxies
from gateway.transport.admission import Admission, AdmissionLimits
from gateway.transport.cors import Origins
from gateway.transport.errors import HandshakeError, unavailable
from gateway.transport.server import EngineOptions, EngineServer
from gateway.transport.short_way import ShortWay
from ingest_api import app as rest
from ingest_api.middlewares import Answering as RestDoor
from ingest_api.refusing import Refusing

log = structlog.get_logger(__name__)

LEAVE_SECONDS: Final = 5.0
"""How long clients may take to leave, and then running requests to finish, when the process stops."""
HISTORY_SLACK_SECONDS: Final = 15.0


class Gateway:
    """One replica: built by ``__init__``, brought up by ``start``, taken down by ``stop``."""

    def __init__(self, settings: Settings, *, development: Development | None = None) -> None:
        """Must be made on the running event loop. Raises ``bundle.BundleMissing``."""
        self._settings = settings
        self._development = development
        self._clock = SystemClock()
        self._schedule = HeapSchedule(asyncio.get_running_loop())
        self._health = health.Health(lambda: self._coping.condition)
        self._metrics = Metrics()
        self._refusing = Refusing(self._metrics)
        self._state = self._choose_state()
        self._metrics.watch_state(self._state.sizes)
        self._verifier = _verifier(settings, self._clock)
        self._hub = Hub(encoding.encode_message, self._metrics.delivered)
        self._reporting = Reporting(hub=self._hub, broker=self._state.broker, presence=self._state.presence)
        self._publishing = Publishing(
            broker=self._state.broker,
            clock=self._clock,
            namespaces=settings.namespaces,
            accepted=self._metrics.entry_accepted,
        )
        self._admission = Admission(
            self._clock,
            AdmissionLimits(
                max_connections=settings.max_connections,
                max_newcomers=settings.max_unauthenticated,
                connects_per_second=settings.connect_rate,
                connects_per_second_and_address=settings.connect_rate_per_address,
            ),
            open_now=lambda: len(self._engine.sessions),
            newcomers_now=lambda: self._door.newcomers,
        )
        self._door = self._open_socketio_door()
        self._engine = self._transport(self._door)
        self._metrics.watch_transport(lambda: len(self._engine.sessions), lambda: self._door.newcomers)
        self._coping = Coping(
            hub=self._hub,
            schedule=self._schedule,
            clock=self._clock,
            send_away=self._door.send_away,
            deaf_patience_seconds=2 * settings.deaf_seconds,
        )
        self._metrics.watch_condition(Condition, lambda condition: self._coping.condition == condition)
        self._listeners = self._plan_listeners()
        self.url = ""

    # life

    async def run(self, stopped: asyncio.Event, on_listening: Callable[[str], None] | None = None) -> None:
        """Serve until ``stopped`` is set; then let clients and requests finish.

        A background task that dies ends it just the same, and its error is raised once everybody has left (law 8).
        """
        async with asyncio.TaskGroup() as tasks:
            has_state = asyncio.Event()
            background = [
                tasks.create_task(self._state.run(has_state), name="state"),
                tasks.create_task(self._state.broker.listen(self._hub.deliver), name="broker listener"),
                tasks.create_task(self._reporting.run(), name="reports"),
                tasks.create_task(self._coping.run(), name="gaps"),
                tasks.create_task(self._prepare_keys(), name="keys"),
            ]
            try:
                await has_state.wait()
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
        # A request signed before the memory of nonces began is refused, so nobody is served before it has begun.
        await asyncio.sleep(max(0.0, self._state.claims.began_at - self._clock.now()))
        settings = self._settings
        ports = [settings.port] if settings.ingest_port is None else [settings.port, settings.ingest_port]
        bound = [
            await listener.start(settings.host, port)
            for listener, port in zip(self._listeners, ports, strict=True)
        ]
        self.url = f"http://{printable_host(settings.host)}:{bound[0]}"
        self._health.listening = True
        log.info("gateway.listening", host=settings.host, ports=bound, replica=settings.replica_id)

    async def stop(self) -> None:
        """Take nobody new, send clients elsewhere, finish what runs, close."""
        self._health.draining = self._admission.draining = True
        for listener in self._listeners:
            listener.close()
        await self._send_clients_away(DRAINING)
        await self._engine.stop()
        for listener in self._listeners:
            await listener.stop()
        await self._verifier.close()
        self._schedule.close()
        log.info("gateway.stopped", replica=self._settings.replica_id)

    async def _send_clients_away(self, ending: Ending) -> None:
        self._door.send_away(ending)
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._engine.empty.wait()
                await self._reporting.settled()
        except TimeoutError:
            log.warning("gateway.clients_cut_off", sessions=len(self._engine.sessions))

    # rooms

    def _choose_state(self) -> MemoryState | RedisState:
        settings = self._settings
        if settings.redis_url is None:
            return _memory_state(settings, self._clock)
        return RedisState(
            url=settings.redis_url,
            prefix=settings.redis_prefix,
            replica=settings.replica_id,
            history_length=settings.history_length,
            history_bytes=settings.history_bytes,
            recovery_seconds=settings.recovery_seconds,
            history_slack_seconds=_history_slack_seconds(settings),
            lease_seconds=settings.lease_seconds,
            deaf_seconds=settings.deaf_seconds,
            revocation_seconds=settings.revocation_seconds,
            gap=self._gap_found,
            condition_changed=self._condition_changed,
            cleaned=self._metrics.replica_cleaned_up,
            unreadable=self._metrics.frame_unreadable,
        )

    def _condition_changed(self, condition: Condition) -> None:
        self._coping.became(condition)

    def _gap_found(self, code: str) -> None:
        self._metrics.gap_found(code)
        self._coping.gap_found(code)

    def _open_socketio_door(self) -> Door:
        settings = self._settings
        arriving = Arriving(
            hub=self._hub,
            broker=self._state.broker,
            presence=self._state.presence,
            revocations=self._state.revocations,
            clock=self._clock,
            replica=settings.replica_id,
            max_connections_per_user=settings.max_connections_per_user,
            max_rooms_per_connection=settings.max_rooms_per_connection,
            depart=self._reporting.depart,
        )
        expiring = Expiring(schedule=self._schedule, clock=self._clock, leeway_seconds=settings.jwt_leeway)

        def welcome(put_out: Callable[[Client, str, Ending], None]) -> Welcome:
            return Welcome(
                verifier=self._verifier,
                arriving=arriving,
                expiring=expiring,
                depart=self._reporting.depart,
                put_out=put_out,
            )

        return Door(
            DoorOptions(
                namespaces=settings.namespaces,
                connect_timeout_seconds=settings.connect_timeout,
                messages_per_second=settings.message_rate,
                max_attachments_bytes=settings.max_frame_bytes,
            ),
            welcome=welcome,
            refreshing=Refreshing(verifier=self._verifier, arriving=arriving, expiring=expiring),
            depart=self._reporting.depart,
            upgraded=self._reporting.upgraded,
            schedule=self._schedule,
            clock=self._clock,
            meter=self._metrics,
        )

    def _transport(self, door: Door) -> EngineServer:
        settings = self._settings
        return EngineServer(
            EngineOptions(
                replica=settings.replica_id,
                transports=settings.transports,
                ping_interval_seconds=settings.ping_interval,
                ping_timeout_seconds=settings.ping_timeout,
                max_payload_bytes=settings.max_frame_bytes,
                newcomer_payload_bytes=settings.max_unauthenticated_frame_bytes,
                deflates_from_bytes=settings.ws_compression_threshold if settings.ws_compression else None,
                body_timeout_seconds=settings.request_timeout,
                outbox_bytes=settings.outbox_bytes,
            ),
            above=door,
            schedule=self._schedule,
            origins=Origins(settings.cors_origins),
            proxies=TrustedProxies(settings.trusted_proxies),
            admit=self._admit,
            meter=self._metrics,
        )

    def _admit(self, address: str) -> HandshakeError | None:
        if not self._verifier.ready:
            self._verifier.begin_preparing()
            return unavailable("no_keys", "the keys to check tokens with are not there yet", 5)
        if self._coping.condition is not Condition.HEARING:
            return unavailable(f"state_{self._coping.condition}", "the shared state is not at hand", 5)
        return self._admission.decide(address)

    # ports

    def _plan_listeners(self) -> list[Listener]:
        public, backends = web.Application(), web.Application()
        if self._settings.ingest_port is None:
            backends = public
        if self._settings.serve_client:
            bundle.add_routes(public, self._settings.socketio_path)
        health.add_routes(backends, self._health, self._metrics.exposition, CONTENT_TYPE)
        if self._development is not None:
            public.add_subapp("/dev", self._dev_door(self._development))
        # Whatever no route takes is the REST door's, which has its own middlewares and its own words for 404 and 405.
        rest_door = self._rest_door()
        rest.mount(rest_door, backends)
        direct: dict[str, Handler] = {self._settings.socketio_path: self._engine.handle}
        if backends is public:
            return [self._listener(public, direct, rest_door)]
        rest.mount(rest.create_empty_door(clock=self._clock, meter=self._metrics), public)
        return [self._listener(public, direct, None), self._listener(backends, {}, rest_door)]

    def _listener(
        self, app: web.Application, direct: dict[str, Handler], short_way: ShortWay | None
    ) -> Listener:
        return Listener(
            app,
            direct=direct,
            short_way=short_way,
            refuse=self._refusing,
            head_timeout_seconds=self._settings.request_timeout,
            finish_seconds=LEAVE_SECONDS,
        )

    def _rest_door(self) -> RestDoor:
        settings = self._settings
        keys = {key.id: key for key in settings.ingest_keys}
        return rest.create_door(
            publisher=self._publishing,
            presence=self._state.presence,
            claims=self._state.claims,
            rates=self._state.rates,
            keys=keys.get,
            clock=self._clock,
            meter=self._metrics,
            namespaces=frozenset(settings.namespaces),
            max_body_bytes=settings.max_body_bytes,
            body_timeout_seconds=settings.request_timeout,
            path_prefix=settings.ingest_path_prefix,
        )

    def _dev_door(self, development: Development) -> web.Application:
        return dev_door.create_app(
            publisher=self._publishing,
            issue_token=development.issue_token,
            namespace=self._settings.namespaces[0],
            socketio_path=self._settings.socketio_path,
            commands=lambda: development.commands(self.url),
        )

    # keys

    async def _prepare_keys(self) -> None:
        """Fetch the issuer's keys ahead of the first client; if they cannot be had, each handshake asks again."""
        try:
            await self._verifier.prepare()
        except KeysUnavailable as error:
            log.warning("keys.unavailable", reason=error.message)


def _history_slack_seconds(settings: Settings) -> float:
    # A connection may look alive for that long after its network has gone, and come back later still.
    return settings.ping_interval + settings.ping_timeout + HISTORY_SLACK_SECONDS


def _memory_state(settings: Settings, clock: SystemClock) -> MemoryState:
    return MemoryState(
        clock=clock,
        replica=settings.replica_id,
        history_length=settings.history_length,
        history_bytes=settings.history_bytes,
        recovery_seconds=settings.recovery_seconds,
        history_slack_seconds=_history_slack_seconds(settings),
        revocation_seconds=settings.revocation_seconds,
    )


def _verifier(settings: Settings, clock: SystemClock) -> JwtVerifier:
    return JwtVerifier(
        algorithms=settings.jwt_algorithms,
        clock=clock,
        room_claims=settings.room_claims,
        secret=settings.jwt_secret,
        public_key=settings.jwt_public_key,
        jwks_url=settings.jwt_jwks_url,
        fetch=fetch_text,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        leeway_seconds=settings.jwt_leeway,
        require_exp=settings.jwt_require_exp,
        max_lifetime_seconds=settings.revocation_seconds,
    )
