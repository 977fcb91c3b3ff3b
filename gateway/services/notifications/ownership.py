"""``Notifications``: the partitions that this replica owns, and the workers that deliver what they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Final

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, release_frames
from gateway.domain.event_catalogue import EventCatalogue
from gateway.domain.notifications import DeadReason, PartitionClaim
from gateway.domain.webhooks import Webhook
from gateway.interfaces import Clock, Partitions, Schedule, WebhookQueues, Webhooks, sleep
from gateway.metrics import MetricFactory
from gateway.services.notifications.retries import RetryRules
from gateway.services.notifications.worker import ACCEPTED, PartitionWorker, WorkerTools
from gateway.services.shared_work import CLAIM_SECONDS

LOOK_SECONDS: Final = 30.0
"""How often the queues of webhooks are looked at that the event catalogue does not notify: they may hold something
that was queued before a reload, or that was replayed."""
FINISH_SECONDS: Final = 5.0
"""How long requests under way may take to finish when the process stops."""
_EMPTY_POLL_SECONDS: Final = 0.02
OUTCOMES: Final = (ACCEPTED, *[reason.value for reason in DeadReason])

log = structlog.get_logger(__name__)


class Notifications:
    """Delivers notifications, together with the other replicas.

    Each second it claims partitions of every configured webhook that the event catalogue notifies, or whose queue holds
    something. Without such a webhook it does nothing.
    """

    def __init__(
        self,
        *,
        catalogue: Callable[[], EventCatalogue],
        webhooks: Webhooks,
        queues: WebhookQueues,
        partitions: Partitions,
        clock: Clock,
        schedule: Schedule,
        metrics: MetricFactory,
        rules: RetryRules | None = None,
        is_alone: bool = False,
        claim_seconds: float = CLAIM_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """``catalogue`` returns the event catalogue in effect. ``is_alone``: what is queued ends with this process."""
        self._catalogue = catalogue
        self._webhooks = webhooks
        self._queues = queues
        self._partitions = partitions
        self._clock = clock
        self._schedule = schedule
        self._is_alone = is_alone
        self._claim_seconds = claim_seconds
        self._look_seconds = look_seconds
        self._counter = metrics.counter(
            "webhook_notifications",
            "Notifications by what became of them: accepted, or the reason of a dead letter.",
            ("webhook", "outcome"),
        )
        metrics.callback_gauge(
            "webhook_partitions",
            "Partitions of the webhook whose notifications this replica delivers.",
            ("webhook",),
            read=lambda: {(name,): self._worked_on(name) for name in webhooks.configured()},
        )
        self._tools = WorkerTools(
            queues=queues,
            partitions=partitions,
            webhooks=webhooks,
            clock=clock,
            schedule=schedule,
            rules=rules or RetryRules(),
            count=lambda webhook, outcome, number: self._counter.count((webhook, outcome), number),
        )
        self._owned: dict[str, OwnedPartitions] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._holding: frozenset[str] = frozenset()
        self._look_at = float("-inf")
        """When to look again at the queues of webhooks that the catalogue does not notify."""
        self._known: Mapping[str, Webhook] = {}
        self._changed = asyncio.Event()
        self._is_stopping = False
        self._init_labels()

    async def run(self) -> None:
        """Deliver until ``stop`` is called."""
        while not self._is_stopping:
            self._changed.clear()
            await self._claim_all()
            await self._sleep()

    def reload(self) -> None:
        """Use the webhooks and the event catalogue in effect now.

        Notifications that failed are tried at once if their webhook was changed.
        """
        self._init_labels()
        self._look_at = float("-inf")
        self._changed.set()

    async def stop(self, *, finish_seconds: float = FINISH_SECONDS) -> None:
        """Begin no further request, wait for those under way, and give up all partitions. Takes a bounded time.

        A replica that is alone delivers what is queued first, as far as that succeeds in ``finish_seconds``.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + finish_seconds
        if self._is_alone and not self._is_stopping:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(ends_at):
                    await self._wait_until_empty()
        finish_seconds = max(0.0, ends_at - loop.time())
        self._is_stopping = True
        self._changed.set()
        await asyncio.gather(
            *self._ending.values(),
            *[owned.end(finish_seconds) for name, owned in self._owned.items() if name not in self._ending],
        )
        self._owned.clear()

    async def _wait_until_empty(self) -> None:
        """Wait while the queues of the webhooks hold something. The state is that of this process."""
        self.reload()
        while any(
            each.entries for each in (await self._queues.summaries([*self._webhooks.configured()])).values()
        ):
            await sleep(self._schedule, _EMPTY_POLL_SECONDS)

    def _init_labels(self) -> None:
        self._counter.init_labels(
            (name, outcome) for name in self._webhooks.configured() for outcome in OUTCOMES
        )

    def _worked_on(self, name: str) -> float:
        owned = self._owned.get(name)
        return 0.0 if owned is None else float(len(owned.workers))

    async def _sleep(self) -> None:
        if not self._webhooks.configured() and not self._owned:
            await self._changed.wait()
            return
        is_waiting = not self._owned and self._look_at > self._clock.monotonic()
        seconds = self._look_seconds if is_waiting else self._claim_seconds
        timer = self._schedule.after(seconds, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()

    async def _claim_all(self) -> None:
        """Claim the partitions of each webhook that needs it, and end the work for all others."""
        webhooks = self._webhooks.configured()
        notified = self._catalogue().notified_webhooks()
        await self._look(set(webhooks) - notified)
        if self._is_stopping:
            return
        wanted = {name for name in webhooks if name in notified or name in self._holding}
        for name in set(self._owned) - wanted:
            self._end(name)
        for name in wanted - set(self._owned):
            self._owned[name] = OwnedPartitions(name, self._tools)
        claimed = [name for name in wanted if name not in self._ending]
        await asyncio.gather(*[self._owned[name].claim(webhooks[name].partitions) for name in claimed])
        if self._is_stopping:
            return
        for name in claimed:
            if name in self._known and self._known[name] != webhooks[name]:
                self._owned[name].retry_now()
        self._known = dict(webhooks)

    async def _look(self, names: Collection[str]) -> None:
        """Find which of these webhooks have a queue that holds something."""
        now = self._clock.monotonic()
        if now < self._look_at:
            self._holding &= frozenset(names)
            return
        if names:
            try:
                summaries = await self._queues.summaries(names)
            except (BrokerUnavailable, BrokerTimeout) as error:
                release_frames(error)
                return
            self._holding = frozenset(name for name, each in summaries.items() if each.entries)
        self._look_at = now + self._look_seconds

    def _end(self, name: str) -> None:
        """End the work for a webhook beside the claims of the others."""
        if name in self._ending:
            return
        task = asyncio.create_task(self._owned[name].end(FINISH_SECONDS), name="webhook notifications end")
        self._ending[name] = task
        task.add_done_callback(lambda _: self._ended(name))

    def _ended(self, name: str) -> None:
        del self._ending[name]
        self._owned.pop(name, None)


class OwnedPartitions:
    """The partitions of one webhook that this replica owns, each with a worker."""

    def __init__(self, webhook: str, tools: WorkerTools) -> None:
        self._webhook = webhook
        self._tools = tools
        self.workers: dict[int, PartitionWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._surplus: frozenset[int] = frozenset()
        self._is_ending = False

    async def claim(self, partitions: int) -> None:
        """Claim partitions; start and stop workers as the answer says. Does nothing if the state does not answer."""
        try:
            claim = await self._tools.partitions.claim(self._webhook, partitions)
        except (BrokerUnavailable, BrokerTimeout) as error:
            # The workers continue for as long as the lease is held.
            release_frames(error)
            return
        if not self._is_ending:
            self._apply(claim)

    def retry_now(self) -> None:
        """Try notifications that failed at once."""
        for worker in self.workers.values():
            worker.retry_now()

    async def end(self, finish_seconds: float) -> None:
        """Stop all workers, cancel those that take longer than ``finish_seconds``, and give up all partitions."""
        self._is_ending = True
        for worker in self.workers.values():
            worker.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=finish_seconds)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        try:
            await self._tools.partitions.leave(self._webhook)
        except (BrokerUnavailable, BrokerTimeout) as error:
            # The other replicas take the partitions once the lease of this one has expired.
            release_frames(error)

    def _apply(self, claim: PartitionClaim) -> None:
        self._surplus = claim.surplus
        for partition, worker in self.workers.items():
            if partition not in claim.owned or partition in claim.surplus:
                worker.stop()
            elif partition in claim.waiting:
                worker.read_again()
        for partition in claim.owned - self.workers.keys():
            worker = PartitionWorker(self._webhook, partition, self._tools)
            if partition in claim.surplus:
                worker.stop()
            self.workers[partition] = worker
            task = asyncio.create_task(self._work(partition, worker), name="webhook partition")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, partition: int, worker: PartitionWorker) -> None:
        """Run a worker; release its partition afterwards if it is surplus. The next claim repeats what failed."""
        try:
            await worker.run()
            if partition in self._surplus and not self._is_ending:
                await self._tools.partitions.release(self._webhook, [partition])
        except (BrokerUnavailable, BrokerTimeout) as error:
            release_frames(error)
        except Exception as error:  # the outermost edge of a worker: what is unexpected is logged
            log.error("webhook.partition_failed", webhook=self._webhook, partition=partition, exc_info=error)
        finally:
            del self.workers[partition]
