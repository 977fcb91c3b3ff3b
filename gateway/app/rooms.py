"""Builds every room of the house and joins them: the one module that knows each of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Final

from aiohttp import web

from gateway import __version__, dev_door, health
from gateway.app import instruments
from gateway.application.arriving import Arriving
from gateway.application.coping import Coping
from gateway.application.expiring import Expiring
from gateway.application.publishing import Publishing
from gateway.application.recovering import CatchingUp, Recovering
from gateway.application.reporting import Reporting
from gateway.dev_door import Development
from gateway.domain.condition import Condition
from gateway.domain.endings import Ending
from gateway.domain.keys import IngestKey
from gateway.domain.sampling import Sampling
from gateway.health import Phase
from gateway.hub import Hub
from gateway.identity import JwtVerifier, fetch_text
from gateway.listening import Handler, Listener
from gateway.metrics import CONTENT_TYPE, Metrics
from gateway.schedule import HeapSchedule, SystemClock
from gateway.settings import Settings
from gateway.socketio_door import bundle, encoding
from gateway.socketio_door.clients import Client
from gateway.socketio_door.door import Door, DoorOptions
from gateway.socketio_door.refresh import Refreshing
from gateway.socketio_door.welcome import Welcome
from gateway.state.memory import MemoryState
from gateway.state.redis import RedisState
from gateway.tracing import open_telemetry
from gateway.transport.admission import Admission, AdmissionLimits, TrustedProxies
from gateway.transport.cors import Origins
from gateway.transport.errors import HandshakeError, unavailable
from gateway.transport.server import EngineOptions, EngineServer
from gateway.transport.short_way import ShortWay
from gateway.transport.survey import survey
from ingest_api import app as rest
from ingest_api.middlewares import Answering as RestDoor
from ingest_api.reporting import Refusing

FINISH_SECONDS: Final = 5.0
"""How long running requests may take to finish when the process stops."""
HISTORY_SLACK_SECONDS: Final = 15.0
"""Beyond what is reckoned with: for answers that are long on their way, and whatever stands still for a moment."""


class Rooms:
    """One replica, built and at rest; ``life.Gateway`` brings it up and takes it down."""

    def __init__(
        self, settings: Settings, *, development: Development | None, url: Callable[[], str]
    ) -> None:
        """Must be made on the running event loop. ``url``: where this replica is reached, once it is. Raises
        ``bundle.BundleMissing``.
        """
        self.settings = settings
        self._development = development
        self._url = url
        self.clock = SystemClock()
        self._sampling = Sampling(settings.log_sample_rate)
        self.schedule = HeapSchedule(asyncio.get_running_loop())
        self.health = health.Health(
            now=self.clock.now,
            condition=lambda: (self.coping.condition, self.coping.since),
            refusal=lambda: self.state.refusal,
        )
        self.metrics = Metrics()
        self._refusing = Refusing(self.metrics.requests)
        self._ingest_keys = {key.id: key for key in settings.ingest_keys}
        self.state = self._choose_state()
        self.verifier = _verifier(settings, self.clock)
        self.telemetry = open_telemetry(
            os.environ,
            replica=settings.replica_id,
            version=__version__,
            sampling=self._sampling,
        )
        self._furnish_application()
        self.admission = Admission(
            self.clock,
            AdmissionLimits(
                max_connections=settings.max_connections,
                max_newcomers=settings.max_unauthenticated,
                connects_per_second=settings.connect_rate,
                connects_per_second_and_address=settings.connect_rate_per_address,
            ),
            open_now=lambda: len(self.engine.sessions),
            newcomers_now=lambda: self.door.newcomers,
        )
        self.door = self._open_socketio_door()
        self.engine = self._transport(self.door)
        self.coping = Coping(
            hub=self.hub,
            schedule=self.schedule,
            clock=self.clock,
            send_away=self.door.send_away,
            deaf_patience_seconds=2 * settings.deaf_seconds,
            # Until it was reached (``state_reached``).
            condition=Condition.HEARING if settings.redis_url is None else Condition.AWAY,
        )
        instruments.furnish(self.metrics, settings, hub=self.hub, state=self.state, health=self.health)
        self.metrics.transport.watch(
            lambda: survey(self.engine.sessions.values()), lambda: self.door.newcomers
        )
        self.metrics.replica.watch_condition(lambda: self.coping.condition)
        self.listeners = self._plan_listeners()

    def use_ingest_keys(self, keys: Iterable[IngestKey]) -> None:
        """Backends come in with these from now on."""
        self._ingest_keys.clear()
        self._ingest_keys.update({key.id: key for key in keys})
        instruments.expect_keys(self.metrics, self._ingest_keys)

    def _furnish_application(self) -> None:
        settings = self.settings
        self.hub = Hub(encoding.encode_message, self.metrics.messages, self.telemetry.deliveries)
        self.reporting = Reporting(
            hub=self.hub,
            broker=self.state.broker,
            presence=self.state.presence,
            sessions=self.state.sessions,
        )
        self.recovering = Recovering(
            broker=self.state.broker,
            sessions=self.state.sessions,
            clock=self.clock,
            recovery_seconds=settings.recovery_seconds,
            outbox_bytes=settings.outbox_bytes,
        )
        self.catching_up = CatchingUp(
            recovering=self.recovering,
            encode=encoding.encode_message,
            recovered=self.metrics.messages.recovered,
            deliveries=self.telemetry.deliveries,
        )
        self.publishing = self.telemetry.around(
            Publishing(
                broker=self.state.broker,
                clock=self.clock,
                namespaces=settings.namespaces,
                meter=self.metrics.messages,
            )
        )

    def _choose_state(self) -> MemoryState | RedisState:
        settings = self.settings
        if settings.redis_url is None:
            return _memory_state(settings, self.clock)
        return RedisState(
            url=settings.redis_url,
            prefix=settings.redis_prefix,
            replica=settings.replica_id,
            history_length=settings.history_length,
            history_bytes=settings.history_bytes,
            recovery_seconds=settings.recovery_seconds,
            history_slack_seconds=history_slack_seconds(settings),
            lease_seconds=settings.lease_seconds,
            deaf_seconds=settings.deaf_seconds,
            revocation_seconds=settings.revocation_seconds,
            gap=self._gap_found,
            condition_changed=self._condition_changed,
            cleaned=self.metrics.redis.replica_cleaned_up,
            unreadable=self.metrics.redis.frame_unreadable,
            meter=self.metrics.redis,
        )

    def state_reached(self) -> None:
        """The shared state can be asked for everything now."""
        if isinstance(self.state, RedisState):
            self.coping.became(self.state.condition)

    def _condition_changed(self, condition: Condition) -> None:
        self.metrics.replica.condition_changed(condition)
        self.coping.became(condition)

    def _gap_found(self, code: str) -> None:
        self.metrics.messages.gap_found(code)
        self.coping.gap_found(code)

    def _open_socketio_door(self) -> Door:
        settings = self.settings
        arriving = Arriving(
            hub=self.hub,
            broker=self.state.broker,
            presence=self.state.presence,
            sessions=self.state.sessions,
            revocations=self.state.revocations,
            recovering=self.recovering,
            reporting=self.reporting,
            clock=self.clock,
            replica=settings.replica_id,
            max_connections_per_user=settings.max_connections_per_user,
            max_rooms_per_connection=settings.max_rooms_per_connection,
        )
        expiring = Expiring(schedule=self.schedule, clock=self.clock, leeway_seconds=settings.jwt_leeway)

        def welcome(put_out: Callable[[Client, str, Ending], None]) -> Welcome:
            return Welcome(
                verifier=self.verifier,
                arriving=arriving,
                catching_up=self.catching_up,
                expiring=expiring,
                depart=self.reporting.depart,
                recovery_told=self.metrics.connections.recovery_told,
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
            refreshing=Refreshing(
                verifier=self.verifier,
                arriving=arriving,
                expiring=expiring,
                refreshed=self.metrics.connections.token_refreshed,
            ),
            depart=self.reporting.depart,
            upgraded=self.reporting.upgraded,
            schedule=self.schedule,
            clock=self.clock,
            meter=self.metrics.connections,
            sampling=self._sampling,
        )

    def _transport(self, door: Door) -> EngineServer:
        settings = self.settings
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
            schedule=self.schedule,
            origins=Origins(settings.cors_origins),
            proxies=TrustedProxies(settings.trusted_proxies),
            admit=self._admit,
            meter=self.metrics.transport,
        )

    def _admit(self, address: str) -> HandshakeError | None:
        if self.health.phase is Phase.STARTING:
            return unavailable("starting", "this replica is starting", 1)
        if not self.verifier.ready:
            self.verifier.begin_preparing()
            return unavailable("no_keys", "the keys to check tokens with are not there yet", 5)
        if self.coping.condition is not Condition.HEARING:
            return unavailable(f"state_{self.coping.condition}", "the shared state is not at hand", 5)
        return self.admission.decide(address)

    # ports

    def _plan_listeners(self) -> list[Listener]:
        public, backends = web.Application(), web.Application()
        if self.settings.ingest_port is None:
            backends = public
        if self.settings.serve_client:
            bundle.add_routes(public, self.settings.socketio_path)
        health.add_routes(backends, self.health, self.metrics.exposition, CONTENT_TYPE)
        if self._development is not None:
            public.add_subapp("/dev", self._dev_door(self._development))
        # Whatever no route takes is the REST door's, which has its own middlewares and its own words for 404 and 405.
        rest_door = self._rest_door()
        instruments.expect_routes(self.metrics, rest_door.templates)
        rest.mount(rest_door, backends)
        direct: dict[str, Handler] = {self.settings.socketio_path: self.engine.handle}
        if backends is public:
            return [self._listener(public, direct, rest_door)]
        rest.mount(rest.create_empty_door(clock=self.clock, meter=self.metrics.requests), public)
        return [self._listener(public, direct, None), self._listener(backends, {}, rest_door)]

    def _listener(
        self, app: web.Application, direct: dict[str, Handler], short_way: ShortWay | None
    ) -> Listener:
        return Listener(
            app,
            direct=direct,
            short_way=short_way,
            refuse=self._refusing,
            head_timeout_seconds=self.settings.request_timeout,
            finish_seconds=FINISH_SECONDS,
        )

    def _rest_door(self) -> RestDoor:
        settings = self.settings
        return rest.create_door(
            publisher=self.publishing,
            presence=self.state.presence,
            claims=self.state.claims,
            rates=self.state.rates,
            keys=self._ingest_keys.get,
            clock=self.clock,
            meter=self.metrics.requests,
            namespaces=frozenset(settings.namespaces),
            max_body_bytes=settings.max_body_bytes,
            body_timeout_seconds=settings.request_timeout,
            path_prefix=settings.ingest_path_prefix,
            sampling=self._sampling,
            tracer=self.telemetry.tracer,
            is_serving=lambda: self.health.phase is not Phase.STARTING,
        )

    def _dev_door(self, development: Development) -> web.Application:
        return dev_door.create_app(
            publisher=self.publishing,
            issue_token=development.issue_token,
            namespace=self.settings.namespaces[0],
            socketio_path=self.settings.socketio_path,
            commands=lambda: development.commands(self._url()),
        )


def history_slack_seconds(settings: Settings) -> float:
    """How much longer than the window of a session the history is kept.

    A connection may look alive for a heartbeat after its network has gone, and come back later still; where its replica
    died meanwhile, the window begins when the lease ends.
    """
    heartbeat_seconds = settings.ping_interval + settings.ping_timeout
    return heartbeat_seconds + settings.lease_seconds + HISTORY_SLACK_SECONDS


def _memory_state(settings: Settings, clock: SystemClock) -> MemoryState:
    return MemoryState(
        clock=clock,
        replica=settings.replica_id,
        history_length=settings.history_length,
        history_bytes=settings.history_bytes,
        recovery_seconds=settings.recovery_seconds,
        history_slack_seconds=history_slack_seconds(settings),
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
