"""The metrics of queues: read rarely, for the configured webhooks, and absent once they are too old."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.event_catalogue import ClientEvent, EventCatalogue, NamespaceEvents
from gateway.domain.notifications import DeadReason, Notification, QueueSummary
from gateway.metrics import MetricFactory
from gateway.services.queue_monitor import KEEP_SECONDS, QUIET_READ_SECONDS, READ_SECONDS, QueueMonitor
from gateway.state.memory import MemoryState
from tests.support.clock import FakeSchedule

SILENT = EventCatalogue()
NOTIFYING = EventCatalogue({"/": NamespaceEvents(client_events={"e": ClientEvent(name="e", notify="app")})})
NAMES = (
    "webhook_queue_depth",
    "webhook_queue_bytes",
    "webhook_queue_oldest_age_seconds",
    "webhook_dead_letters",
)


class MonitorSetup:
    """A monitor that runs over a memory state. ``error`` is what the state raises instead of an answer."""

    def __init__(self) -> None:
        self.schedule = FakeSchedule()
        self.state = MemoryState(
            clock=self.schedule.clock,
            replica="replica-1",
            history_length=1_000,
            history_bytes=10_000_000,
            recovery_seconds=100.0,
        )
        self.webhooks = {"app"}
        self.catalogue = NOTIFYING
        self.error: Exception | None = None
        self.reads = 0
        self.metrics = MetricFactory()
        summaries = self.state.webhook_queues.summaries
        queues: Any = self.state.webhook_queues

        async def counted(webhooks: Collection[str]) -> dict[str, QueueSummary]:
            self.reads += 1
            if self.error is not None:
                raise self.error
            return await summaries(webhooks)

        queues.summaries = counted
        self.monitor = QueueMonitor(
            queues=queues,
            configured=lambda: self.webhooks,
            catalogue=lambda: self.catalogue,
            clock=self.schedule.clock,
            schedule=self.schedule,
            metrics=self.metrics,
        )

    async def advance(self, seconds: float) -> None:
        self.schedule.advance(seconds)
        await turns()

    async def queue(self, number: int, *, webhook: str = "app") -> None:
        notification = Notification(
            f"n-{number}", webhook, 0, "42", "client.event", self.schedule.clock.now(), "{}"
        )
        await self.state.broker.append_all((), notifications=[notification])

    def scrape(self) -> dict[str, dict[str, float]]:
        """Return the values of each metric by webhook."""
        registry = self.metrics.registry
        found: dict[str, dict[str, float]] = {name: {} for name in NAMES}
        for family in registry.collect():
            for sample in family.samples:
                name = sample.name.removeprefix("sio_gateway_")
                if name in found:
                    found[name][sample.labels["webhook"]] = sample.value
        return found


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def running() -> AsyncIterator[MonitorSetup]:
    setup = MonitorSetup()
    task = asyncio.create_task(setup.monitor.run())
    await turns()
    yield setup
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_queue_is_measured_as_it_was_read_and_its_age_now() -> None:
    async with running() as setup:
        await setup.queue(1)
        await setup.queue(2)
        await setup.advance(READ_SECONDS)
        setup.schedule.clock.advance(3)

        found = setup.scrape()

    assert found["webhook_queue_depth"] == {"app": 2.0}
    assert found["webhook_queue_bytes"]["app"] > 0
    assert found["webhook_queue_oldest_age_seconds"] == {"app": READ_SECONDS + 3}
    assert found["webhook_dead_letters"] == {"app": 0.0}


async def test_empty_queue_has_the_age_0() -> None:
    async with running() as setup:
        assert setup.scrape()["webhook_queue_oldest_age_seconds"] == {"app": 0.0}


async def test_dead_letters_are_measured() -> None:
    async with running() as setup:
        await setup.queue(1)
        queues, partitions = setup.state.webhook_queues, setup.state.partitions
        await partitions.claim("app", 1)
        page = await queues.read("app", 0, max_entries=10, max_bytes=10_000)
        sequences = [each.sequence for each in page.notifications]
        await queues.bury("app", 0, sequences, reason=DeadReason.REJECTED, status=422)
        await setup.advance(READ_SECONDS)

        found = setup.scrape()

    assert (found["webhook_queue_depth"], found["webhook_dead_letters"]) == ({"app": 0.0}, {"app": 1.0})


async def test_scrape_reads_nothing() -> None:
    async with running() as setup:
        before = setup.reads
        for _ in range(100):
            setup.scrape()

        assert (before, setup.reads) == (1, 1)


async def test_queues_are_read_every_five_seconds() -> None:
    async with running() as setup:
        for _ in range(4):
            await setup.advance(READ_SECONDS)

        assert setup.reads == 5


async def test_queues_are_read_seldom_while_no_event_is_queued() -> None:
    async with running() as setup:
        setup.catalogue = SILENT
        await setup.advance(READ_SECONDS)
        reads = setup.reads
        await setup.advance(QUIET_READ_SECONDS - 1)
        assert setup.reads == reads
        await setup.advance(1)
        assert setup.reads == reads + 1


async def test_without_webhooks_nothing_is_read_and_no_timer_runs() -> None:
    async with running() as setup:
        setup.webhooks = set()
        setup.monitor.reload()
        await turns()
        reads = setup.reads
        await setup.advance(1_000)

        assert (setup.reads, len(setup.schedule)) == (reads, 0)
        assert set(map(len, setup.scrape().values())) == {0}


async def test_reload_measures_a_new_webhook_at_once() -> None:
    async with running() as setup:
        setup.webhooks.add("crm")
        setup.monitor.reload()
        await turns()

        assert setup.scrape()["webhook_queue_depth"] == {"app": 0.0, "crm": 0.0}


async def test_failure_keeps_the_last_values_for_a_minute() -> None:
    for error in (BrokerUnavailable("redis is away"), BrokerTimeout("late")):
        async with running() as setup:
            await setup.queue(1)
            await setup.advance(READ_SECONDS)
            setup.error = error
            await setup.advance(KEEP_SECONDS)
            assert setup.scrape()["webhook_queue_depth"] == {"app": 1.0}

            await setup.advance(READ_SECONDS)
            assert set(map(len, setup.scrape().values())) == {0}

            setup.error = None
            await setup.advance(READ_SECONDS)
            assert setup.scrape()["webhook_queue_depth"] == {"app": 1.0}
