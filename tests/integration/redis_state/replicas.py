"""Replicas of a test: Redis states with listeners, all in this process, over one real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from gateway.domain.dedup import DedupKey
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import LogEntry, Message, PublishResult, new_id
from gateway.domain.positions import Position
from gateway.domain.presence import PresentConnection
from gateway.domain.redis_url import parse_redis_url
from gateway.domain.status import StateStatus
from gateway.domain.traces import Trace
from gateway.metrics import MetricFactory
from gateway.state.redis import RedisState
from gateway.state.redis.codec import Codec
from gateway.state.redis.records import FORMS, WRITERS
from tests.contract.recording_listener import RecordingListener
from tests.contract.values import at
from tests.support.metrics import counted
from tests.support.redis_server import RedisServer
from tests.support.waiter import LOOK_SECONDS, TIMEOUT_SECONDS, await_until

PREFIX = "t"
MANUAL_HEARTBEATS: dict[str, Any] = {"lease_seconds": 60.0, "subscription_timeout_seconds": 300.0}
"""With these options a replica sends no heartbeat and no probe during a test but those that the test asks for."""


class Replica:
    """One state with a listener, and everything that it reports."""

    def __init__(self, server: RedisServer, name: str, *, url: str | None = None, **options: Any) -> None:
        defaults: dict[str, Any] = {
            "prefix": PREFIX,
            "history_length": 10_000,
            "history_bytes": 50_000_000,
            "recovery_seconds": 60.0,
            "timeout_seconds": 3.0,
            "lease_seconds": 2.0,
            "subscription_timeout_seconds": 2.0,
        }
        self.name = name
        self.gaps: list[str] = []
        self.notified_at: list[float] = []
        """When it reported that messages may be missing: wall-clock times."""
        self.reaped: list[str] = []
        self.statuses: list[StateStatus] = []
        self.metrics = MetricFactory()
        self.state = RedisState(
            url=parse_redis_url(url or server.url),
            replica=name,
            on_gap=self._on_gap,
            on_loss_marked=lambda: self._on_gap("data_lost"),
            on_replica_reaped=self.reaped.append,
            on_status_changed=self.statuses.append,
            metrics=self.metrics,
            **{**defaults, **options},
        )
        self.listener = RecordingListener(self.state.broker)
        self._tasks: list[asyncio.Task[None]] = []

    def _on_gap(self, code: str) -> None:
        self.gaps.append(code)
        self.notified_at.append(time.time())

    @property
    def decode_errors(self) -> float:
        """How many frames and records it could not decode."""
        return counted(self.metrics, "decode_errors_total").get("", 0)

    async def start(self) -> None:
        started = asyncio.Event()
        run = asyncio.create_task(self.state.run(started))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait([run, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if run.done():
            run.result()
        listen = asyncio.create_task(self.state.broker.listen(self.listener.deliver))
        self._tasks = [run, listen]

    async def stop(self) -> None:
        """Stop as kill -9 would: without another command to Redis."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def shut_down(self) -> None:
        """Stop as SIGTERM would."""
        await self.state.close()
        await self.stop()

    async def subscribe(self, *rooms: str | None) -> None:
        await self.state.broker.subscribe([at(room) for room in rooms])

    async def register(self, sid: str, user: str, *rooms: str, connected_at: float = 1000.0) -> None:
        connection = PresentConnection(sid, user, "/", self.name, "websocket", connected_at)
        await self.state.presence.register(connection, rooms)

    async def push(self, *rooms: str, **options: Any) -> Message:
        """Append a message that Redis has to accept, and return it."""
        news = make(*rooms, **options)
        await self.state.broker.append(news)
        return news

    @property
    def received(self) -> list[LogEntry]:
        """The entries that were delivered so far."""
        return [entry for _, entry in self.listener.received]

    async def receives(self, *entries: LogEntry) -> list[tuple[Position, LogEntry]]:
        """Wait until all of these are delivered; return everything that is."""
        await await_until(lambda: set(ids(entries)) <= set(ids(self.received)), f"{self.name} receives them")
        return self.listener.received


def make(*rooms: str, size: int = 5, volatile: bool = False, trace: Trace | None = None) -> Message:
    return Message(new_id(), "/", rooms, "news", (f'"{"x" * size}"',), volatile=volatile, trace=trace)


def release_of(newest: int) -> Codec:
    """The codec of a release that reads and writes nothing newer than a format."""
    forms = {form: decode for form, decode in FORMS.items() if int(form[0]) <= newest}
    return Codec(
        forms=forms, writers={number: write for number, write in WRITERS.items() if number <= newest}
    )


def release_without_joins() -> Codec:
    """The codec of a release before rooms could be joined."""
    return release_of(2)


def former_release() -> Codec:
    """The codec of the release before frames named the log of their deployment."""
    return release_of(3)


def previous_release() -> Codec:
    """The codec of the release before replicas replied to entries and backends changed rooms."""
    return release_of(4)


def received_probes(replica: Replica) -> float:
    """The number of its own probes that a replica has received."""
    return counted(replica.metrics, "pubsub_probe_round_trip_seconds_count").get("", 0)


async def nonces_have_begun(replica: Replica) -> None:
    """Wait until a request that is signed now is accepted, as the gateway does before it serves."""
    await await_until(
        lambda: replica.state.dedup.now() > replica.state.dedup.began_at, "the memory of nonces has begun"
    )


def ids(entries: Any) -> list[str]:
    return [entry.id for entry in entries]


@asynccontextmanager
async def replicas(server: RedisServer, *names: str, **options: Any) -> AsyncIterator[list[Replica]]:
    """Start replicas of these names, with listeners, and stop them at the end."""
    made = [Replica(server, name, **options) for name in names]
    try:
        for replica in made:
            await replica.start()
        yield made
    finally:
        for replica in made:
            await replica.stop()


async def await_answer(
    read: Callable[[], Awaitable[Any]], expected: Any, *, seconds: float = TIMEOUT_SECONDS
) -> None:
    """Read from Redis until the answer is the expected one. An attempt that fails is repeated."""
    answer: Any = None
    try:
        async with asyncio.timeout(seconds):
            while answer != expected:
                await asyncio.sleep(LOOK_SECONDS)
                with suppress(BrokerTimeout, BrokerUnavailable):
                    answer = await read()
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s: {expected}; last was {answer}") from None


async def append_until_accepted(
    replica: Replica,
    entry: LogEntry,
    sign: Callable[[], DedupKey | None] = lambda: None,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> PublishResult:
    """Append an entry again until Redis accepts it, signed anew each time, as a backend does that receives 503."""
    async with asyncio.timeout(timeout_seconds):
        while True:
            with suppress(BrokerTimeout, BrokerUnavailable):
                return await replica.state.broker.append(entry, sign())
            await asyncio.sleep(0.05)
