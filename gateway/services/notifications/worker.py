"""``PartitionWorker``: deliver the notifications of one partition, one request at a time."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, CallDropped, release_frames
from gateway.domain.notifications import DeadReason, HeadFailures, PartitionLost, QueuedNotification
from gateway.domain.webhooks import Delivery, DeliveryOutcome, Webhook, WebhookEvent
from gateway.interfaces import Clock, Partitions, Schedule, WebhookQueues, Webhooks
from gateway.services.notifications.retries import RetryRules, expired, pause_seconds

PAGE_ENTRIES: Final = 200
PAGE_BYTES: Final = 256 * 1024
"""What is read of a partition at once, and so the size of a batch; one larger notification is read alone."""
STATE_PAUSE_SECONDS: Final = 1.0
"""The pause after an error of the state, and while the lease or the webhook is missing."""
CONFIRM_SECONDS: Final = 1.0
"""How old the last proof may be that this replica owns the partition, when a request begins: a process that was
suspended renews its lease, and may have lost the partition before. No lease is as short as this."""
ACCEPTED: Final = "accepted"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerTools:
    """What every worker uses. ``count`` counts notifications of a webhook by outcome: accepted, or a DeadReason."""

    queues: WebhookQueues
    partitions: Partitions
    webhooks: Webhooks
    clock: Clock
    schedule: Schedule
    rules: RetryRules
    count: Callable[[str, str, int], None]
    chance: Callable[[], float] = random.random


class PartitionWorker:
    """Delivers the notifications of a partition that this replica owns, in their order.

    - One request is under way at a time. It holds the first notification, or a batch of the first ones.
    - Accepted notifications are removed while the next request is under way. That one ends before another begins, so
      at most the last two requests are repeated after a crash.
    - After a batch that was not accepted its notifications are sent one by one, so that a bad one is found.
    - Before each request but the first after a read it is certain that this replica owned the partition within the last
      second. So a process that was suspended for longer overlaps with the next owner by one request.
    - Failures are kept in the queue, so that the next owner continues with the same pauses.
    """

    def __init__(self, webhook: str, partition: int, tools: WorkerTools) -> None:
        self._webhook = webhook
        self._partition = partition
        self._tools = tools
        self._woken = asyncio.Event()
        self._is_idle = False
        self._is_stopping = False
        self._skips_pause = False
        self._is_failing = False
        """Whether the last request failed: until one is accepted, no more is read than the next one needs."""
        self._one_by_one_until = 0
        """The sequence up to which notifications are sent one by one."""
        self._removed: Collection[int] = ()
        """What the webhook accepted, until the queue has removed it."""
        self._removal: asyncio.Task[None] | None = None
        self._removal_began_at = 0.0
        self._owned_at = 0.0
        """When the partition certainly belonged to this replica: the state answered a call that began then."""

    async def run(self) -> None:
        """Deliver until ``stop`` was called and the request under way has ended, or the partition is lost."""
        try:
            while not self._is_stopping:
                try:
                    pause = await self._deliver_page()
                except (BrokerUnavailable, BrokerTimeout) as error:
                    release_frames(error)
                    pause = STATE_PAUSE_SECONDS
                # What was read is not kept meanwhile: all partitions of a webhook that is down pause.
                if pause:
                    await self._pause(pause)
            await self._finish_removal()
        except PartitionLost:
            log.info("webhook.partition_lost", webhook=self._webhook, partition=self._partition)
        except (BrokerUnavailable, BrokerTimeout) as error:
            # The next owner sends again what was not removed, with the same ids.
            release_frames(error)
        finally:
            if self._removal is not None:
                self._removal.cancel()
                await asyncio.wait([self._removal])

    def stop(self) -> None:
        """Begin no further request."""
        self._is_stopping = True
        self._woken.set()

    def read_again(self) -> None:
        """Read the partition if it was empty: it may hold something now."""
        if self._is_idle:
            self._woken.set()

    def retry_now(self) -> None:
        """End the pause of a notification that failed: the settings of the webhook were changed."""
        self._skips_pause = True
        self._woken.set()

    async def _deliver_page(self) -> float:
        """Read the first notifications and deliver them, up to the first one that fails.

        Returns how many seconds to pause before the next read.

        Raises: PartitionLost, BrokerUnavailable, BrokerTimeout.
        """
        await self._finish_removal()
        # Before it is read: what is put into the queue afterwards sets it again.
        self._woken.clear()
        webhook = self._tools.webhooks.configured().get(self._webhook)
        batch = 1 if webhook is None else webhook.batch
        began_at = self._tools.clock.monotonic()
        page = await self._tools.queues.read(
            self._webhook,
            self._partition,
            max_entries=1 if self._is_failing else max(1, PAGE_ENTRIES // batch) * batch,
            max_bytes=PAGE_BYTES,
        )
        self._owned_at = began_at
        waiting = deque(page.notifications)
        if not waiting:
            await self._wait_for_more()
        while waiting and not self._is_stopping:
            pause = await self._deliver_first(waiting, page.failures)
            if pause is not None:
                return pause
            # After the first request, so that there is progress although the state is slow.
            if not self._is_certain_owner():
                break
        return 0.0

    async def _deliver_first(
        self, waiting: deque[QueuedNotification], failures: HeadFailures | None
    ) -> float | None:
        """Send one request, or bury what is too old.

        Returns how many seconds to pause before reading again; None to continue with what was read.
        """
        tools = self._tools
        webhook = tools.webhooks.configured().get(self._webhook)
        if webhook is None:
            return STATE_PAUSE_SECONDS
        now = tools.clock.now()
        too_old = expired(waiting, now=now, keep_seconds=webhook.keep_seconds)
        if too_old:
            status = failures.status if failures and failures.sequence == too_old[0] else None
            await self._bury(too_old, DeadReason.EXPIRED, status)
            _drop(waiting, len(too_old))
            self._is_failing = False
            return None
        pause = pause_seconds(failures, waiting[0], now=now)
        if pause and not self._skips_pause:
            return pause
        if not tools.partitions.holds_lease():
            return STATE_PAUSE_SECONDS
        self._skips_pause = False
        batch = self._next_batch(waiting, webhook, failures)
        try:
            delivery = await tools.webhooks.deliver(
                self._webhook, [_event(each) for each in batch], is_wanted=self._may_send
            )
        except CallDropped:
            return 0.0
        return None if await self._conclude(waiting, batch, delivery, failures) else 0.0

    def _may_send(self) -> bool:
        """Return whether a request may begin that has waited for others of its webhook."""
        return not self._is_stopping and self._tools.partitions.holds_lease()

    def _is_certain_owner(self) -> bool:
        return self._tools.clock.monotonic() - self._owned_at < CONFIRM_SECONDS

    def _next_batch(
        self, waiting: Sequence[QueuedNotification], webhook: Webhook, failures: HeadFailures | None
    ) -> list[QueuedNotification]:
        head = waiting[0]
        has_failed = failures is not None and failures.sequence == head.sequence
        if has_failed or head.sequence <= self._one_by_one_until:
            return [head]
        return [waiting[index] for index in range(min(webhook.batch, len(waiting)))]

    async def _conclude(
        self,
        waiting: deque[QueuedNotification],
        batch: Sequence[QueuedNotification],
        delivery: Delivery,
        failures: HeadFailures | None,
    ) -> bool:
        """Change the queue after a request; return whether the next one may follow."""
        self._is_failing = delivery.outcome is DeliveryOutcome.FAILED
        if delivery.outcome is DeliveryOutcome.ACCEPTED:
            self._tools.count(self._webhook, ACCEPTED, len(batch))
            await self._remove([each.sequence for each in batch])
            _drop(waiting, len(batch))
            return True
        if len(batch) > 1:
            self._one_by_one_until = batch[-1].sequence
        if delivery.outcome is DeliveryOutcome.FAILED:
            await self._record_failure(batch[0], delivery, failures)
            return False
        if len(batch) == 1:
            await self._bury([batch[0].sequence], DeadReason.REJECTED, delivery.status)
            _drop(waiting, 1)
        return True

    async def _record_failure(
        self, head: QueuedNotification, delivery: Delivery, failures: HeadFailures | None
    ) -> None:
        tools = self._tools
        await self._finish_removal()
        count = failures.failures if failures is not None and failures.sequence == head.sequence else 0
        delay = tools.rules.delay_seconds(
            count + 1, retry_after_seconds=delivery.retry_after_seconds, chance=tools.chance()
        )
        recorded = await tools.queues.record_failure(
            self._webhook,
            self._partition,
            head.sequence,
            retry_at=tools.clock.now() + delay,
            status=delivery.status,
        )
        if tools.rules.gives_up(recorded):
            await self._bury([head.sequence], DeadReason.FAILED, delivery.status)

    async def _bury(self, sequences: Collection[int], reason: DeadReason, status: int | None) -> None:
        await self._finish_removal()
        await self._tools.queues.bury(self._webhook, self._partition, sequences, reason=reason, status=status)
        self._tools.count(self._webhook, reason.value, len(sequences))
        log.warning(
            "webhook.dead_letters",
            webhook=self._webhook,
            partition=self._partition,
            reason=reason.value,
            status=status,
            notifications=len(sequences),
        )

    # removal

    async def _remove(self, sequences: Collection[int]) -> None:
        """Begin to remove what the webhook accepted, once what it accepted before is removed.

        Raises: PartitionLost, BrokerUnavailable, BrokerTimeout; ``_finish_removal`` removes all of it then.
        """
        try:
            await self._finish_removal()
        except (BrokerUnavailable, BrokerTimeout):
            self._removed = [*self._removed, *sequences]
            raise
        self._begin_removal(sequences)

    def _begin_removal(self, sequences: Collection[int]) -> None:
        self._removed = sequences
        self._removal_began_at = self._tools.clock.monotonic()
        self._removal = asyncio.create_task(
            self._tools.queues.remove(self._webhook, self._partition, sequences), name="webhook removal"
        )

    async def _finish_removal(self) -> None:
        """Wait until everything that the webhook accepted is removed. After an error the next call removes it again.

        Raises: PartitionLost, BrokerUnavailable, BrokerTimeout.
        """
        if not self._removed:
            return
        if self._removal is None:
            self._begin_removal(self._removed)
        removal, self._removal = self._removal, None
        if removal is not None:
            await removal
        self._owned_at = self._removal_began_at
        self._removed = ()

    # waiting

    async def _wait_for_more(self) -> None:
        """Wait until the partition may hold something.

        Raises: PartitionLost, BrokerUnavailable, BrokerTimeout.
        """
        if self._is_stopping:
            return
        signal = asyncio.create_task(
            self._tools.queues.wait(self._webhook, self._partition), name="webhook queue"
        )
        signal.add_done_callback(lambda _: self._woken.set())
        self._is_idle = True
        try:
            await self._woken.wait()
        finally:
            self._is_idle = False
            if not signal.done():
                signal.cancel()
                await asyncio.wait([signal])
        if not signal.cancelled():
            signal.result()

    async def _pause(self, seconds: float) -> None:
        """Wait for some seconds, or until ``stop`` or ``retry_now``."""
        self._woken.clear()
        if self._is_stopping:
            return
        timer = self._tools.schedule.after(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()


def _event(notification: QueuedNotification) -> WebhookEvent:
    """Return what is sent: ``data`` with the member ``sequence`` at its end."""
    members = notification.data[:-1]
    separator = "" if members == "{" else ","
    data = f'{members}{separator}"sequence":{notification.sequence}}}'
    return WebhookEvent(notification.id, notification.type, notification.at, data)


def _drop(waiting: deque[QueuedNotification], number: int) -> None:
    for _ in range(number):
        waiting.popleft()
