"""The queues of notifications in memory, their dead letters, and the partitions that this replica owns."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.domain.errors import QueueFull
from gateway.domain.notifications import (
    DEAD_LETTER_SECONDS,
    QUEUE_SECONDS,
    DeadLetter,
    DeadReason,
    HeadFailures,
    Notification,
    PartitionClaim,
    PartitionLost,
    QueuedNotification,
    QueuePage,
    QueueSummary,
    partition_of,
    queued_bytes,
)
from gateway.interfaces import Clock
from gateway.state.memory.ttl_map import TtlMap

MAX_WEBHOOKS: Final = 1_000
"""The webhooks with a queue. One that was removed from the settings counts until its queue expires."""


class MemoryPartitions:
    """Satisfies ``gateway.interfaces.Partitions`` for the only replica: it owns every partition that it claimed.

    ``waiting`` returns the partitions of a work that hold notifications.
    """

    def __init__(self, replica: str, *, waiting: Callable[[str], Collection[int]]) -> None:
        self._replica = replica
        self._waiting = waiting
        self._owned: dict[str, set[int]] = {}

    async def claim(self, work: str, partitions: int) -> PartitionClaim:
        waiting = frozenset(self._waiting(work))
        owned = self._owned.setdefault(work, set())
        owned.update(range(partitions), waiting)
        surplus = frozenset(each for each in owned if each >= partitions and each not in waiting)
        return PartitionClaim(frozenset(owned), surplus, waiting)

    async def release(self, work: str, partitions: Collection[int]) -> None:
        self._owned.get(work, set()).difference_update(partitions)

    async def leave(self, work: str) -> None:
        self._owned.pop(work, None)

    def holds_lease(self) -> bool:
        return True

    def owners(self, work: str) -> tuple[tuple[int, str], ...]:
        """Return the partitions with an owner, each with this replica."""
        return tuple((partition, self._replica) for partition in sorted(self._owned.get(work, ())))

    def check(self, work: str, partition: int) -> None:
        """Raises: PartitionLost if this replica does not own the partition."""
        if partition not in self._owned.get(work, ()):
            raise PartitionLost(f"this replica does not own partition {partition} of {work}")


class MemoryWebhookQueues:
    """Satisfies ``gateway.interfaces.WebhookQueues``. What is not a wait is one step of the event loop.

    A queue to which nothing was added for QUEUE_SECONDS is removed, with what it holds: its webhook was removed from
    the settings, since others send or bury each notification within MAX_KEEP_SECONDS.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        replica: str,
        max_queued: int,
        max_queued_bytes: int,
        max_dead_letters: int,
        max_dead_letter_bytes: int,
    ) -> None:
        self.partitions = MemoryPartitions(replica, waiting=self._waiting_partitions)
        self._clock = clock
        self._max_queued = max_queued
        self._max_queued_bytes = max_queued_bytes
        self._max_dead_letters = max_dead_letters
        self._max_dead_letter_bytes = max_dead_letter_bytes
        self._queues: TtlMap[str, _Queue] = TtlMap(clock=clock, seconds=QUEUE_SECONDS, max_items=MAX_WEBHOOKS)
        self._last_sequence = 0
        self._waiters: defaultdict[tuple[str, int], set[asyncio.Future[None]]] = defaultdict(set)

    @property
    def waits(self) -> int:
        """How many callers of ``wait`` wait."""
        return sum(map(len, self._waiters.values()))

    def sizes(self) -> Mapping[str, float]:
        """How much the queues and the dead letters of all webhooks hold."""
        queues = [queue for _, queue in self._queues.items()]
        return {
            "queued_notifications": sum(queue.entries for queue in queues),
            "dead_letters": sum(len(queue.dead) for queue in queues),
        }

    def check_space(self, notifications: Iterable[Notification]) -> None:
        """Raises: QueueFull if a queue has no space for those of its webhook."""
        sizes: defaultdict[str, list[int]] = defaultdict(list)
        for each in notifications:
            sizes[each.webhook].append(queued_bytes(each))
        new = sum([self._queues.get(webhook) is None for webhook in sizes])
        if new and self._queues.is_full(adding=new):
            raise QueueFull(f"{MAX_WEBHOOKS} webhooks have a queue")
        for webhook, added in sizes.items():
            self._check_space(webhook, added)

    def put(self, notifications: Iterable[Notification]) -> None:
        """Put notifications at the ends of their partitions. There must be space for them."""
        for each in notifications:
            self._put(
                each.webhook,
                each.partition,
                QueuedNotification(
                    self._next_sequence(),
                    each.id,
                    each.user,
                    each.type,
                    each.at,
                    each.data,
                    queued_bytes(each),
                ),
            )

    async def read(self, webhook: str, partition: int, *, max_entries: int, max_bytes: int) -> QueuePage:
        held = self._held(webhook, partition)
        if held is None:
            return QueuePage(())
        held.is_unread = False
        page: list[QueuedNotification] = []
        for each in held.notifications.values():
            max_bytes -= each.size
            if page and (len(page) >= max_entries or max_bytes < 0):
                break
            page.append(each)
        return QueuePage(tuple(page), held.failures)

    async def wait(self, webhook: str, partition: int) -> None:
        queue = self._queues.get(webhook)
        if queue is not None and partition in queue.partitions and queue.partitions[partition].is_unread:
            return
        waiters = self._waiters[webhook, partition]
        woken = asyncio.get_running_loop().create_future()
        waiters.add(woken)
        try:
            await woken
        finally:
            waiters.discard(woken)
            if not waiters and self._waiters.get((webhook, partition)) is waiters:
                del self._waiters[webhook, partition]

    async def remove(self, webhook: str, partition: int, sequences: Collection[int]) -> None:
        if self._held(webhook, partition) is not None:
            queue = self._queue(webhook)
            queue.accepted += len(queue.take(partition, sequences))

    async def record_failure(
        self, webhook: str, partition: int, sequence: int, *, retry_at: float, status: int | None
    ) -> HeadFailures:
        held = self._held(webhook, partition)
        if held is None or sequence != next(iter(held.notifications), None):
            return HeadFailures(sequence, 0, 0, retry_at, status)
        former, accepted = held.failures, self._queue(webhook).accepted
        beside_success = 0
        if former is not None:
            beside_success = former.beside_success + (accepted > held.accepted_before_failure)
        failures = 1 if former is None else former.failures + 1
        held.failures = HeadFailures(sequence, failures, beside_success, retry_at, status)
        held.accepted_before_failure = accepted
        return held.failures

    async def bury(
        self,
        webhook: str,
        partition: int,
        sequences: Collection[int],
        *,
        reason: DeadReason,
        status: int | None,
    ) -> None:
        if self._held(webhook, partition) is None:
            return
        queue, now = self._queue(webhook), self._clock.now()
        for each in queue.take(partition, sequences):
            letter = DeadLetter(each.id, each.user, each.type, each.at, each.data, reason, status, now)
            queue.dead.add(letter, each.size)
        self._queues.put(webhook, queue)

    async def dead_letters(
        self, webhook: str, *, after: str | None = None, limit: int
    ) -> Sequence[DeadLetter]:
        queue = self._queues.get(webhook)
        letters = [] if queue is None else [letter for letter, _ in queue.dead.held()]
        if after is not None:
            ids = [letter.id for letter in letters]
            letters = letters[ids.index(after) + 1 :] if after in ids else []
        return tuple(letters[:limit])

    async def replay(self, webhook: str, ids: Collection[str], *, partitions: int) -> int:
        queue, wanted = self._queues.get(webhook), set(ids)
        if queue is None:
            return 0
        replayed = [(letter, size) for letter, size in queue.dead.held() if letter.id in wanted]
        self._check_space(webhook, [size for _, size in replayed])
        for letter, size in replayed:
            queue.dead.remove(letter.id)
            self._put(
                webhook,
                partition_of(letter.user, partitions),
                QueuedNotification(self._next_sequence(), *letter[:5], size),
            )
        return len(replayed)

    async def drop(self, webhook: str, ids: Collection[str]) -> int:
        queue = self._queues.get(webhook)
        return 0 if queue is None else sum([queue.dead.remove(id_) for id_ in set(ids)])

    async def summaries(self, webhooks: Collection[str]) -> dict[str, QueueSummary]:
        return {webhook: self._summary(webhook) for webhook in webhooks}

    def _summary(self, webhook: str) -> QueueSummary:
        owners = self.partitions.owners(webhook)
        queue = self._queues.get(webhook)
        if queue is None:
            return QueueSummary(owners=owners)
        oldest_at = min((held.first.at for held in queue.partitions.values()), default=None)
        dead_letters = sum(1 for _ in queue.dead.held())
        return QueueSummary(queue.entries, queue.bytes, oldest_at, dead_letters, owners)

    def _waiting_partitions(self, webhook: str) -> Collection[int]:
        queue = self._queues.get(webhook)
        return () if queue is None else queue.partitions.keys()

    def _check_space(self, webhook: str, added: Sequence[int]) -> None:
        """``added`` are the sizes of the notifications."""
        queue = self._queues.get(webhook)
        entries, size = (0, 0) if queue is None else (queue.entries, queue.bytes)
        if added and (entries + len(added) > self._max_queued or size + sum(added) > self._max_queued_bytes):
            raise QueueFull(f"the queue of webhook {webhook} is full")

    def _put(self, webhook: str, partition: int, notification: QueuedNotification) -> None:
        queue = self._queues.get(webhook)
        if queue is None:
            dead = _DeadLetters(self._clock, self._max_dead_letters, self._max_dead_letter_bytes)
            queue = _Queue(dead)
        self._queues.put(webhook, queue)
        queue.add(partition, notification)
        for woken in self._waiters.pop((webhook, partition), ()):
            if not woken.done():
                woken.set_result(None)

    def _held(self, webhook: str, partition: int) -> _Partition | None:
        """Return what a partition of this replica holds. Raises: PartitionLost."""
        self.partitions.check(webhook, partition)
        queue = self._queues.get(webhook)
        return None if queue is None else queue.partitions.get(partition)

    def _queue(self, webhook: str) -> _Queue:
        queue = self._queues.get(webhook)
        assert queue is not None  # noqa: S101  # one of its partitions holds something
        return queue

    def _next_sequence(self) -> int:
        """Return a sequence above those of all partitions: a partition that is empty need not be remembered."""
        self._last_sequence = max(int(self._clock.now() * 1000) * 1000, self._last_sequence + 1)
        return self._last_sequence


