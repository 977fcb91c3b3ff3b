"""Notify the webhook of a backend of changes of presence, one request at a time for each partition.

Partitions share requests while the webhook takes several events in one.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, CallDropped
from gateway.domain.presence import PresenceChange, PresenceConsumer
from gateway.domain.times import iso_timestamp
from gateway.domain.webhooks import Delivery, DeliveryOutcome, WebhookEvent
from gateway.interfaces import Clock, PresenceEvents, Webhooks

ONLINE, OFFLINE = "user.online", "user.offline"
PAGE: Final = 200
"""Changes that are read at once: a shared state does nothing else meanwhile."""
READ_AGAIN_SECONDS: Final = 1.0
"""Changes that were read so long ago are read again before the next request: newer ones may have taken their place."""
MAX_BESIDE_SUCCESS: Final = 3
"""A change that failed so often while the webhook accepted others is set aside."""
MAX_REMEMBERED: Final = 10_000
"""Users of whom a rejection, or an acceptance that the state does not know of, is remembered."""
_CONSUMER: Final = PresenceConsumer.WEBHOOK
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_DIGEST_CHARACTERS: Final = 43
_quote: Final = json.JSONEncoder(ensure_ascii=False).encode

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Trouble:
    """The requests with the newest change of a user alone that were not accepted.

    ``beside_success`` counts those before which the webhook had accepted other requests since the one before.
    """

    failures: int = 0
    beside_success: int = 0
    accepted_then: int = 0
    is_logged: bool = False

    def count(self, accepted_requests: int) -> None:
        """Count one; ``accepted_requests`` is the number of all that were accepted until now."""
        if self.failures and accepted_requests > self.accepted_then:
            self.beside_success += 1
        self.failures += 1
        self.accepted_then = accepted_requests

    @property
    def is_at_fault(self) -> bool:
        """Whether the change fails for a reason of its own."""
        return self.beside_success >= MAX_BESIDE_SUCCESS


class WebhookNotifier:
    """Sends changes to the webhook, and records those that it accepted.

    After a failure the partition waits, and the next attempt begins with another change. A change that the webhook
    rejects, or that fails while others are accepted, is set aside: it is postponed, and others do not wait for it. A
    change that was accepted is not sent again here, although the state may have lost the record of that.
    """

    def __init__(
        self,
        *,
        events: PresenceEvents,
        webhooks: Webhooks,
        clock: Clock,
        retry_seconds: Callable[[int, float | None], float],
        owned: Callable[[], frozenset[int]],
        on_notified: Callable[[PresenceConsumer, Sequence[PresenceChange]], None],
    ) -> None:
        """``retry_seconds`` returns the pause after so many failures, given Retry-After."""
        self.webhook: str | None = None
        self.wake = asyncio.Event()
        """Set when the work on a partition has ended, and there may be more."""
        self.is_closing = False
        self._events = events
        self._webhooks = webhooks
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._owned = owned
        self._on_notified = on_notified
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._failures: dict[int, int] = {}
        self._retry_at: dict[int, float] = {}
        """Partitions that wait after a failure, by the monotonic clock."""
        self._one_by_one: dict[int, int] = {}
        """How many changes of a partition are sent alone, because a request with so many failed."""
        self._troubles: OrderedDict[str, _Trouble] = OrderedDict()
        """The users whose newest change failed or was rejected alone."""
        self._accepted_requests = 0
        self._accepted: OrderedDict[str, int] = OrderedDict()
        """Versions that the webhook accepted and the state does not know of, by user."""

    def configure(self, webhook: str | None) -> None:
        """Notify this webhook from now on, and try it at once; None: none."""
        if webhook != self.webhook:
            self._failures.clear()
            self._one_by_one.clear()
            self._troubles.clear()
            self._accepted.clear()
        self.webhook = webhook
        self._retry_at.clear()
        self.wake.set()

    def is_busy(self, partition: int) -> bool:
        """Whether a request for a partition is under way."""
        return partition in self._tasks

    async def work(self, partitions: frozenset[int], tasks: asyncio.TaskGroup) -> int:
        """Begin to send what is due in the partitions that wait for nothing; return how many changes.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        now = self._clock.monotonic()
        free = [
            each for each in partitions if each not in self._tasks and self._retry_at.get(each, now) <= now
        ]
        webhook = self.webhook
        if not free or webhook is None or self.is_closing:
            return 0
        changes = await self._events.undelivered(_CONSUMER, free, limit=PAGE)
        is_full = len(changes) == PAGE
        if is_full:
            self.wake.set()  # Partitions without a change among these are read next.
        for part in self._parts(webhook, changes):
            of = frozenset(each.partition for each in part)
            name = f"presence webhook {' '.join(map(str, sorted(of)))}"
            task = tasks.create_task(self._send_all(webhook, part), name=name)
            self._tasks.update(dict.fromkeys(of, task))
            task.add_done_callback(partial(self._on_done, of, is_full))
        return len(changes)

    async def finish(self, *, seconds: float) -> None:
        """Begin no request any more, and wait for those under way; cancel them after some seconds."""
        self.is_closing = True
        under_way = set(self._tasks.values())
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def _parts(self, webhook: str, changes: Sequence[PresenceChange]) -> Iterator[Sequence[PresenceChange]]:
        """Return the changes in parts, whose requests are sent beside each other: each partition is in one of them.

        Partitions share a part as long as it fits into one request. One with a change that may be at fault is alone.
        """
        size = self._batch(webhook)
        pages: dict[int, list[PresenceChange]] = {}
        for change in changes:
            pages.setdefault(change.partition, []).append(change)
        together: list[PresenceChange] = []
        for partition, page in pages.items():
            if size == 1 or self._is_in_trouble(partition, page):
                yield page
                continue
            if together and len(together) + len(page) > size:
                yield together
                together = []
            together = together + page
        if together:
            yield together

    def _is_in_trouble(self, partition: int, page: Sequence[PresenceChange]) -> bool:
        return (
            partition in self._failures
            or self._one_by_one.get(partition, 0) > 0
            or any(each.user in self._troubles for each in page)
        )

    async def _send_all(self, webhook: str, changes: Sequence[PresenceChange]) -> None:
        try:
            read_again_at = self._clock.monotonic() + READ_AGAIN_SECONDS
            waiting = deque(await self._unsent(changes))
            while waiting and self._may_send(webhook, waiting):
                if not await self._send(webhook, self._next_batch(webhook, waiting)):
                    return
                if self._clock.monotonic() >= read_again_at:
                    return
        except CallDropped:
            pass  # The owner of the partition sends it.
        except (BrokerUnavailable, BrokerTimeout) as error:
            # What was accepted is remembered and recorded with the next attempt.
            log.warning("presence.record_failed", webhook=webhook, reason=error.message)
            pause = self._retry_seconds(1, None)
            for partition in _partitions_of(changes):
                self._retry_at[partition] = self._clock.monotonic() + pause

    def _on_done(self, partitions: frozenset[int], is_full: bool, _task: asyncio.Task[None]) -> None:
        for partition in partitions:
            del self._tasks[partition]
        if is_full or any(self._one_by_one.get(each, 0) for each in partitions):
            # Otherwise the next read comes soon, and finds more changes for one request than a read at once.
            self.wake.set()

    async def _send(self, webhook: str, changes: Sequence[PresenceChange]) -> bool:
        """Send one request; return whether the next one of its partitions may follow.

        Raises: BrokerUnavailable, BrokerTimeout; CallDropped if it was not sent, because this replica has lost a
        partition, or stops, while it waited for others of the webhook.
        """
        delivery = await self._webhooks.deliver(
            webhook,
            [webhook_event(each) for each in changes],
            is_wanted=lambda: self._may_send(webhook, changes),
        )
        if delivery.outcome is DeliveryOutcome.ACCEPTED:
            for partition in _partitions_of(changes):
                self._failures.pop(partition, None)
            self._accepted_requests += 1
            self._on_notified(_CONSUMER, changes)
            await self._record(changes)
            return True
        if len(changes) == 1:
            return await self._send_again(webhook, changes[0], delivery)
        # The webhook does not show which change is at fault, if one is: each partition sends its own ones alone.
        for partition, number in Counter(each.partition for each in changes).items():
            self._one_by_one[partition] = number
            if delivery.outcome is DeliveryOutcome.FAILED:
                self._pause(partition, delivery)
        return False

    async def _send_again(self, webhook: str, change: PresenceChange, delivery: Delivery) -> bool:
        """Let a change that was sent alone wait; return whether the next one of its partition may follow.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        trouble = self._troubles.get(change.user, _Trouble())
        _remember(self._troubles, change.user, trouble)
        trouble.count(self._accepted_requests)
        is_rejected = delivery.outcome is DeliveryOutcome.REJECTED
        if is_rejected or (trouble.is_at_fault and delivery.retry_after_seconds is None):
            await self._set_aside(webhook, change, trouble, delivery)
            return True
        self._pause(change.partition, delivery)
        await self._events.postpone(_CONSUMER, [change], seconds=0.0)  # Others come first.
        return False

    def _pause(self, partition: int, delivery: Delivery) -> None:
        failures = self._failures[partition] = self._failures.get(partition, 0) + 1
        pause = self._retry_seconds(failures, delivery.retry_after_seconds)
        self._retry_at[partition] = self._clock.monotonic() + pause

    def _next_batch(self, webhook: str, waiting: deque[PresenceChange]) -> list[PresenceChange]:
        """Take the changes of the next request: those that may be at fault alone."""
        batch = [waiting.popleft()]
        partition = batch[0].partition
        one_by_one = self._one_by_one.get(partition, 0)
        if one_by_one:
            self._one_by_one[partition] = one_by_one - 1
            return batch
        size = 1 if batch[0].user in self._troubles else self._batch(webhook)
        while waiting and len(batch) < size and waiting[0].user not in self._troubles:
            batch.append(waiting.popleft())
        return batch

    def _batch(self, webhook: str) -> int:
        configured = self._webhooks.configured().get(webhook)
        return 1 if configured is None else configured.batch

    def _may_send(self, webhook: str, changes: Iterable[PresenceChange]) -> bool:
        owned = self._owned()
        return (
            not self.is_closing
            and webhook == self.webhook
            and all(each.partition in owned for each in changes)
        )

    async def _unsent(self, changes: Sequence[PresenceChange]) -> list[PresenceChange]:
        """Record the changes that the webhook accepted before, and return the others.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        accepted = [each for each in changes if self._accepted.get(each.user, 0) >= each.version]
        if accepted:
            await self._record(accepted)
        return [each for each in changes if each not in accepted]

    async def _record(self, changes: Sequence[PresenceChange]) -> None:
        for each in changes:
            _remember(self._accepted, each.user, each.version)
        await self._events.delivered(_CONSUMER, changes)
        for each in changes:
            self._accepted.pop(each.user, None)
            self._troubles.pop(each.user, None)

    async def _set_aside(
        self, webhook: str, change: PresenceChange, trouble: _Trouble, delivery: Delivery
    ) -> None:
        """Postpone a change that is at fault, or give it up once it is older than the webhook keeps events.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        configured = self._webhooks.configured().get(webhook)
        is_expired = configured is not None and change.since + configured.keep_seconds < self._clock.now()
        if not trouble.is_logged or is_expired:
            log.warning(
                "presence.change_rejected",
                webhook=webhook,
                user=change.user,
                version=change.version,
                status=delivery.status,
                expired=is_expired,
            )
        trouble.is_logged = True
        if is_expired:
            await self._record([change])
            return
        pause = self._retry_seconds(trouble.failures, delivery.retry_after_seconds)
        await self._events.postpone(_CONSUMER, [change], seconds=pause)


def _partitions_of(changes: Iterable[PresenceChange]) -> set[int]:
    return {each.partition for each in changes}


def webhook_event(change: PresenceChange) -> WebhookEvent:
    """Return a change as a webhook gets it."""
    # Put together by hand, because each connection makes two of them: json.dumps takes more than twice as long.
    since = iso_timestamp(change.since)
    data = (
        f'{{"user":{_quote(change.user)},"version":{change.version},'
        f'"since":"{since}","connections":{change.connections}}}'
    )
    kind = ONLINE if change.is_online else OFFLINE
    return WebhookEvent(f"p-{id_of_user(change.user)}-{change.version}", kind, change.since, data)


def id_of_user(user: str) -> str:
    """Return a user as ids of events have it: as it is, or a digest if it is long or has other characters.

    A user that looks like a digest is replaced, too, so that no two users share an id.
    """
    if _PLAIN.fullmatch(user) and len(user) != _DIGEST_CHARACTERS:
        return user
    return base64.urlsafe_b64encode(hashlib.sha256(user.encode()).digest()).decode().rstrip("=")


def _remember(map_: OrderedDict[str, T], user: str, value: T) -> None:
    map_[user] = value
    map_.move_to_end(user)
    if len(map_) > MAX_REMEMBERED:
        map_.popitem(last=False)
