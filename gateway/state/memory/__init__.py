"""The state of a gateway with one replica: the default. Its behaviour defines what the Redis state must do.

broker     MemoryBroker: appends entries, and queues them for the listener or delivers them at once
delivery_queue  DeliveryQueue: what was accepted and not delivered yet
guards     MemoryAckStore, MemoryDedupStore, MemoryRateLimits
connection_rooms  MemoryConnectionRooms: changes of rooms in presence and sessions
history    History: the recent entries, indexed by room; where it was trimmed
logged_messages  MemoryLoggedMessages: the newest messages for one address; erases messages
offline_queue  KeptMessages, MemoryOfflineQueue: messages of users until they are received
presence   MemoryPresence: the connections of each user
listings   MemoryListings, MemorySocketData: lists of users, rooms and connections
presence_events  MemoryPresenceEvents, MemoryUserLists
queues     MemoryWebhookQueues: notifications and dead letters; MemoryPartitions
replies    MemoryReplies: replies of this replica to itself
revocations  MemoryRevocations: users and tokens that backends revoked
sessions   MemorySessions: recovery sessions, in use or parked; MemoryConnects, MemoryDisconnects
ttl_map    TtlMap: a mapping whose items expire

Nothing outlives the process. Everything kept here has a bound and an end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gateway.domain.dedup import MAX_USER_ACK_BYTES, MAX_USER_ACKS
from gateway.domain.messages import PublishResult
from gateway.domain.notifications import (
    MAX_DEAD_LETTER_BYTES,
    MAX_DEAD_LETTERS,
    MAX_QUEUED,
    MAX_QUEUED_BYTES,
)
from gateway.domain.offline_queue import MAX_KEPT, MAX_KEPT_BYTES, MAX_OFFLINE_BYTES
from gateway.domain.status import StateStatus
from gateway.interfaces import Clock
from gateway.state.memory.broker import MIN_RESULT_SECONDS, MIN_RESULTS, MemoryBroker
from gateway.state.memory.connection_rooms import MemoryConnectionRooms
from gateway.state.memory.delivery_queue import MAX_DELIVERIES, MAX_DELIVERIES_WAIT_SECONDS, DeliveryQueue
from gateway.state.memory.guards import MemoryAckStore, MemoryDedupStore, MemoryRateLimits
from gateway.state.memory.history import History
from gateway.state.memory.listings import MemoryListings, MemorySocketData
from gateway.state.memory.logged_messages import MemoryLoggedMessages
from gateway.state.memory.offline_queue import KeptMessages, MemoryOfflineQueue
from gateway.state.memory.presence import MemoryPresence
from gateway.state.memory.presence_events import MemoryPresenceEvents, MemoryUserLists
from gateway.state.memory.queues import MemoryPartitions, MemoryWebhookQueues
from gateway.state.memory.replies import MemoryReplies
from gateway.state.memory.revocations import MemoryRevocations
from gateway.state.memory.sessions import MemoryConnects, MemoryDisconnects, MemorySessions
from gateway.state.memory.ttl_map import TtlMap

__all__ = ["MemoryState"]

DAY = 86_400.0


@dataclass(kw_only=True, eq=False, repr=False, slots=True)
class MemoryState:
    """Satisfies ``gateway.interfaces.State``.

    When a limit is reached, the oldest item is removed first: from the history (a client that misses it gets
    ``recovery:failed``), the parked sessions, the times of last seen and the rate buckets. Dedup keys and revocations
    are never removed early: the request is rejected with BrokerUnavailable instead. So is an append that found no space
    in the delivery queue for ``delivery_queue_wait_seconds``. An append to many connections waits until the queue has
    fewer than ``delivery_queue_deliveries`` to make, but for no longer than ``delivery_queue_deliveries_wait_seconds``.

    ``history_slack_seconds`` is how much longer than ``recovery_seconds`` an entry is held: as long as a connection
    may look alive after its network failed. ``revocation_seconds`` is how long a token may live.
    ``release_version`` is the version of this release. With a ``recovery_seconds`` of 0 neither history nor
    sessions are kept.
    """

    clock: Clock
    replica: str
    history_length: int
    history_bytes: int
    recovery_seconds: float
    history_slack_seconds: float = 60.0
    trim_markers: int = 100_000
    delivery_queue_length: int = 1_000
    delivery_queue_bytes: int = 16 * 1024 * 1024
    delivery_queue_wait_seconds: float = 2.0
    delivery_queue_deliveries: int = MAX_DELIVERIES
    delivery_queue_deliveries_wait_seconds: float = MAX_DELIVERIES_WAIT_SECONDS
    nonces: int = 5_000_000
    idempotency_seconds: float = 3600.0
    idempotency_keys: int = 1_000_000
    revocation_seconds: float = 30 * DAY
    revoked_users: int = 1_000_000
    revoked_tokens: int = 1_000_000
    last_seen_seconds: float = 30 * DAY
    last_seen_users: int = 100_000
    max_parked_sessions: int = 100_000
    max_parked_of_user: int | None = None
    max_parked_bytes: int = 256 * 1024 * 1024
    rate_buckets: int = 100_000
    ack_seconds: float = 600.0
    max_acks: int = 100_000
    max_user_acks: int = MAX_USER_ACKS
    max_user_ack_bytes: int = MAX_USER_ACK_BYTES

    max_queued: int = MAX_QUEUED
    max_queued_bytes: int = MAX_QUEUED_BYTES
    max_dead_letters: int = MAX_DEAD_LETTERS
    max_dead_letter_bytes: int = MAX_DEAD_LETTER_BYTES
    max_offline_states: int = 100_000
    release_version: str = ""
    max_kept: int = MAX_KEPT
    max_kept_bytes: int = MAX_KEPT_BYTES
    max_offline_bytes: int = MAX_OFFLINE_BYTES

    broker: MemoryBroker = field(init=False)
    presence: MemoryPresence = field(init=False)
    sessions: MemorySessions = field(init=False)
    connects: MemoryConnects = field(init=False)
    disconnects: MemoryDisconnects = field(init=False)
    dedup: MemoryDedupStore = field(init=False)
    rates: MemoryRateLimits = field(init=False)
    revocations: MemoryRevocations = field(init=False)
    acks: MemoryAckStore = field(init=False)
    webhook_queues: MemoryWebhookQueues = field(init=False)
    replies: MemoryReplies = field(init=False)
    connection_rooms: MemoryConnectionRooms = field(init=False)
    socket_data: MemorySocketData = field(init=False)
    offline_queue: MemoryOfflineQueue = field(init=False)
    logged_messages: MemoryLoggedMessages = field(init=False)
    _kept: KeptMessages = field(init=False)
    _history: History = field(init=False)
    _delivery_queue: DeliveryQueue = field(init=False)
    _results: TtlMap[str, PublishResult] = field(init=False)
    _notified: TtlMap[str, bool] = field(init=False)

    def __post_init__(self) -> None:
        clock = self.clock
        self.replies = MemoryReplies(self.replica)
        self.presence = MemoryPresence(
            clock=clock,
            replica=self.replica,
            last_seen_seconds=self.last_seen_seconds,
            max_last_seen=self.last_seen_users,
            recovery_seconds=self.recovery_seconds,
            max_recoverable=self.max_parked_sessions,
            max_offline_states=self.max_offline_states,
            release_version=self.release_version,
        )
        self.socket_data = MemorySocketData(self.presence.listings, clock=clock)
        self.sessions = MemorySessions(
            clock=clock,
            recovery_seconds=self.recovery_seconds,
            max_parked=self.max_parked_sessions,
            max_parked_of_user=self.max_parked_of_user,
            max_parked_bytes=self.max_parked_bytes,
            on_removed=self.presence.forget_recoverable,
        )
        self.disconnects = MemoryDisconnects(self.presence, self.sessions)
        self.dedup = MemoryDedupStore(
            clock=clock,
            max_nonces=self.nonces,
            idempotency_seconds=self.idempotency_seconds,
            max_idempotency_keys=self.idempotency_keys,
        )
        self.rates = MemoryRateLimits(clock=clock, max_buckets=self.rate_buckets)
        self.revocations = MemoryRevocations(
            clock=clock,
            seconds=self.revocation_seconds,
            max_users=self.revoked_users,
            max_tokens=self.revoked_tokens,
        )
        self.acks = MemoryAckStore(
            clock=clock,
            seconds=self.ack_seconds,
            max_acks=self.max_acks,
            max_user_acks=self.max_user_acks,
            max_user_ack_bytes=self.max_user_ack_bytes,
        )
        self.webhook_queues = MemoryWebhookQueues(
            clock=clock,
            replica=self.replica,
            max_queued=self.max_queued,
            max_queued_bytes=self.max_queued_bytes,
            max_dead_letters=self.max_dead_letters,
            max_dead_letter_bytes=self.max_dead_letter_bytes,
        )
        self._make_broker()

    def _make_broker(self) -> None:
        age_seconds = self.recovery_seconds + self.history_slack_seconds if self.recovery_seconds > 0 else 0.0
        self._history = History(
            clock=self.clock,
            max_entries=self.history_length,
            max_bytes=self.history_bytes,
            age_seconds=age_seconds,
            max_markers=self.trim_markers,
        )
        self._delivery_queue = DeliveryQueue(
            max_entries=self.delivery_queue_length,
            max_bytes=self.delivery_queue_bytes,
            wait_seconds=self.delivery_queue_wait_seconds,
            max_deliveries=self.delivery_queue_deliveries,
            deliveries_wait_seconds=self.delivery_queue_deliveries_wait_seconds,
        )
        known_seconds = max(age_seconds, MIN_RESULT_SECONDS)
        known = max(self.history_length, MIN_RESULTS)
        self._results = TtlMap(clock=self.clock, seconds=known_seconds, max_items=known)
        self._notified = TtlMap(clock=self.clock, seconds=known_seconds, max_items=known)
        self._kept = KeptMessages(
            clock=self.clock,
            max_kept=self.max_kept,
            max_kept_bytes=self.max_kept_bytes,
            max_bytes=self.max_offline_bytes,
        )
        self.broker = MemoryBroker(
            clock=self.clock,
            history=self._history,
            delivery_queue=self._delivery_queue,
            presence=self.presence,
            dedup=self.dedup,
            revocations=self.revocations,
            results=self._results,
            queues=self.webhook_queues,
            notified=self._notified,
            kept=self._kept,
            replica=self.replica,
        )
        self.offline_queue = MemoryOfflineQueue(self._kept, self.broker)
        self.logged_messages = MemoryLoggedMessages(history=self._history, kept=self._kept, log=self.broker)

        self.connection_rooms = MemoryConnectionRooms(self.broker, self.presence, self.sessions)
        self.connects = MemoryConnects(
            broker=self.broker,
            presence=self.presence,
            sessions=self.sessions,
            revocations=self.revocations,
            kept=self._kept,
        )

    async def run(self, started: asyncio.Event) -> None:
        """Wait until cancelled: memory needs no work in the background."""
        started.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Do nothing: there are no other replicas."""

    @property
    def partitions(self) -> MemoryPartitions:
        return self.webhook_queues.partitions

    @property
    def presence_events(self) -> MemoryPresenceEvents:
        return self.presence.events

    @property
    def user_lists(self) -> MemoryUserLists:
        return self.presence.lists

    @property
    def listings(self) -> MemoryListings:
        return self.presence.listings

    @property
    def status(self) -> StateStatus:
        """Always healthy: memory is always available."""
        return StateStatus.HEALTHY

    @property
    def rejection(self) -> str:
        """Always empty: memory rejects nothing."""
        return ""

    def join_wait_seconds(self, room: str) -> float:  # noqa: ARG002  # the same for every room
        """Return 0: no replica and no sid of another release lives in this process."""
        return 0.0

    def sizes(self) -> dict[str, float]:
        """How much of everything that has a limit is held now, under stable names, for the metrics."""
        return {
            "history_entries": len(self._history),
            "history_bytes": self._history.bytes,
            "history_age_seconds": self._history.oldest_age_seconds,
            "history_addresses": self._history.room_indexes,
            "trim_markers": len(self._history.trim_markers),
            "publish_results": len(self._results),
            "delivery_queue_entries": len(self._delivery_queue),
            "delivery_queue_deliveries": self._delivery_queue.deliveries,
            "nonces": len(self.dedup.nonces),
            "idempotency_keys": len(self.dedup.results),
            "revoked_users": self.revocations.users,
            "revoked_tokens": self.revocations.tokens,
            "connections": len(self.presence),
            "present_addresses": self.presence.addresses,
            "last_seen_users": len(self.presence.last_seen),
            "sessions": len(self.sessions),
            "rate_buckets": len(self.rates),
            "event_acks": len(self.acks),
            "offline_queue_bytes": self._kept.bytes,
            "notification_ids": len(self._notified),
            **self.webhook_queues.sizes(),
            **self.presence.events.sizes(),
        }
