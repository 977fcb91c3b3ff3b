"""Components that are built from settings and few others alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import structlog

from gateway import __version__
from gateway.auth import JwtVerifier, fetch_text
from gateway.domain.event_catalogue import RESERVED_PREFIXES
from gateway.domain.sampling import INTERVAL_SECONDS, LineLimiter, Sampling
from gateway.hub import Hub
from gateway.interfaces import Clock, Schedule, State, Webhooks
from gateway.metrics import MetricFactory
from gateway.services.client_events import ClientEvents, Effects
from gateway.services.counted_disconnects import CountedDisconnects
from gateway.services.degraded_mode import DegradedMode
from gateway.services.disconnect import Disconnector
from gateway.services.memberships import Memberships
from gateway.services.publish import MessagePublisher
from gateway.services.recovery import Recovery
from gateway.services.replay import Replayer
from gateway.services.replay_budget import ReplayBudget
from gateway.services.room_changes import RoomChangeListener
from gateway.services.socket_data import SocketDataChanges
from gateway.services.token_revocation import CLOCK_MARGIN_SECONDS, TokenRevocations
from gateway.settings import Settings
from gateway.socketio_server.server import SocketIOOptions
from gateway.socketio_server.unfinished_packets import AttachmentLimits
from gateway.state.memory import MemoryState
from gateway.state.redis import RedisState
from gateway.transport.admission import DEFAULT_ADDRESS_RATE, AdmissionLimits
from gateway.transport.http import HttpLimits
from gateway.transport.server import EngineOptions
from gateway.webhooks import CallTracer, WebhookClient

USER_AGENT: Final = f"sio-gateway/{__version__}"
OWN_FILES: Final = 512
"""Open files that are no connections of clients and backends, and those of connections that are answered 503."""
EXTRA_CONNECTIONS: Final = 1000
"""Connections beside those of MAX_CONNECTIONS clients: of backends, of rejected clients, of pages."""
HISTORY_SLACK_SECONDS: Final = 15.0
"""Added to the computed time, for slow responses and a machine that stands still for a moment."""
_PARKED_PER_CONNECTION: Final = 4
"""Sessions that one user may have parked, for each connection that MAX_CONNECTIONS_PER_USER allows."""

log = structlog.get_logger(__name__)


def history_slack_seconds(settings: Settings) -> float:
    """Return how much longer than RECOVERY_SECONDS an entry is kept in the history.

    The session of a connection begins to expire when its end is noticed. After a network failure that may take a whole
    heartbeat. If its replica was killed meanwhile, the session begins to expire when the lease of the replica ends.
    """
    heartbeat_seconds = settings.ping_interval_seconds + settings.ping_timeout_seconds
    return heartbeat_seconds + settings.lease_seconds + HISTORY_SLACK_SECONDS


def max_parked_of_user(settings: Settings) -> int:
    """Return how many sessions of one user may be parked. A client may lose its connection several times in a row."""
    return _PARKED_PER_CONNECTION * settings.max_connections_per_user


def revocation_kept_seconds(settings: Settings) -> float:
    """Return for how long a revocation is kept: until no token that it covers is accepted any more.

    Such a token may be issued as far in the future as clocks may differ, and is accepted as much longer than it lives.
    """
    return settings.revocation_seconds + 2 * settings.jwt_leeway_seconds + CLOCK_MARGIN_SECONDS


def build_token_revocations(
    settings: Settings,
    disconnects: CountedDisconnects,
    issuers: Callable[[], Collection[str]],
    clock: Clock,
) -> TokenRevocations:
    """Return what revokes single tokens. ``issuers`` returns the issuers in effect."""
    return TokenRevocations(
        disconnects=disconnects,
        clock=clock,
        namespaces=settings.namespaces,
        issuers=issuers,
        leeway_seconds=settings.jwt_leeway_seconds,
        max_kept_seconds=revocation_kept_seconds(settings),
    )


def build_memory_state(settings: Settings, clock: Clock) -> MemoryState:
    """Return the state of a replica without Redis."""
    return MemoryState(
        release_version=__version__,
        clock=clock,
        replica=settings.replica_id,
        history_length=settings.history_length,
        history_bytes=settings.history_bytes,
        recovery_seconds=settings.recovery_seconds,
        history_slack_seconds=history_slack_seconds(settings),
        revocation_seconds=revocation_kept_seconds(settings),
        max_parked_of_user=max_parked_of_user(settings),
    )


def build_redis_state(settings: Settings, degraded_mode: DegradedMode, metrics: MetricFactory) -> RedisState:
    """Return the state of a replica with Redis."""
    if settings.redis_url is None:
        raise ValueError("there is no REDIS_URL")
    return RedisState(
        release_version=__version__,
        url=settings.redis_url,
        prefix=settings.redis_prefix,
        replica=settings.replica_id,
        wait_replicas=settings.redis_wait_replicas,
        history_length=settings.history_length,
        history_bytes=settings.history_bytes,
        recovery_seconds=settings.recovery_seconds,
        history_slack_seconds=history_slack_seconds(settings),
        lease_seconds=settings.lease_seconds,
        subscription_timeout_seconds=settings.subscription_timeout_seconds,
        revocation_seconds=revocation_kept_seconds(settings),
        namespaces=settings.namespaces,
        max_parked_of_user=max_parked_of_user(settings),
        on_gap=degraded_mode.on_history_gap,
        on_loss_marked=degraded_mode.on_loss_marked,
        on_status_changed=degraded_mode.on_status_changed,
        metrics=metrics,
    )


def http_limits(settings: Settings) -> HttpLimits:
    """Return the limits of HTTP connections."""
    return HttpLimits(
        head_timeout_seconds=settings.request_timeout_seconds,
        keepalive_seconds=settings.keepalive_seconds,
        max_header_bytes=settings.max_header_bytes,
        answer_timeout_seconds=settings.request_timeout_seconds,
    )


def connection_limits(settings: Settings, open_files: int) -> dict[str, int]:
    """Return the limit of TCP connections of each listener; ``open_files`` is how many files the process may open.

    A client that polls has two connections. Files are left for Redis, webhooks, logs and the probes of the process.
    """
    wanted = settings.max_tcp_connections or 2 * settings.max_connections + EXTRA_CONNECTIONS
    files = max(1, open_files - min(OWN_FILES, open_files // 4))
    if settings.ingest_port is None:
        return {"public": min(wanted, files)}
    # Backends keep few connections, and clients must not take theirs.
    return {"public": min(wanted, files * 3 // 4), "ingest": min(wanted, files // 4)}


def admission_limits(settings: Settings) -> AdmissionLimits:
    """Return the limits of Engine.IO handshakes."""
    rate = settings.connect_rate_per_address
    return AdmissionLimits(
        max_connections=settings.max_connections,
        max_unauthenticated=settings.max_unauthenticated,
        connects_per_second=settings.connect_rate,
        connects_per_second_and_address=DEFAULT_ADDRESS_RATE if rate is None else rate or None,
        limits_any_address=rate is not None,
    )


def engine_options(settings: Settings) -> EngineOptions:
    """Return the options of Engine.IO sessions."""
    return EngineOptions(
        replica=settings.replica_id,
        transports=settings.transports,
        ping_interval_seconds=settings.ping_interval_seconds,
        ping_timeout_seconds=settings.ping_timeout_seconds,
        max_payload_bytes=settings.max_frame_bytes,
        unauthenticated_payload_bytes=settings.max_unauthenticated_frame_bytes,
        messages_per_second=settings.message_rate,
        deflates_from_bytes=settings.ws_compression_threshold_bytes if settings.ws_compression else None,
        compresses_polls_from_bytes=settings.http_compression_threshold_bytes
        if settings.http_compression
        else None,
        body_timeout_seconds=settings.request_timeout_seconds,
        send_buffer_bytes=settings.send_buffer_bytes,
        token_cookie=settings.jwt_cookie,
    )


def socketio_options(settings: Settings) -> SocketIOOptions:
    """Return the options of Socket.IO connections."""
    return SocketIOOptions(
        namespaces=settings.namespaces,
        transports=settings.transports,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        messages_per_second=settings.message_rate,
        attachments=AttachmentLimits(
            max_bytes=settings.max_frame_bytes, timeout_seconds=settings.request_timeout_seconds
        ),
    )


def build_verifier(
    settings: Settings, clock: Clock, schedule: Schedule, metrics: MetricFactory
) -> JwtVerifier:
    """Return the verifier of tokens."""
    return JwtVerifier(
        algorithms=settings.jwt_algorithms,
        clock=clock,
        schedule=schedule,
        room_claims=settings.room_claims,
        secrets=settings.jwt_secret,
        public_key=settings.jwt_public_key,
        jwks_url=settings.jwt_jwks_url,
        issuers=settings.issuers,
        fetch=partial(fetch_text, user_agent=USER_AGENT),
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        leeway_seconds=settings.jwt_leeway_seconds,
        require_exp=settings.jwt_require_exp,
        max_lifetime_seconds=settings.revocation_seconds,
        max_token_bytes=settings.max_token_bytes,
        metrics=metrics,
    )


def build_webhooks(
    settings: Settings,
    *,
    clock: Clock,
    own_ports: Collection[int],
    metrics: MetricFactory,
    sampling: Sampling,
    tracer: CallTracer | None,
) -> WebhookClient:
    """Return the client of the webhooks; without webhooks it does nothing. ``own_ports`` may grow later."""
    return WebhookClient(
        settings.webhooks,
        clock=clock,
        metrics=metrics,
        user_agent=USER_AGENT,
        own_ports=lambda: own_ports,
        sampling=sampling,
        tracer=tracer,
    )


def build_memberships(settings: Settings, *, state: State, hub: Hub) -> Memberships:
    """Build what changes the rooms of connections."""
    return Memberships(
        hub=hub,
        broker=state.broker,
        presence=state.presence,
        sessions=state.sessions,
        max_rooms_per_connection=settings.max_rooms_per_connection,
        join_wait_seconds=state.join_wait_seconds,
    )


def build_room_change_listener(
    state: State,
    hub: Hub,
    memberships: Memberships,
    disconnector: Disconnector,
    replayer: Replayer,
    *,
    metrics: MetricFactory,
) -> RoomChangeListener:
    """Build what delivers the entries of the broker, and applies changes of rooms."""
    return RoomChangeListener(
        hub=hub,
        broker=state.broker,
        rooms=state.connection_rooms,
        replies=state.replies,
        memberships=memberships,
        disconnector=disconnector,
        fall_behind=replayer.fall_behind,
        continue_after=replayer.continue_after,
        metrics=metrics,
    )


def reserved_prefixes(settings: Settings) -> tuple[str, ...]:
    """Return the beginnings of the rooms that only tokens grant."""
    claims = (settings.room_claims, *(each.room_claims or {} for each in settings.issuers))
    return (*RESERVED_PREFIXES, *(prefix for each in claims for prefix in each.values()))


def build_client_events(
    settings: Settings,
    *,
    state: State,
    hub: Hub,
    memberships: Memberships,
    webhooks: Webhooks,
    clock: Clock,
    schedule: Schedule,
    metrics: MetricFactory,
) -> ClientEvents:
    """Build what handles the events of clients."""
    effects = Effects(
        broker=state.broker,
        hub=hub,
        memberships=memberships,
        socket_data=SocketDataChanges(store=state.socket_data, listings=state.listings, broker=state.broker),
        webhooks=webhooks,
        replica=settings.replica_id,
    )
    return ClientEvents(
        settings.event_catalogue,
        effects=effects,
        rates=state.rates,
        acks=state.acks,
        clock=clock,
        schedule=schedule,
        namespaces=settings.namespaces,
        metrics=metrics,
        reserved_prefixes=reserved_prefixes(settings),
    )


def build_publisher(
    settings: Settings, *, state: State, hub: Hub, clock: Clock, metrics: MetricFactory
) -> MessagePublisher:
    """Build what publishes the messages of backends."""
    return MessagePublisher(
        broker=state.broker,
        clock=clock,
        namespaces=settings.namespaces,
        delivery_timer=hub.delivery_timer,
        metrics=metrics,
    )


def build_recovery(
    settings: Settings, *, state: State, clock: Clock, schedule: Schedule, metrics: MetricFactory
) -> Recovery:
    """Build what reads the sessions and the history of clients that reconnect."""
    return Recovery(
        broker=state.broker,
        presence=state.presence,
        sessions=state.sessions,
        clock=clock,
        recovery_seconds=settings.recovery_seconds,
        send_buffer_bytes=settings.send_buffer_bytes,
        budget=ReplayBudget(clock=clock, schedule=schedule, metrics=metrics),
    )


def create_line_limiter(clock: Clock, schedule: Schedule) -> LineLimiter:
    """Return the limit of log lines about rejections."""

    def report(line: str, reason: str, lines: int, addresses: int) -> None:
        log.info(
            "log.lines_suppressed",
            line=line,
            reason=reason,
            lines=lines,
            addresses=addresses,
            seconds=INTERVAL_SECONDS,
        )

    return LineLimiter(now=clock.monotonic, after=schedule.after, report=report)
