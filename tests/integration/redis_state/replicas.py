"""Replicas that a test starts and listens with, all in this process, over one real server."""

from __future__ import annotations

import asyncio
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
from gateway.state.redis.codec import FORMS, WRITERS, Codec
from tests.contract.recording_listener import RecordingListener
from tests.contract.values import at
from tests.support.metrics import counted
from tests.support.redis_server import RedisServer

PATIENCE_SECONDS = 15.0
PREFIX = "t"


class Replica:
    """One state with a listener, and everything that it says."""

    def __init__(self, server: RedisServer, name: str, *, url: str | None = None, **options: Any) -> None:
        defaults: dict[str, Any] = {
            "prefix": PREFIX,
            "history_length": 10_000,
            "history_bytes": 50_000_000,
            "recovery_seconds": 60.0,
            "timeout_seconds": 1.0,
            "lease_seconds": 2.0,
            "subscription_timeout_seconds": 2.0,
        }
        self.name = name
        self.gaps: list[str] = []
        self.cleaned: list[str] = []
        self.conditions: list[StateStatus] = []
        self.metrics = MetricFactory()
        self.state = RedisState(
            url=parse_redis_url(url or server.url),
            replica=name,
            on_gap=self.gaps.append,
            on_replica_reaped=self.cleaned.append,
            on_status_changed=self.conditions.append,
            metrics=self.metrics,
            **{**defaults, **options},
        )
        self.ear = RecordingListener(self.state.broker)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def unreadable(self) -> float:
        """How many messages on the channels it could not decode."""
        return counted(self.metrics, "decode_errors_total").get("", 0)

    async def start(self) -> None:
        started = asyncio.Event()
        run = asyncio.create_task(self.state.run(started))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait([run, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if run.done():
            run.result()
        listen = asyncio.create_task(self.state.broker.listen(self.ear.deliver))
        self._tasks = [run, listen]

    async def stop(self) -> None:
        """As kill -9 would: nothing is said any more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def leave(self) -> None:
        """As SIGTERM would."""
        await self.state.close()
        await self.stop()

    async def subscribe(self, *rooms: str | None) -> None:
        await self.state.broker.subscribe([at(room) for room in rooms])

    async def register(self, sid: str, user: str, *rooms: str, connected_at: float = 1000.0) -> None:
        connection = PresentConnection(sid, user, "/", self.name, "websocket", connected_at)
        await self.state.presence.register(connection, rooms)

    async def push(self, *rooms: str, **options: Any) -> Message:
        """Push something that Redis must take."""
        news = make(*rooms, **options)
        await self.state.broker.append(news)
        return news

    @property
    def heard(self) -> list[LogEntry]:
        """What was handed over so far."""
        return [entry for _, entry in self.ear.received]

    async def hears(self, *entries: LogEntry) -> list[tuple[Position, LogEntry]]:
        """Wait until all of these were handed over; answers everything that was."""
        await until(lambda: set(ids(entries)) <= set(ids(self.heard)), f"{self.name} hears")
        return self.ear.received


def make(*rooms: str, size: int = 5, volatile: bool = False, trace: Trace | None = None) -> Message:
    return Message(new_id(), "/", rooms, "news", (f'"{"x" * size}"',), volatile=volatile, trace=trace)


def previous_release() -> Codec:
    """What the release before this one reads and writes: nothing of this one's format."""
    newest = max(WRITERS)
    forms = {form: decode for form, decode in FORMS.items() if not form.startswith(str(newest))}
    return Codec(forms=forms, writers={number: write for number, write in WRITERS.items() if number < newest})


def ids(entries: Any) -> list[str]:
    return [entry.id for entry in entries]


@asynccontextmanager
async def replicas(server: RedisServer, *names: str, **options: Any) -> AsyncIterator[list[Replica]]:
    """Replicas of these names, listening."""
    made = [Replica(server, name, **options) for name in names]
    try:
        for replica in made:
            await replica.start()
        yield made
    finally:
        for replica in made:
            await replica.stop()


async def until(holds: Callable[[], bool], what: str, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something holds that nobody announces."""
    try:
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110  # nobody announces it
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s: {what}") from None


async def until_redis_says(
    ask: Callable[[], Awaitable[Any]], expected: Any, *, seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait until the answer is that; meanwhile there may be none."""
    answer: Any = None
    try:
        async with asyncio.timeout(seconds):
            while answer != expected:
                await asyncio.sleep(0.02)  # it is in Redis, which announces nothing
                with suppress(BrokerTimeout, BrokerUnavailable):
                    answer = await ask()
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s: {expected}; last was {answer}") from None


async def append(
    replica: Replica,
    entry: LogEntry,
    dedup_key: DedupKey | None = None,
    *,
    timeout_seconds: float = PATIENCE_SECONDS,
) -> PublishResult:
    """Repeat until Redis takes it, as a backend does that gets 503."""
    async with asyncio.timeout(timeout_seconds):
        while True:
            with suppress(BrokerTimeout, BrokerUnavailable):
                return await replica.state.broker.append(entry, dedup_key)
            await asyncio.sleep(0.05)