@dataclass(eq=False, slots=True)
class _Partition:
    """The notifications of one partition, by sequence; there is at least one.

    ``accepted_before_failure`` is how many the webhook had accepted at the last failure of the first one.
    ``is_unread``: one was added since the last read.
    """

    # Not a dict: finding its first item walks over all items that were deleted before it, each time.
    notifications: OrderedDict[int, QueuedNotification] = field(default_factory=OrderedDict)
    failures: HeadFailures | None = None
    accepted_before_failure: int = 0
    is_unread: bool = True

    @property
    def first(self) -> QueuedNotification:
        return next(iter(self.notifications.values()))


class _Queue:
    """The notifications and the dead letters of one webhook. ``accepted`` is how many the webhook accepted."""

    def __init__(self, dead: _DeadLetters) -> None:
        self.dead = dead
        self.partitions: dict[int, _Partition] = {}
        """The partitions that hold notifications."""
        self.entries = self.bytes = self.accepted = 0

    def add(self, partition: int, notification: QueuedNotification) -> None:
        held = self.partitions.setdefault(partition, _Partition())
        held.is_unread = True
        held.notifications[notification.sequence] = notification
        self.entries += 1
        self.bytes += notification.size

    def take(self, partition: int, sequences: Collection[int]) -> Sequence[QueuedNotification]:
        """Remove notifications from a partition that holds some, and return those that it held."""
        held = self.partitions[partition]
        found = [held.notifications.pop(each, None) for each in sorted(sequences)]
        taken = [each for each in found if each is not None]
        self.entries -= len(taken)
        self.bytes -= sum([each.size for each in taken])
        if not held.notifications:
            del self.partitions[partition]
        elif held.failures is not None and held.failures.sequence != held.first.sequence:
            held.failures = None
        return taken


