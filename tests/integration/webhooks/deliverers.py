"""Replicas that deliver notifications, over both states, and a backend that records them."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, NamedTuple

from gateway.domain.event_catalogue import ClientEvent, EventCatalogue, NamespaceEvents
from gateway.domain.messages import new_id
from gateway.domain.notifications import DeadLetter, Notification, partition_of
from gateway.domain.webhooks import Webhook
from gateway.interfaces import Partitions, State, WebhookQueues
from gateway.metrics import MetricFactory
from gateway.services.notifications import Notifications, RetryRules
from gateway.state.memory import MemoryState
from gateway.timers import SystemClock, TimerHeap
from gateway.webhooks import WebhookClient
from tests.integration.redis_state.replicas import Replica
from tests.support.raw_webhook_server import Request, response
from tests.support.redis_server import RedisServer
from tests.support.waiter import TIMEOUT_SECONDS, await_until

FAST: dict[str, Any] = {"delays_seconds": (0.02, 0.04, 0.06), "spread": 0.2}
"""The pauses of a test."""
_prefixes = count()


def catalogue(*webhooks: str) -> EventCatalogue:
    """Return a catalogue that notifies these webhooks."""
    entries = {name: ClientEvent(name=name, notify=name) for name in webhooks}
    return EventCatalogue({"/": NamespaceEvents(client_events=entries)})


class Deliverer:
    """A replica that delivers notifications to webhooks with real requests."""

    def __init__(
        self,
        state: State,
        webhooks: Iterable[Webhook],
        *,
        notified: Sequence[str] = ("app",),
        rules: RetryRules | None = None,
        delivery_seconds: float = 15.0,
        queues: WebhookQueues | None = None,
        partitions: Partitions | None = None,
        **options: Any,
    ) -> None:
        self.state = state
        self.metrics = MetricFactory()
        self.catalogue = catalogue(*notified)
        schedule = TimerHeap(asyncio.get_running_loop())
        self.client = WebhookClient(
            webhooks,
            clock=SystemClock(),
            metrics=self.metrics,
            user_agent="sio-gateway/test",
            delivery_seconds=delivery_seconds,
        )
        self.notifications = Notifications(
            catalogue=lambda: self.catalogue,
            webhooks=self.client,
            queues=queues or state.webhook_queues,
            partitions=partitions or state.partitions,
            clock=SystemClock(),
            schedule=schedule,
            metrics=self.metrics,
            rules=rules or RetryRules(**FAST),
            **({"claim_seconds": 0.05, "look_seconds": 0.05} | options),
        )
        self._task = asyncio.create_task(self.notifications.run())

    def reload(self, *webhooks: Webhook, notified: Sequence[str] = ("app",)) -> None:
        """Use these webhooks and no others, as SIGHUP does."""
        self.client.change(webhooks)
        self.catalogue = catalogue(*notified)
        self.notifications.reload()

    async def stop(self, *, finish_seconds: float = 5.0) -> None:
        """Stop as SIGTERM would."""
        await self.notifications.stop(finish_seconds=finish_seconds)
        await asyncio.wait_for(self._task, TIMEOUT_SECONDS)
        await self.client.close()

    async def queue(
        self,
        users: Sequence[str],
        number: int,
        *,
        first: int = 0,
        webhook: str = "app",
        at: float | None = None,
    ) -> list[str]:
        """Queue notifications of these users in turn, and return their ids.

        ``number`` is how many, and ``first`` the number of the first one.
        """
        partitions = self.client.configured()[webhook].partitions
        notifications = [
            Notification(
                id=new_id(),
                webhook=webhook,
                partition=partition_of(users[index % len(users)], partitions),
                user=users[index % len(users)],
                type="client.event",
                at=time.time() if at is None else at,
                data=json.dumps({"user": users[index % len(users)], "number": first + index}),
            )
            for index in range(number)
        ]
        for begin in range(0, number, 100):
            await self.state.broker.append_all([], notifications=notifications[begin : begin + 100])
        return [each.id for each in notifications]

    async def empties(self, webhook: str = "app") -> None:
        """Wait until the queue is empty."""

        async def entries() -> int:
            summaries = await self.state.webhook_queues.summaries([webhook])
            return summaries[webhook].entries

        left = await entries()
        while left:
            now = await entries()
            assert now <= left
            await asyncio.sleep(0.02)
            left = now

    async def dead(self, webhook: str = "app") -> Sequence[DeadLetter]:
        return await self.state.webhook_queues.dead_letters(webhook, limit=1000)


class Received(NamedTuple):
    """One event of a request."""

    id: str
    user: str
    number: int
    sequence: int
    size: int
    """How many events the request held."""


Decide = Callable[[Sequence[Received]], int]
"""Returns the status for the events of a request."""


class Receiver:
    """A backend: records what it accepted, in its order, and each try. ``decide`` decides."""

    def __init__(self, decide: Decide = lambda _: 204, *headers: str) -> None:
        self.decide = decide
        self.headers = headers
        self.accepted: list[Received] = []
        self.tries: list[tuple[float, int, Sequence[Received]]] = []
        """Time, status and events of each request."""

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        events = read_events(request)
        status = self.decide(events)
        self.tries.append((time.monotonic(), status, events))
        if 200 <= status < 300:
            self.accepted += events
        writer.write(response(status, b"", *([] if status < 300 else self.headers)))
        await writer.drain()
        return True

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.accepted]

    async def gets(self, ids: Iterable[str]) -> None:
        """Wait until all of these were accepted."""
        wanted = set(ids)
        await await_until(lambda: wanted <= set(self.ids), "the backend gets them")

    def check_order(self) -> None:
        """Check that each user's events came in order, and that only the same event came twice."""
        by_user: defaultdict[str, list[Received]] = defaultdict(list)
        for each in self.accepted:
            by_user[each.user].append(each)
        for events in by_user.values():
            first = list(dict.fromkeys(events_without_size(events)))
            assert first == sorted(first, key=lambda each: each[3])
            assert [number for _, _, number, _ in first] == sorted(number for _, _, number, _ in first)
            assert len({each[0] for each in first}) == len(first)


def events_without_size(events: Iterable[Received]) -> list[tuple[str, str, int, int]]:
    return [each[:4] for each in events]


def read_events(request: Request) -> list[Received]:
    """Return the events of a request."""
    body = json.loads(request.body)
    if body["type"] == "batch":
        events = body["data"]
        assert len(events) > 1
    else:
        events = [body | {"id": request.headers["webhook-id"]}]
    return [
        Received(
            each["id"], each["data"]["user"], each["data"]["number"], each["data"]["sequence"], len(events)
        )
        for each in events
    ]


def users(number: int) -> list[str]:
    """Return the names of users."""
    return [f"user-{each}" for each in range(number)]


def once_in(share: float) -> Callable[[], bool]:
    """Return a function that is true at random, and always the same in a test."""
    chance = random.Random(1)
    return lambda: chance.random() < share


@asynccontextmanager
async def memory_state() -> AsyncIterator[State]:
    yield MemoryState(
        clock=SystemClock(),
        replica="replica-1",
        history_length=1_000,
        history_bytes=1_000_000,
        recovery_seconds=60.0,
    )


@asynccontextmanager
async def redis_state(
    server: RedisServer, *, prefix: str | None = None, name: str = "replica-1"
) -> AsyncIterator[State]:
    replica = Replica(server, name, prefix=prefix or f"deliver{next(_prefixes)}")
    await replica.start()
    try:
        yield replica.state
    finally:
        await replica.shut_down()
