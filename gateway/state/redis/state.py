"""``RedisState``: build the components of the shared state in one direction, and run them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from gateway.domain.dedup import (
    AHEAD_SECONDS,
    CLOCK_TOLERANCE_SECONDS,
    MAX_ACK_BYTES,
    MAX_USER_ACK_BYTES,
    MAX_USER_ACKS,
    WINDOW_SECONDS,
)
from gateway.domain.errors import StateMisconfigured
from gateway.domain.redis_url import RedisUrl
from gateway.domain.status import StateStatus
from gateway.metrics import MetricFactory
from gateway.state.redis.broker import RedisBroker
from gateway.state.redis.codec import TAGGED_FORMAT, TILDE_FORMAT, Codec
from gateway.state.redis.commands import BRANCHES, Commands
from gateway.state.redis.connection import ConnectionFactory, ServerId
from gateway.state.redis.disconnects import RedisDisconnects
from gateway.state.redis.errors import REJECTIONS, Rejections
from gateway.state.redis.guards import RedisAckStore, RedisDedupStore, RedisRateLimits, RedisRevocations
from gateway.state.redis.liveness import ProbePublisher, SubscriptionMonitor
from gateway.state.redis.log_reader import LogReader
from gateway.state.redis.losses import Losses
from gateway.state.redis.membership import KEEP_SECONDS, Membership
from gateway.state.redis.metrics import (
    APPENDS,
    CHANNELS,
    COMMANDS,
    CONNECTIONS,
    RedisMetrics,
    create_callback_metrics,
)
from gateway.state.redis.presence import RedisPresence
from gateway.state.redis.redis_keys import RedisKeys
from gateway.state.redis.scripts import load_scripts
from gateway.state.redis.sessions import RedisSessions
from gateway.state.redis.subscriber import ReceiveBuffer, Subscriber

DAY: Final = 86_400.0
_SEGMENTS: Final = 8
"""The log is cut in segments of an eighth of each bound, so it holds at most an eighth more than its bounds."""
_BYTE_SEGMENTS: Final = 32
"""The same for bytes: a segment is the least that is removed when the indexes take too much."""
_MIN_ENTRY_BYTES: Final = 300
"""What HISTORY_BYTES counts for an entry at least."""
_MAX_SEGMENT_ENTRIES: Final = 1_000
_MIN_RESULT_SECONDS: Final = 60.0
_MIN_RESULTS: Final = 1_000
"""Results by message id are remembered at least for so long and so many, whatever the bounds of the history."""
_VOLATILE_SECONDS: Final = 10.0
"""A volatile message that is too large for a channel is kept for twice as long."""


@dataclass(kw_only=True, eq=False, repr=False)
class RedisState:
    """``gateway.interfaces.State`` over one Redis. Built on the running event loop; works while ``run`` does.

    ``timeout_seconds`` bounds every operation. ``on_gap`` gets the code of a gap that cannot be filled;
    ``on_loss_marked`` is called where a replica marked that Redis had lost entries. ``on_status_changed`` gets the new
    status, ``on_replica_reaped`` the name of each replica that was reaped.
    """

    url: RedisUrl
    prefix: str
    replica: str
    history_length: int
    history_bytes: int
    recovery_seconds: float
    metrics: MetricFactory
    namespaces: Collection[str] = ("/",)
    history_slack_seconds: float = 60.0
    lease_seconds: float = 15.0
    subscription_timeout_seconds: float = 10.0
    timeout_seconds: float = 2.0
    nonces: int = 15_000_000
    nonce_seconds: float = 720.0
    idempotency_seconds: float = 3600.0
    idempotency_keys: int = 5_000_000
    revocation_seconds: float = 30 * DAY
    last_seen_seconds: float = 30 * DAY
    ack_seconds: float = 600.0
    max_acks: int = 1_000_000
    max_parked_of_user: int | None = None
    max_parked_bytes: int = 2 * 1024 * 1024 * 1024
    last_seen_users: int = 1_000_000
    revoked_users: int = 1_000_000
    rate_buckets: int = 100_000
    wait_replicas: int = 0
    max_user_acks: int = MAX_USER_ACKS
    max_user_ack_bytes: int = MAX_USER_ACK_BYTES
    receive_buffer_entries: int = 20_000
    receive_buffer_bytes: int = 32 * 1024 * 1024
    on_gap: Callable[[str], None] = lambda _: None
    on_loss_marked: Callable[[], None] = lambda: None
    on_status_changed: Callable[[StateStatus], None] = lambda _: None
    on_replica_reaped: Callable[[str], None] = lambda _: None
    codec: Codec = field(default_factory=Codec)
    make_keys: Callable[[str, int], RedisKeys] = RedisKeys

    broker: RedisBroker = field(init=False)
    presence: RedisPresence = field(init=False)
    sessions: RedisSessions = field(init=False)
    disconnects: RedisDisconnects = field(init=False)
    dedup: RedisDedupStore = field(init=False)
    rates: RedisRateLimits = field(init=False)
    revocations: RedisRevocations = field(init=False)
    acks: RedisAckStore = field(init=False)
    membership: Membership = field(init=False)

    def __post_init__(self) -> None:
        self._keys = self.make_keys(self.prefix, self.url.database)
        self._token = secrets.token_urlsafe(12)
        self._server: ServerId | None = None
        self._metrics = RedisMetrics(self.metrics)
        factory = ConnectionFactory(
            self.url, name=f"sio-gateway:{self.replica}", timeout_seconds=self.timeout_seconds
        )
        scripts = load_scripts(self._keys, self._limits())
        self.commands = Commands(
            factory, scripts, timeout_seconds=self.timeout_seconds, metrics=self._metrics
        )
        self._appends = self.commands
        if self.wait_replicas:
            # WAIT blocks its connection: heartbeats and connects must not wait for the replicas of Redis.
            self._appends = Commands(
                factory,
                scripts,
                timeout_seconds=self.timeout_seconds,
                metrics=self._metrics,
                connection=APPENDS,
                clock=self.commands.clock,
                wait_replicas=self.wait_replicas,
            )
        self._rejections = Rejections()
        self._monitor = SubscriptionMonitor(
            stall_seconds=self.subscription_timeout_seconds,
            on_status_changed=self.on_status_changed,
            metrics=self._metrics,
        )
        self._receive_buffer = ReceiveBuffer(
            max_entries=self.receive_buffer_entries, max_bytes=self.receive_buffer_bytes
        )
        self.subscriber = Subscriber(
            factory,
            self._receive_buffer,
            timeout_seconds=self.timeout_seconds,
            permanent=[self._keys.probe(self.replica), self._keys.losses],
            is_unavailable=lambda: self.commands.is_unavailable,
            record=partial(self._rejections.record, CHANNELS),
            metrics=self._metrics,
        )
        self._build_stores()
        self._create_callback_metrics()
        self._probe_publisher = ProbePublisher(
            commands=self.commands,
            subscriber=self.subscriber,
            log_reader=self.log_reader,
            dedup=self.dedup,
            monitor=self._monitor,
            rejections=self._rejections,
            codec=self.codec,
            channel=self._keys.probe(self.replica),
            token=self._token,
            stall_seconds=self.subscription_timeout_seconds,
        )

    def _build_stores(self) -> None:
        commands = self.commands
        self._losses = Losses(
            commands=commands, codec=self.codec, namespaces=self.namespaces, on_marked=self.on_loss_marked
        )
        self.log_reader = LogReader(
            commands=commands,
            receive_buffer=self._receive_buffer,
            keys=self._keys,
            codec=self.codec,
            token=self._token,
            losses=self._losses,
            on_gap=self.on_gap,
            on_probe=self._monitor.probe_received,
            metrics=self._metrics,
        )
        self.sessions = RedisSessions(
            commands,
            replica=self.replica,
            suspect_seconds=self.history_slack_seconds,
            log_position=self.log_reader.cursor.__str__,
        )
        self.presence = RedisPresence(commands, self._keys, replica=self.replica, pid_of=self.sessions.pid_of)
        self.disconnects = RedisDisconnects(self.presence, self.sessions)
        self.dedup = RedisDedupStore(commands)
        self.rates = RedisRateLimits(commands)
        self.revocations = RedisRevocations(commands, self._keys)
        self.acks = RedisAckStore(commands)
        self.broker = RedisBroker(
            commands=commands,
            appends=self._appends,
            subscriber=self.subscriber,
            log_reader=self.log_reader,
            dedup=self.dedup,
            losses=self._losses,
            keys=self._keys,
            codec=self.codec,
        )
        self.membership = Membership(
            commands=commands,
            presence=self.presence,
            sessions=self.sessions,
            dedup=self.dedup,
            codec=self.codec,
            replica=self.replica,
            process=self._token,
            lease_seconds=self.lease_seconds,
            on_reaped=self.on_replica_reaped,
            metrics=self._metrics,
        )

    def _limits(self) -> dict[str, int | bool]:
        age = self.recovery_seconds + self.history_slack_seconds
        return {
            "shift": 0,
            "keep": _ms(max(KEEP_SECONDS, 2 * age)),
            "branches": BRANCHES,
            "waits": self.wait_replicas > 0,
            "lease": _ms(self.lease_seconds),
            "tilde_format": TILDE_FORMAT,
            "tagged_byte": ord(str(TAGGED_FORMAT)),
            "age": _ms(age),
            "recovery": _ms(self.recovery_seconds),
            # Without a recovery window the log serves resyncs alone, and no client needs the part of one address.
            "indexed": self.recovery_seconds > 0,
            "history_length": self.history_length,
            "history_bytes": self.history_bytes,
            "segment_length": max(1, min(_MAX_SEGMENT_ENTRIES, self.history_length // _SEGMENTS)),
            "segment_bytes": max(1, self.history_bytes // _BYTE_SEGMENTS),
            "segment_age": _ms(age / _SEGMENTS),
            "ids": max(min(self.history_length, self.history_bytes // _MIN_ENTRY_BYTES), _MIN_RESULTS),
            "index_format": TAGGED_FORMAT,
            "ids_age": _ms(max(age, _MIN_RESULT_SECONDS)),
            "nonce_window": _ms(self.nonce_seconds / 2),
            "nonces": max(1, self.nonces // 3),
            "window": WINDOW_SECONDS,
            "ahead": AHEAD_SECONDS,
            "clock_tolerance": _ms(CLOCK_TOLERANCE_SECONDS),
            "answer_window": _ms(self.idempotency_seconds / 4),
            "answers": max(1, self.idempotency_keys // 5),
            "ack": _ms(self.ack_seconds),
            "ack_window": _ms(self.ack_seconds / 4),
            "acks": max(1, self.max_acks // 5),
            "ack_bytes": MAX_ACK_BYTES,
            "user_acks": self.max_user_acks,
            "user_ack_bytes": self.max_user_ack_bytes,
            "volatile_window": _ms(_VOLATILE_SECONDS),
            "volatile_bytes": max(1, self.history_bytes // 4),
            "revocation": _ms(self.revocation_seconds),
            "last_seen": _ms(self.last_seen_seconds),
            "last_seen_users": self.last_seen_users,
            "revoked_users": self.revoked_users,
            "rate_buckets": self.rate_buckets,
            "user_parked": self.max_parked_of_user or 0,
            "parked_bytes": self.max_parked_bytes,
        }

    # run and close

    async def run(self, started: asyncio.Event) -> None:
        """Work until cancelled; set ``started`` once the stores can be used.

        Raises:
            StateMisconfigured: Redis cannot be used as it is configured, or another process has the name of this one.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.commands.run(self._server_connected), name="redis commands")
                await self.commands.connected_once.wait()
                if self._appends is not self.commands:
                    tasks.create_task(self._appends.run(self._appends_connected), name="redis appends")
                    await self._appends.connected_once.wait()
                await self._probe_publisher.start(self.membership.acquire)
                tasks.create_task(self.subscriber.run(), name="redis channels")
                await self.subscriber.subscribed.wait()
                tasks.create_task(self.membership.run(), name="redis membership")
                tasks.create_task(self._probe_publisher.run(), name="redis probes")
                tasks.create_task(self._losses.run(), name="redis losses")
                await self.membership.wait_for_peers()
                started.set()
        except ExceptionGroup as failures:
            unusable, _ = failures.split(StateMisconfigured)
            if unusable is not None:
                raise _first(unusable) from None
            raise

    async def close(self) -> None:
        """Release the lease, once no client is connected and none can connect, while ``run`` still works.

        Takes RELEASE_SECONDS at most and raises nothing. Does nothing after ``run`` has ended: other replicas reap a
        replica that failed.
        """
        await self.membership.release()

    @property
    def status(self) -> StateStatus:
        """What this replica can do now, as far as the state goes."""
        return self._monitor.status

    @property
    def rejection(self) -> str:
        """What Redis rejects although it answers, as a sentence; empty when it rejects nothing."""
        return self._rejections.reason

    def join_wait_seconds(self, room: str) -> float:
        """Return for how long clients may not join a room still: a replica or sid of the previous release may live."""
        return self.membership.join_wait_seconds(room)

    def sizes(self) -> dict[str, float]:
        """Return how much of everything that has a limit is held now, under stable names, for the metrics."""
        held = self.membership.sizes
        oldest_ms = held.history_oldest_ms
        return {
            "history_entries": held.history_entries,
            "history_bytes": held.history_bytes,
            "history_age_seconds": max(0.0, (self.commands.redis_ms() - oldest_ms) / 1000)
            if oldest_ms
            else 0.0,
            "nonces": held.nonces,
            "parked_sessions": held.parked_sessions,
            "last_seen_users": held.last_seen_users,
            "revoked_users": held.revoked_users,
            "rate_buckets": held.rate_buckets,
            "replicas": held.replicas,
            "channels": len(self.subscriber),
            "receive_buffer_entries": len(self._receive_buffer),
            "redis_pending_commands": sum(each.waiting for each in {self.commands, self._appends}),
            "connections": len(self.presence),
            "connections_dirty": len(self.presence.dirty),
            "sessions": len(self.sessions),
            "sessions_dirty": self.sessions.unwritten,
        }

    def _create_callback_metrics(self) -> None:
        create_callback_metrics(
            self.metrics,
            connected=lambda: {
                (COMMANDS,): self.commands.is_connected,
                (CHANNELS,): self.subscriber.is_connected,
                **({(APPENDS,): self._appends.is_connected} if self.wait_replicas else {}),
            },
            rejecting=lambda: {
                (connection, code): self._rejections.now.get(connection) == code
                for connection in CONNECTIONS
                for code in REJECTIONS
            },
            probe_age=lambda: self._monitor.age_seconds,
            lag=lambda: self._monitor.lag_seconds,
            clock_skew=lambda: self.commands.clock_skew_seconds,
            messages_received=lambda: self.log_reader.messages_received,
            receive_buffer_overflows=lambda: self._receive_buffer.overflows,
        )

    def _server_connected(self, identity: ServerId) -> None:
        """Follow the connection for scripts to another server, which does not publish to our subscriptions."""
        if self._server is not None and identity != self._server:
            self.subscriber.reconnect()
            self.membership.mark_stale()
            self._losses.server_changed()
            if self._appends is not self.commands:
                self._appends.reconnect()
        self._server = identity
        self.membership.wake()

    def _appends_connected(self, identity: ServerId) -> None:
        """Look for what was accepted on the server before, if the connection for appends reaches another one first."""
        if identity != self._server:
            self._losses.server_changed()


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
