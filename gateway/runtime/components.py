"""Build every component of a replica and connect them. No other module knows all of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Final

from aiohttp import web

from gateway import __version__, dev_console, health
from gateway.dev_console import Development
from gateway.domain.event_catalogue import EventCatalogue
from gateway.domain.ingest_keys import IngestKey
from gateway.domain.sampling import Sampling
from gateway.domain.status import StateStatus
from gateway.http_server import HttpServer
from gateway.hub import GATHER_BYTES, Hub, Receipts
from gateway.interfaces import State
from gateway.metrics import MetricFactory, ProcessMetrics, RequestMetrics
from gateway.rlimit import file_limit
from gateway.runtime.admission_check import AdmissionCheck
from gateway.runtime.events import event_documents
from gateway.runtime.from_settings import (
    admission_limits,
    build_client_events,
    build_memberships,
    build_memory_state,
    build_publisher,
    build_recovery,
    build_redis_state,
    build_room_change_listener,
    build_verifier,
    build_webhooks,
    connection_limits,
    create_line_limiter,
    engine_options,
    http_limits,
    socketio_options,
)
from gateway.runtime.metrics_setup import create_arriving_bodies, create_log_metrics, create_state_metrics
from gateway.runtime.notices import Notices
from gateway.runtime.rest_api import build_rest_api
from gateway.services.acks import Acks
from gateway.services.connect import Connector
from gateway.services.counted_disconnects import CountedDisconnects, DisconnectReplies
from gateway.services.degraded_mode import DegradedMode
from gateway.services.disconnect import Disconnector
from gateway.services.offline_receipts import OfflineReceipts
from gateway.services.replay import Replayer
from gateway.services.token_expiry import TokenExpiry
from gateway.settings import Settings
from gateway.socketio_server import client_bundle, packets
from gateway.socketio_server.client import Clients
from gateway.socketio_server.client_acks import ClientAcks
from gateway.socketio_server.connect_handshake import MIN_CONNECT_BURST, ConnectHandshake, ConnectPace
from gateway.socketio_server.server import SocketIOServer
from gateway.socketio_server.token_refresh import TokenRefresh
from gateway.state.redis import create_metrics_without_redis
from gateway.timers import SystemClock, TimerHeap
from gateway.tracing import open_telemetry
from gateway.transport.admission import Admission, TrustedProxies
from gateway.transport.connection_totals import ConnectionTotals
from gateway.transport.cors import Origins
from gateway.transport.fast_path import FastPath
from gateway.transport.new_connections import HandshakePath
from gateway.transport.server import EngineServer
from gateway.transport.tcp_connections import OpenConnections, create_connection_metrics
from ingest_api import app as rest
from ingest_api.access_log import RejectedRequestLog, RejectionLimit
from ingest_api.errors import STATUSES
from ingest_api.pipeline import RestApi

FINISH_SECONDS: Final = 5.0
"""How long running requests may take to finish when the process stops."""


class Components:
    """The components of one replica, built but not started; ``lifecycle.Gateway`` starts and stops them."""

    def __init__(self, settings: Settings, *, development: Development | None) -> None:
        """Must be called on the running event loop.

        ``development`` is what only ``serve --dev`` has. Raises ``client_bundle.BundleMissing``.
        """
        self.settings = settings
        self._sampling = Sampling(settings.log_sample_rate)
        self.clock = SystemClock()
        self.schedule = TimerHeap(asyncio.get_running_loop())
        self._lines = create_line_limiter(self.clock, self.schedule)
        self._proxies = TrustedProxies(settings.trusted_proxies)
        self._rejections = RejectionLimit(self._lines, self._proxies.client_of)
        self._build_metrics()
        self.telemetry = open_telemetry(
            os.environ, replica=settings.replica_id, version=__version__, sampling=self._sampling
        )
        self.disconnect_replies = DisconnectReplies()
        self.offline_receipts = OfflineReceipts(metrics=self._metrics)
        self.hub = Hub(
            packets.encode_message,
            metrics=self._metrics,
            deliveries=self.telemetry.deliveries,
            on_disconnected=self.disconnect_replies.put,
            receipts=Receipts(self.offline_receipts.put),
            gather_bytes=min(GATHER_BYTES, settings.send_buffer_bytes),
            max_ack_bytes=settings.max_body_bytes,
        )
        self.clients = Clients(self.clock)
        self.degraded_mode = DegradedMode(
            hub=self.hub,
            schedule=self.schedule,
            clock=self.clock,
            disconnect_all=self.clients.disconnect_all,
            stalled_limit_seconds=2 * settings.subscription_timeout_seconds,
            metrics=self._metrics,
            # Redis counts as unavailable until it was reached (``on_state_ready``).
            status=StateStatus.HEALTHY if settings.redis_url is None else StateStatus.UNAVAILABLE,
        )
        self.state = self._build_state()
        self.health = health.Health(
            now=self.clock.now,
            status=lambda: (self.degraded_mode.status, self.degraded_mode.since),
            rejection=lambda: self.state.rejection,
            metrics=self._metrics,
        )
        self.verifier = build_verifier(settings, self.clock, self.schedule, self._metrics)
        self.own_ports: set[int] = set()
        """The ports that this process listens on, once they are open."""
        self.webhooks = build_webhooks(
            settings,
            clock=self.clock,
            own_ports=self.own_ports,
            metrics=self._metrics,
            sampling=self._sampling,
            tracer=self.telemetry.call_tracer,
        )
        self.admission = Admission(self.clock, admission_limits(settings), metrics=self._metrics)
        self._build_services()
        self.engine = self._build_engine_server(self._build_socketio_server())
        self.http_servers = self._build_http_servers(development)

    def event_catalogue(self) -> EventCatalogue:
        """Return the event catalogue in effect. A reload replaces it whole."""
        return self.settings.event_catalogue

    def use_ingest_keys(self, keys: Iterable[IngestKey]) -> None:
        """Accept these ingest keys and no others from now on."""
        self._ingest_keys.clear()
        self._ingest_keys.update({key.id: key for key in keys})
        self._request_metrics.init_key_labels(self._ingest_keys)

    def on_state_ready(self) -> None:
        """Take over the status of the state, which can be used from now on."""
        if self.state.status is not self.degraded_mode.status:
            self.degraded_mode.set_status(self.state.status)

    def _build_metrics(self) -> None:
        self._metrics = MetricFactory()
        self.process_metrics = ProcessMetrics(self._metrics, version=__version__)
        create_log_metrics(self._metrics)
        self._arriving = create_arriving_bodies(self._metrics, self.settings.max_body_bytes)
        self._request_metrics = RequestMetrics(self._metrics)
        self._ingest_keys: dict[str, IngestKey] = {}
        self.use_ingest_keys(self.settings.ingest_keys)

    def _build_state(self) -> State:
        settings = self.settings
        if settings.redis_url is None:
            create_metrics_without_redis(self._metrics)
            state: State = build_memory_state(settings, self.clock)
        else:
            state = build_redis_state(settings, self.degraded_mode, self._metrics)
        create_state_metrics(
            self._metrics,
            state.sizes,
            history_length=settings.history_length,
            history_bytes=settings.history_bytes,
        )
        return state

    def _build_services(self) -> None:
        settings = self.settings
        self.disconnector = Disconnector(
            hub=self.hub,
            broker=self.state.broker,
            presence=self.state.presence,
            disconnects=self.state.disconnects,
            clock=self.clock,
            max_connections_per_user=settings.max_connections_per_user,
            metrics=self._metrics,
        )
        max_bytes = settings.max_body_bytes
        self.acks = Acks(self.hub.asks, self.state.replies, max_bytes=max_bytes, metrics=self._metrics)
        self.memberships = build_memberships(settings, state=self.state, hub=self.hub)
        self.client_events = build_client_events(
            settings,
            state=self.state,
            hub=self.hub,
            memberships=self.memberships,
            webhooks=self.webhooks,
            clock=self.clock,
            schedule=self.schedule,
            metrics=self._metrics,
        )
        self.notices = Notices(
            catalogue=self.event_catalogue,
            namespaces=settings.namespaces,
            has_other_replicas=settings.redis_url is not None,
            state=self.state,
            hub=self.hub,
            webhooks=self.webhooks,
            clock=self.clock,
            schedule=self.schedule,
            metrics=self._metrics,
        )
        self._recovery = build_recovery(
            settings, state=self.state, clock=self.clock, schedule=self.schedule, metrics=self._metrics
        )
        self.replayer = Replayer(
            recovery=self._recovery,
            memberships=self.memberships,
            encode=packets.encode_message,
            on_replayed=self.hub.count_replayed,
            deliveries=self.telemetry.deliveries,
            receipts=self.hub.receipts,
        )
        self.room_changes = build_room_change_listener(
            self.state, self.hub, self.memberships, self.disconnector, self.replayer, metrics=self._metrics
        )
        publisher = build_publisher(
            settings, state=self.state, hub=self.hub, clock=self.clock, metrics=self._metrics
        )
        self._publisher = self.telemetry.wrap(publisher)
        self._counted_disconnects = CountedDisconnects(publisher=publisher, replies=self.state.replies)

    def _build_socketio_server(self) -> SocketIOServer:
        settings = self.settings
        connector = Connector(
            hub=self.hub,
            broker=self.state.broker,
            presence=self.state.presence,
            connects=self.state.connects,
            offline_queue=self.state.offline_queue,
            sessions=self.state.sessions,
            revocations=self.state.revocations,
            socket_data=self.state.socket_data,
            memberships=self.memberships,
            recovery=self._recovery,
            disconnector=self.disconnector,
            listed=self.notices.listings.entry,
            clock=self.clock,
            replica=settings.replica_id,
            max_connections_per_user=settings.max_connections_per_user,
            max_rooms_per_connection=settings.max_rooms_per_connection,
        )
        token_expiry = TokenExpiry(
            schedule=self.schedule, clock=self.clock, leeway_seconds=settings.jwt_leeway_seconds
        )

        return SocketIOServer(
            socketio_options(settings),
            clients=self.clients,
            handshake=ConnectHandshake(
                verifier=self.verifier,
                connector=connector,
                pace=ConnectPace(
                    clock=self.clock,
                    schedule=self.schedule,
                    burst=max(MIN_CONNECT_BURST, 2 * settings.max_connections_per_user),
                ),
                replayer=self.replayer,
                token_expiry=token_expiry,
                disconnect=self.disconnector.disconnect,
                metrics=self._metrics,
            ),
            token_refresh=TokenRefresh(
                verifier=self.verifier,
                connector=connector,
                token_expiry=token_expiry,
                metrics=self._metrics,
            ),
            client_events=self.client_events,
            acks=ClientAcks(self.hub.asks, metrics=self._metrics),
            disconnect=self.disconnector.disconnect,
            on_upgraded=self.disconnector.on_transport_upgraded,
            schedule=self.schedule,
            clock=self.clock,
            volatile_skipped=self.hub.count_volatile_skipped,
            metrics=self._metrics,
            arriving=self._arriving,
            sampling=self._sampling,
            lines=self._lines,
        )

    def _build_engine_server(self, socketio_server: SocketIOServer) -> EngineServer:
        settings = self.settings
        return EngineServer(
            engine_options(settings),
            observer=socketio_server,
            schedule=self.schedule,
            clock=self.clock,
            origins=Origins(settings.cors_origins, same_host=settings.cors_same_host),
            proxies=self._proxies,
            check_admission=AdmissionCheck(
                health=self.health,
                verifier=self.verifier,
                degraded_mode=self.degraded_mode,
                admission=self.admission,
                clients=self.clients,
            ),
            metrics=self._metrics,
            gathered=self.hub.gathered,
            arriving=self._arriving,
            lines=self._lines,
        )

    def _build_http_servers(self, development: Development | None) -> list[HttpServer]:
        settings = self.settings
        self._connection_totals = ConnectionTotals(self._metrics)
        self._tcp_connections = {
            name: OpenConnections(
                self.clock,
                listener=name,
                limit=limit,
                websockets=(lambda: self.engine.websockets) if name == "public" else lambda: 0,
            )
            for name, limit in connection_limits(settings, file_limit()).items()
        }
        create_connection_metrics(self._metrics, self._tcp_connections)
        rest_api = self._build_rest_api(explains_signatures=development is not None)
        self._request_metrics.init_labels(rest_api.templates, {"ok": 200, **STATUSES})
        public = web.Application()
        backends = public if settings.ingest_port is None else web.Application()
        if settings.serve_client:
            client_bundle.add_routes(public, settings.socketio_path)
        health.add_routes(backends, self.health, self._metrics)
        health.add_public_route(public, self.health)
        if development is not None:
            public.add_subapp("/dev", self._build_dev_console(development))
        # The REST API answers every path without a route, with middlewares and texts for 404 and 405 of its own.
        rest.mount(rest_api, backends)
        if backends is public:
            return [self._build_http_server("public", public, rest_api)]
        not_found = rest.create_not_found_api(
            clock=self.clock, metrics=self._request_metrics, rejections=self._rejections
        )
        rest.mount(not_found, public)
        public_server = self._build_http_server("public", public, None)
        return [public_server, self._build_http_server("ingest", backends, rest_api)]

    def _build_http_server(self, name: str, app: web.Application, fast_path: FastPath | None) -> HttpServer:
        path = self.settings.socketio_path
        # Clients with addTrailingSlash: false omit the slash; a redirect would lose POST bodies and WebSockets.
        paths = (path, path.rstrip("/")) if name == "public" else ()
        return HttpServer(
            app,
            direct=dict.fromkeys(paths, self.engine.handle),
            fast_path=fast_path,
            handshakes=HandshakePath(paths, self.engine.open_websocket),
            reject=RejectedRequestLog(self._request_metrics, rejections=self._rejections),
            limits=http_limits(self.settings),
            totals=self._connection_totals,
            connections=self._tcp_connections[name],
            cors=self.engine.cors_headers if paths else None,
            finish_seconds=FINISH_SECONDS,
        )

    def _build_rest_api(self, *, explains_signatures: bool) -> RestApi:
        return build_rest_api(
            self.settings,
            publisher=self._publisher,
            disconnects=self._counted_disconnects,
            issuers=self.verifier.issuers,
            granted_prefixes=lambda: self.client_events.reserved_prefixes,
            state=self.state,
            ack_waits=self.acks.waits,
            webhooks=self.webhooks,
            keys=self._ingest_keys,
            event_catalogue=self.event_catalogue,
            clock=self.clock,
            metrics=self._request_metrics,
            factory=self._metrics,
            sampling=self._sampling,
            tracer=self.telemetry.tracer,
            is_serving=self.health.has_started.is_set,
            explains_signatures=explains_signatures,
            arriving=self._arriving,
            rejections=self._rejections,
        )

    def _build_dev_console(self, development: Development) -> web.Application:
        return dev_console.create_app(
            publisher=self._publisher,
            issue_token=development.issue_token,
            namespace=self.settings.namespaces[0],
            socketio_path=self.settings.socketio_path,
            commands=development.commands,
            documents=lambda: event_documents(self.event_catalogue()),
        )
