"""Replicas without servers: the Redis state alone, all in this process, on a Redis of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Self

from gateway.domain.messages import LogEntry
from gateway.domain.positions import Position
from gateway.domain.redis_url import parse_redis_url
from gateway.metrics import MetricFactory
from gateway.state.redis import RedisState
from tests.support.redis_server import RedisServer

AT_ONCE: Final = 64


class Replica:
    """A running Redis state, and how many log entries it delivered."""

    def __init__(self, server: RedisServer, name: str) -> None:
        self.state = RedisState(
            url=parse_redis_url(server.url),
            prefix="sio-gateway",
            replica=name,
            history_length=1_000_000,
            history_bytes=2**31,
            recovery_seconds=3600.0,
            metrics=MetricFactory(),
            timeout_seconds=10.0,
            lease_seconds=30.0,
        )
        self.delivered = 0
        self._more = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        started = asyncio.Event()
        self._tasks.append(asyncio.create_task(self.state.run(started)))
        await asyncio.wait_for(started.wait(), 20)
        self._tasks.append(asyncio.create_task(self.state.broker.listen(self._deliver)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _deliver(self, _entry: LogEntry, _position: Position, *, more: bool) -> None:  # noqa: ARG002
        self.delivered += 1
        self._more.set()

    async def wait_for(self, number: int) -> None:
        """Wait until ``number`` log entries were delivered."""
        while self.delivered < number:
            self._more.clear()
            await self._more.wait()


@asynccontextmanager
async def replicas(server: RedisServer, number: int) -> AsyncIterator[list[Replica]]:
    """Run ``number`` replicas of one gateway."""
    async with asyncio.timeout(120), AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Replica(server, f"replica-{index}")) for index in range(number)
        ]


async def run_all(jobs: Collection[Callable[[], Awaitable[object]]]) -> None:
    """Run all jobs, as many at a time as a busy replica would execute."""
    waiting = list(jobs)
    while waiting:
        now, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        await asyncio.gather(*(job() for job in now))
