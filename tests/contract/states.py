"""The interface that the contract suites need of a state, and its implementations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Protocol

from gateway.domain.redis_url import parse_redis_url
from gateway.interfaces import (
    AckStore,
    Broker,
    ConnectionRooms,
    Connects,
    DedupStore,
    Disconnects,
    Listings,
    LoggedMessages,
    OfflineQueue,
    Partitions,
    Presence,
    PresenceEvents,
    RateLimits,
    Replies,
    Revocations,
    Sessions,
    SocketDataStore,
    UserLists,
    WebhookQueues,
)
from gateway.metrics import MetricFactory
from gateway.state.memory import MemoryState
from gateway.state.redis import RedisState
from gateway.state.redis.limits import KEEP_SECONDS
from tests.support.clock import FakeClock
from tests.support.redis_clock import shift_clock
from tests.support.redis_server import RedisServer, shared_server

REPLICA = "replica-1"


class StateUnderTest(Protocol):
    """A state, empty at first, with a clock that a test may move.

    Its time also passes by itself, and no operation is free of delay: a test never counts on a moment.
    """

    broker: Broker
    logged_messages: LoggedMessages
    presence: Presence
    sessions: Sessions
    connects: Connects
    disconnects: Disconnects
    dedup: DedupStore
    rates: RateLimits
    revocations: Revocations
    acks: AckStore
    partitions: Partitions
    webhook_queues: WebhookQueues
    presence_events: PresenceEvents
    user_lists: UserLists
    connection_rooms: ConnectionRooms
    replies: Replies
    listings: Listings
    socket_data: SocketDataStore
    offline_queue: OfflineQueue

    def now(self) -> float:
        """Return the wall-clock time of the store, in seconds since 1970."""
        ...

    async def advance(self, seconds: float) -> None:
        """Age everything that is kept, and advance the wall clock."""
        ...

    async def set_clock_back(self, seconds: float) -> None:
        """Set back the wall clock that positions are made from; nothing that is kept becomes younger."""
        ...

    async def close(self) -> None:
        """End the state after the test."""
        ...


class MakeState(Protocol):
    """Makes a new empty state. Ages are as exact as the store's; ``history_length`` and ``history_bytes`` are what is
    held at least, and a store may hold up to twice as much."""

    def __call__(
        self,
        *,
        history_length: int = 1_000,
        history_bytes: int = 10_000_000,
        recovery_seconds: float = 120.0,
        history_slack_seconds: float = 60.0,
        idempotency_seconds: float = 3600.0,
        idempotency_keys: int = 100_000,
        revocation_seconds: float = 86_400.0,
        last_seen_seconds: float = 86_400.0,
        max_user_acks: int = 5_000,
        max_user_ack_bytes: int = 2_000_000,
        max_queued: int = 10_000,
        max_queued_bytes: int = 10_000_000,
        max_dead_letters: int = 1_000,
        max_dead_letter_bytes: int = 10_000_000,
        max_kept: int = 100,
        max_kept_bytes: int = 262_144,
        max_offline_bytes: int = 10_000_000,
    ) -> Awaitable[StateUnderTest]: ...


class MemoryUnderTest:
    """The memory state."""

    def __init__(self, clock: FakeClock, state: MemoryState) -> None:
        self._clock = clock
        self.broker: Broker = state.broker
        self.logged_messages: LoggedMessages = state.logged_messages
        self.presence: Presence = state.presence
        self.sessions: Sessions = state.sessions
        self.connects: Connects = state.connects
        self.disconnects: Disconnects = state.disconnects
        self.dedup: DedupStore = state.dedup
        self.rates: RateLimits = state.rates
        self.revocations: Revocations = state.revocations
        self.acks: AckStore = state.acks
        self.partitions: Partitions = state.partitions
        self.webhook_queues: WebhookQueues = state.webhook_queues
        self.presence_events: PresenceEvents = state.presence_events
        self.user_lists: UserLists = state.user_lists
        self.connection_rooms: ConnectionRooms = state.connection_rooms
        self.replies: Replies = state.replies
        self.listings: Listings = state.listings
        self.socket_data: SocketDataStore = state.socket_data
        self.offline_queue: OfflineQueue = state.offline_queue

    def now(self) -> float:
        return self._clock.now()

    async def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)

    async def set_clock_back(self, seconds: float) -> None:
        self._clock.set_back(seconds)

    async def close(self) -> None:
        pass


async def make_memory(
    *,
    history_length: int = 1_000,
    history_bytes: int = 10_000_000,
    recovery_seconds: float = 120.0,
    **others: Any,
) -> StateUnderTest:
    clock = FakeClock(time.time(), time.monotonic(), running=True)
    state = MemoryState(
        clock=clock,
        replica=REPLICA,
        history_length=history_length,
        history_bytes=history_bytes,
        recovery_seconds=recovery_seconds,
        **others,
    )
    return MemoryUnderTest(clock, state)


class RedisUnderTest:
    """The Redis state over a real server. ``advance`` does what the processes would do as time passes."""

    STRIDE_SECONDS = KEEP_SECONDS / 3

    def __init__(self, server: RedisServer, prefix: str, state: RedisState, task: asyncio.Task[None]) -> None:
        self._server = server
        self._prefix = prefix
        self._state = state
        self._task = task
        self._offset = 0.0
        self.broker: Broker = state.broker
        self.logged_messages: LoggedMessages = state.logged_messages
        self.presence: Presence = state.presence
        self.sessions: Sessions = state.sessions
        self.connects: Connects = state.connects
        self.disconnects: Disconnects = state.disconnects
        self.dedup: DedupStore = state.dedup
        self.rates: RateLimits = state.rates
        self.revocations: Revocations = state.revocations
        self.acks: AckStore = state.acks
        self.partitions: Partitions = state.partitions
        self.webhook_queues: WebhookQueues = state.webhook_queues
        self.presence_events: PresenceEvents = state.presence_events
        self.user_lists: UserLists = state.user_lists
        self.connection_rooms: ConnectionRooms = state.connection_rooms
        self.replies: Replies = state.replies
        self.listings: Listings = state.listings
        self.socket_data: SocketDataStore = state.socket_data
        self.offline_queue: OfflineQueue = state.offline_queue

    def now(self) -> float:
        return time.time() + self._offset

    async def advance(self, seconds: float) -> None:
        while seconds > 0:
            stride = min(seconds, self.STRIDE_SECONDS)
            seconds -= stride
            self._offset += stride
            self._server.age(self._prefix, stride)
            shift_clock(self._state, stride)
            # A live replica renews its lease and the TTL of its keys.
            ends = int(self.now() * 1000) + 60_000
            self._server.execute("ZADD", f"{self._prefix}:leases", "XX", ends, REPLICA)
            # And users are set offline each second.
            swept = f"{int(self.now() * 1000)} 0"
            self._server.execute("SET", f"{self._prefix}:swept", swept, "XX", "PX", 60_000)
            await self._state.membership.heartbeat()
            await self._state.presence.refresh_ttl(0)

    async def set_clock_back(self, seconds: float) -> None:
        self._offset -= seconds
        shift_clock(self._state, -seconds)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


_prefixes = count()


async def make_redis(
    *,
    history_length: int = 1_000,
    history_bytes: int = 10_000_000,
    recovery_seconds: float = 120.0,
    **others: Any,
) -> StateUnderTest:
    server = shared_server()
    prefix = f"contract{next(_prefixes)}"
    state = RedisState(
        url=parse_redis_url(server.url),
        prefix=prefix,
        replica=REPLICA,
        history_length=history_length,
        history_bytes=history_bytes,
        recovery_seconds=recovery_seconds,
        metrics=MetricFactory(),
        **others,
    )
    started = asyncio.Event()
    task = asyncio.create_task(state.run(started))
    await started.wait()
    return RedisUnderTest(server, prefix, state, task)


IMPLEMENTATIONS: dict[str, Callable[..., Awaitable[StateUnderTest]]] = {
    "memory": make_memory,
    "redis": make_redis,
}
