"""``RedisState``: build the components of the shared state in one direction, and run them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial

from gateway.domain.errors import StateMisconfigured
from gateway.domain.redis_url import RedisUrl
from gateway.domain.status import StateStatus
from gateway.metrics import MetricFactory
from gateway.state.redis.broker import RedisBroker
from gateway.state.redis.codec import Codec
from gateway.state.redis.commands import Commands
from gateway.state.redis.connection import ConnectionFactory, ServerId
from gateway.state.redis.connection_rooms import RedisConnectionRooms
from gateway.state.redis.disconnects import RedisConnects, RedisDisconnects
from gateway.state.redis.errors import REJECTIONS, Rejections
from gateway.state.redis.guards import RedisAckStore, RedisDedupStore, RedisRateLimits, RedisRevocations
from gateway.state.redis.limits import RedisLimits
from gateway.state.redis.listings import RedisListings, RedisSocketData
from gateway.state.redis.liveness import ProbePublisher, SubscriptionMonitor
from gateway.state.redis.log_reader import LogReader
from gateway.state.redis.logged_messages import RedisLoggedMessages
from gateway.state.redis.losses import Losses
from gateway.state.redis.membership import Membership
from gateway.state.redis.metrics import (
    APPENDS,
    CHANNELS,
    COMMANDS,
    CONNECTIONS,
    RedisMetrics,
    create_callback_metrics,
)
from gateway.state.redis.offline_queue import RedisOfflineQueue
from gateway.state.redis.presence import RedisPresence
from gateway.state.redis.presence_events import (
    PresenceRecording,
    RedisPresenceEvents,
    RedisUserLists,
)
from gateway.state.redis.queues import RedisPartitions, RedisWebhookQueues, WakeUps
from gateway.state.redis.redis_keys import RedisKeys
from gateway.state.redis.replies import RedisReplies
from gateway.state.redis.scripts import load_scripts
from gateway.state.redis.sessions import RedisSessions
from gateway.state.redis.subscriber import ReceiveBuffer, Subscriber


@dataclass(kw_only=True, eq=False, repr=False)
class RedisState(RedisLimits):
    """``gateway.interfaces.State`` over one Redis. Built on the running event loop; works while ``run`` does.

    ``release_version`` is the version of this release. ``timeout_seconds`` bounds every operation. ``on_gap`` gets
    the code of a gap that cannot be filled; ``on_loss_marked`` is called where a replica marked that Redis had lost
    entries. ``on_status_changed`` gets the new status, ``on_replica_reaped`` the name of each replica that was
    reaped.
    """

    url: RedisUrl
    prefix: str
    replica: str
    metrics: MetricFactory
    namespaces: Collection[str] = ("/",)
    release_version: str = ""
    subscription_timeout_seconds: float = 10.0
    timeout_seconds: float = 2.0
    receive_buffer_entries: int = 20_000
    receive_buffer_bytes: int = 32 * 1024 * 1024
    on_gap: Callable[[str], None] = lambda _: None
    on_loss_marked: Callable[[], None] = lambda: None
    on_status_changed: Callable[[StateStatus], None] = lambda _: None
    on_replica_reaped: Callable[[str], None] = lambda _: None
    codec: Codec = field(default_factory=Codec)
    make_keys: Callable[[str, int], RedisKeys] = RedisKeys

    broker: RedisBroker = field(init=False)
    logged_messages: RedisLoggedMessages = field(init=False)
    presence: RedisPresence = field(init=False)
    sessions: RedisSessions = field(init=False)
    connects: RedisConnects = field(init=False)
    disconnects: RedisDisconnects = field(init=False)
    dedup: RedisDedupStore = field(init=False)
    rates: RedisRateLimits = field(init=False)
    revocations: RedisRevocations = field(init=False)
    acks: RedisAckStore = field(init=False)
    presence_events: RedisPresenceEvents = field(init=False)
    user_lists: RedisUserLists = field(init=False)
    partitions: RedisPartitions = field(init=False)
    webhook_queues: RedisWebhookQueues = field(init=False)
    membership: Membership = field(init=False)
    replies: RedisReplies = field(init=False)
    connection_rooms: RedisConnectionRooms = field(init=False)
    listings: RedisListings = field(init=False)
    socket_data: RedisSocketData = field(init=False)
    offline_queue: RedisOfflineQueue = field(init=False)

    def __post_init__(self) -> None:
        self._keys = self.make_keys(self.prefix, self.url.database)
        self._token = secrets.token_urlsafe(12)
        self._server: ServerId | None = None
        self._metrics = RedisMetrics(self.metrics)
        factory = ConnectionFactory(
            self.url, name=f"sio-gateway:{self.replica}", timeout_seconds=self.timeout_seconds
        )
        scripts = load_scripts(self._keys, self.constants())
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
        self._build_presence()
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
        commands, self._wake_ups = self.commands, WakeUps()
        self._losses = Losses(
            commands=commands, codec=self.codec, namespaces=self.namespaces, on_marked=self.on_loss_marked
        )
        self.replies = RedisReplies(commands, self._keys, codec=self.codec, replica=self.replica)
        self.log_reader = LogReader(
            commands=commands,
            receive_buffer=self._receive_buffer,
            keys=self._keys,
            codec=self.codec,
            token=self._token,
            losses=self._losses,
            on_wake=self._wake_ups.wake,
            on_reply=self.replies.receive,
            on_gap=self.on_gap,
            on_probe=self._monitor.probe_received,
            metrics=self._metrics,
        )
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
        self.offline_queue = RedisOfflineQueue(
            commands,
            appends=self._appends,
            losses=self._losses,
            codec=self.codec,
            may_hold=lambda: self.broker.may_hold_kept,
        )
        self.logged_messages = RedisLoggedMessages(
            commands=commands,
            appends=self._appends,
            broker=self.broker,
            offline_queue=self.offline_queue,
            losses=self._losses,
            codec=self.codec,
            age_seconds=self.recovery_seconds + self.history_slack_seconds
            if self.recovery_seconds > 0
            else 0.0,
        )

    def _build_presence(self) -> None:
        commands = self.commands
        self.sessions = RedisSessions(
            commands,
            replica=self.replica,
            suspect_seconds=self.history_slack_seconds,
            log_position=self.log_reader.cursor.__str__,
        )
        self._recording = recording = PresenceRecording(commands)
        self.presence = RedisPresence(
            commands, self._keys, replica=self.replica, pid_of=self.sessions.pid_of, recording=recording
        )
        self.user_lists = RedisUserLists(commands)
        self.listings = RedisListings(commands, self.presence)
        self.socket_data = RedisSocketData(
            commands, self.listings, codec=self.codec, dirty=self.presence.dirty
        )
        self.connects = RedisConnects(broker=self.broker, presence=self.presence, sessions=self.sessions)
        self.disconnects = RedisDisconnects(self.presence, self.sessions)
        self.connection_rooms = RedisConnectionRooms(
            commands,
            self._keys,
            presence=self.presence,
            sessions=self.sessions,
            subscriber=self.subscriber,
            log_reader=self.log_reader,
        )
        self.membership = Membership(
            commands=commands,
            presence=self.presence,
            sessions=self.sessions,
            recording=recording,
            dedup=self.dedup,
            codec=self.codec,
            replica=self.replica,
            process=self._token,
            release_version=self.release_version,
            lease_seconds=self.lease_seconds,
            on_reaped=self.on_replica_reaped,
            metrics=self._metrics,
        )
        self.presence_events = RedisPresenceEvents(
            commands,
            recording,
            on_begun=self.presence.mark_all_dirty,
            on_expired=self.membership.reap_expired,
        )
        self.partitions = RedisPartitions(
            commands,
            replica=self.replica,
            process=self._token,
            wake_ups=self._wake_ups,
            holds_lease=self.membership.holds_lease,
        )
        self.webhook_queues = RedisWebhookQueues(
            commands, confirmed=self._appends, owner=self.partitions.owner, wake_ups=self._wake_ups
        )

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
            "revoked_tokens": held.revoked_tokens,
            "offline_queue_bytes": held.offline_queue_bytes,
            "rate_buckets": held.rate_buckets,
            "replicas": held.replicas,
            "channels": len(self.subscriber),
            "receive_buffer_entries": len(self._receive_buffer),
            "redis_pending_commands": sum(each.waiting for each in {self.commands, self._appends}),
            "remembered_users": len(self._recording),
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


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