class _DeadLetter(NamedTuple):
    letter: DeadLetter
    size: int


class _DeadLetters:
    """The dead letters of one webhook, the oldest first."""

    def __init__(self, clock: Clock, max_letters: int, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._letters: TtlMap[str, _DeadLetter] = TtlMap(
            clock=clock,
            seconds=DEAD_LETTER_SECONDS,
            max_items=max_letters,
            on_removed=lambda _id, dead: self._uncount(dead),
        )

    def __len__(self) -> int:
        return len(self._letters)

    def held(self) -> Iterable[_DeadLetter]:
        """Return the letters that have not expired, with their sizes."""
        return (dead for _, dead in self._letters.items())

    def add(self, letter: DeadLetter, size: int) -> None:
        """Add a letter; the oldest ones are removed beyond the limits. One with the same id is replaced."""
        self.remove(letter.id)
        self._bytes += size
        self._letters.put(letter.id, _DeadLetter(letter, size))
        while self._bytes > self._max_bytes:
            self._letters.remove_oldest()

    def remove(self, id_: str) -> bool:
        """Remove a letter; return whether it was there."""
        was_held = self._letters.get(id_) is not None
        dead = self._letters.remove(id_)
        if dead is not None:
            self._uncount(dead)
        return was_held

    def _uncount(self, dead: _DeadLetter) -> None:
        self._bytes -= dead.size
