"""The services of presence over the memory state, with a clock that a test moves and a webhook that it scripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.domain.errors import CallDropped
from gateway.domain.event_catalogue import Announcement, PresenceNotices
from gateway.domain.messages import Address, LogEntry, Message
from gateway.domain.positions import Position
from gateway.domain.presence import PresenceConsumer, PresentConnection
from gateway.domain.webhooks import Delivery, DeliveryOutcome, Webhook, WebhookAnswer, WebhookEvent
from gateway.metrics import MetricFactory
from gateway.services.presence_events import PresenceWorker
from gateway.state.memory import MemoryState
from tests.support.clock import FakeSchedule

REPLICA = "replica-1"
STEP_SECONDS = 0.05
TURNS = 20
ACCEPTED = Delivery(DeliveryOutcome.ACCEPTED, 204)
REJECTED = Delivery(DeliveryOutcome.REJECTED, 400)
FAILED = Delivery(DeliveryOutcome.FAILED, 503)


class ScriptedWebhooks:
    """In place of the HTTP client: ``answer`` decides what becomes of a request, and ``gate`` when.

    The tests of ``gateway.webhooks`` and of ``tests/integration/presence`` have the real one.
    """

    def __init__(self) -> None:
        self.webhook = Webhook(id="app", url="https://app.example.com/gateway")
        self.answer: Callable[[Sequence[WebhookEvent]], Delivery] = lambda _: ACCEPTED
        self.requests: list[tuple[WebhookEvent, ...]] = []
        self.accepted: list[WebhookEvent] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.slot = asyncio.Event()
        """Set while requests need not wait for others of the webhook."""
        self.slot.set()
        self.at_once = 0
        self.most_at_once = 0

    async def call(self, webhook: str, **_: Any) -> WebhookAnswer:
        raise NotImplementedError("presence calls no webhook")

    def may(self, webhook: str, scope: str, target: str | None) -> bool:
        return False

    async def deliver(
        self, webhook: str, events: Sequence[WebhookEvent], *, is_wanted: Callable[[], bool] = lambda: True
    ) -> Delivery:
        assert webhook == self.webhook.id
        await self.slot.wait()
        if not is_wanted():
            raise CallDropped
        self.requests.append(tuple(events))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
        finally:
            self.at_once -= 1
        delivery = self.answer(events)
        if delivery.outcome is DeliveryOutcome.ACCEPTED:
            self.accepted += events
        return delivery

    def configured(self) -> Mapping[str, Webhook]:
        return {self.webhook.id: self.webhook}


class PresenceSetup:
    """A worker that runs over a memory state. ``received`` are the messages that its broker delivered."""

    def __init__(self, *, is_alone: bool = False) -> None:
        self.schedule = FakeSchedule()
        self.clock = self.schedule.clock
        self.state = MemoryState(
            clock=self.clock,
            replica=REPLICA,
            history_length=10_000,
            history_bytes=10_000_000,
            recovery_seconds=100.0,
        )
        self.webhooks = ScriptedWebhooks()
        self.metrics = MetricFactory()
        self.received: list[tuple[float, Message]] = []
        self.worker = PresenceWorker(
            events=self.state.presence_events,
            partitions=self.state.partitions,
            webhooks=self.webhooks,
            broker=self.state.broker,
            rates=self.state.rates,
            clock=self.clock,
            schedule=self.schedule,
            retry_seconds=lambda failures, retry_after: retry_after or float(failures),
            is_alone=is_alone,
            metrics=self.metrics,
        )
        self.tasks = [
            asyncio.create_task(self.state.broker.listen(self._deliver)),
            asyncio.create_task(self.worker.run()),
        ]

    async def _deliver(self, entry: LogEntry, position: Position, *, more: bool) -> None:
        assert isinstance(entry, Message)
        self.received.append((self.clock.monotonic(), entry))

    async def subscribe(self, *namespaces: str, rooms: Sequence[str] = ()) -> None:
        """Let the messages to everyone in the namespaces, and to rooms in them, be received."""
        await self.state.broker.subscribe(
            [Address(namespace, room) for namespace in namespaces for room in (None, *rooms)]
        )

    def configure(
        self, *announce: Announcement, notify: str | None = "app", offline_after_seconds: float = 10.0
    ) -> bool:
        return self.worker.configure(
            PresenceNotices(
                offline_after_seconds=offline_after_seconds, notify=notify, announce=tuple(announce)
            )
        )

    async def connect(self, user: str, sid: str | None = None, *rooms: str, namespace: str = "/") -> None:
        connection = PresentConnection(
            sid or f"~{user}", user, namespace, REPLICA, "websocket", self.clock.now()
        )
        await self.state.presence.register(connection, rooms)

    async def disconnect(self, user: str, sid: str | None = None) -> None:
        await self.state.presence.unregister(sid or f"~{user}")

    async def pass_time(self, seconds: float, *, step_seconds: float = STEP_SECONDS) -> None:
        """Let time pass in small steps, between which the tasks run."""
        await self.turns()
        for _ in range(round(seconds / step_seconds)):
            self.schedule.advance(step_seconds)
            await self.turns()

    async def turns(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        for task in self.tasks:
            assert not task.done(), task

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    def notified(self, user: str | None = None) -> list[tuple[str, str, int]]:
        """Type, user and version of each accepted event, of one user or of all."""
        events = [(event.type, json.loads(event.data)) for event in self.webhooks.accepted]
        found = [(kind, str(data["user"]), int(data["version"])) for kind, data in events]
        return [each for each in found if user in {None, each[1]}]

    async def undelivered(self, consumer: PresenceConsumer) -> int:
        counts = await self.state.presence_events.undelivered_counts()
        return counts.get(consumer, (0, None))[0]
