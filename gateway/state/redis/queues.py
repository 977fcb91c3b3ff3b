"""The queues of notifications, the bytes of their records, and the partitions that this replica owns.

A record is text: a form and fields separated by U+001E, which neither a JSON text nor a name can hold. The number in a
form is that of the format (``codec``); releases before format 4 and its first release know no queues.

    4Q  QueuedNotification: id, user, type, at, size, data
    4D  DeadLetter: reason, status or nothing, dead_at, the record of its notification

A record that this release cannot read becomes a dead letter with the type ``unreadable``. Replayed, it is put back as
it was, so a later release may read it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from itertools import count
from typing import Any, Final

import structlog

from gateway.domain.errors import QueueFull
from gateway.domain.notifications import (
    PRESENCE_WORK,
    USER_LISTS_WORK,
    DeadLetter,
    DeadReason,
    HeadFailures,
    Notification,
    PartitionClaim,
    PartitionLost,
    QueuedNotification,
    QueuePage,
    QueueSummary,
    queued_bytes,
)
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.records import FIELD, DecodeError, QueueWake

_NOTIFICATION: Final = "4Q"
_DEAD_LETTER: Final = "4D"
WAKE_FORM: Final = "4W"
"""The form of the frame that wakes an owner (``codec``)."""
_BURIED_AT_ONCE: Final = 16
"""What one script moves to the dead letters, so that nothing else waits long for Redis."""
UNREADABLE: Final = "unreadable"
"""The type of a dead letter whose notification cannot be read."""

log = structlog.get_logger(__name__)


def encode_notification(notification: Notification) -> bytes:
    """Encode a notification. Raises ValueError for a control character that would separate fields."""
    fields = (
        _NOTIFICATION,
        notification.id,
        notification.user,
        notification.type,
        repr(notification.at),
        str(queued_bytes(notification)),
        notification.data,
    )
    text = FIELD.join(fields)
    if text.count(FIELD) != len(fields) - 1:
        raise ValueError("a name or the data of a notification holds a control character")
    return text.encode()


def decode_notification(sequence: int, record: bytes) -> QueuedNotification:
    """Decode a notification. Raises DecodeError."""
    try:
        form, id_, user, type_, at, size, data = record.decode().split(FIELD)
        if form != _NOTIFICATION or not id_:
            raise DecodeError("no notification")
        return QueuedNotification(sequence, id_, user, type_, float(at), data, int(size))
    except ValueError as error:
        raise DecodeError("no notification") from error


def decode_dead_letter(id_: str, value: bytes) -> DeadLetter:
    """Decode a dead letter. Raises DecodeError; what it holds need not be readable."""
    try:
        form, reason, status, dead_at, record = value.decode(errors="replace").split(FIELD, 4)
        if form != _DEAD_LETTER:
            raise DecodeError("no dead letter")
        why, code, since = DeadReason(reason), int(status) if status else None, float(dead_at)
    except ValueError as error:
        raise DecodeError("no dead letter") from error
    try:
        was = decode_notification(0, record.encode())
    except DecodeError:
        return DeadLetter(id_, "", UNREADABLE, since, json.dumps({"record": record}), why, code, since)
    return DeadLetter(id_, was.user, was.type, was.at, was.data, why, code, since)


def _decode_failures(value: bytes) -> HeadFailures:
    """Decode what lua/record_failure.lua stores."""
    sequence, failures, beside_success, retry_ms, status, *_ = value.decode().split(" ")
    code = None if status == "-" else int(status)
    return HeadFailures(int(sequence), int(failures), int(beside_success), int(retry_ms) / 1000, code)


def _raise_full(answer: list[Any]) -> None:
    if answer[0] == b"QUEUE_FULL":
        raise queue_full(answer[1].decode())


def queue_full(webhook: str) -> QueueFull:
    """Return the error for a queue that holds as much as it may."""
    return QueueFull(f"the queue of webhook {webhook} is full")


class WakeUps:
    """Whether something was put into a partition since it was last read here."""

    def __init__(self) -> None:
        self._signals: dict[tuple[str, int], asyncio.Event] = {}

    def reading(self, work: str, partition: int) -> None:
        """A read begins: it returns what was put into the partition so far."""
        self._signals.setdefault((work, partition), asyncio.Event()).clear()

    def wake(self, wake: QueueWake) -> None:
        """Something was put into a partition. One that was not read here is not kept in mind."""
        signal = self._signals.get((wake.webhook, wake.partition))
        if signal is not None:
            signal.set()

    async def wait(self, work: str, partition: int) -> None:
        """Wait until something was put into a partition after it was last read. Before the first read do not wait."""
        signal = self._signals.get((work, partition))
        if signal is not None:
            await signal.wait()

    def forget(self, work: str, partitions: Collection[int] | None = None) -> None:
        """Forget partitions of a work, or all of them; whatever waits for one of them returns."""
        forgotten = [
            key for key in self._signals if key[0] == work and (partitions is None or key[1] in partitions)
        ]
        for key in forgotten:
            self._signals.pop(key).set()


class RedisPartitions:
    """``gateway.interfaces.Partitions``. Each claim is one script, which knows the leases of all replicas.

    ``process`` is the token of this process: an earlier process of this replica owns nothing. ``holds_lease`` is that
    of ``Membership``.
    """

    def __init__(
        self,
        commands: Commands,
        *,
        replica: str,
        process: str,
        wake_ups: WakeUps,
        holds_lease: Callable[[], bool],
    ) -> None:
        self._commands = commands
        self._replica = replica
        self._process = process
        self._wake_ups = wake_ups
        self._holds_lease = holds_lease

    @property
    def owner(self) -> str:
        """What the scripts store for a partition of this process."""
        return f"{self._replica} {self._process}"

    async def claim(self, work: str, partitions: int) -> PartitionClaim:
        is_queue = work not in {PRESENCE_WORK, USER_LISTS_WORK}
        owned, surplus, waiting = await self._commands.call(
            "claim_partitions", work, partitions, self._replica, self._process, int(is_queue)
        )
        return PartitionClaim(frozenset(owned), frozenset(surplus), frozenset(waiting))

    async def release(self, work: str, partitions: Collection[int]) -> None:
        self._wake_ups.forget(work, partitions)
        await self._commands.call("release_partitions", work, self.owner, 0, *partitions)

    async def leave(self, work: str) -> None:
        self._wake_ups.forget(work)
        await self._commands.call("release_partitions", work, self.owner, 1)

    def holds_lease(self) -> bool:
        return self._holds_lease()


class RedisWebhookQueues:
    """``gateway.interfaces.WebhookQueues``. Each method of a partition is one script that compares the owner."""

    def __init__(self, commands: Commands, *, confirmed: Commands, owner: str, wake_ups: WakeUps) -> None:
        """``owner`` is what ``RedisPartitions`` stores for partitions of this process.

        ``confirmed`` is the connection for what Redis replicas have to confirm, ``commands`` unless they have to.
        """
        self._commands = commands
        self._confirmed = confirmed
        self._owner = owner
        self._wake_ups = wake_ups
        self._calls = count()
        self._ids: dict[tuple[str, int], dict[int, str]] = {}
        """The ids of the last page of each partition, by sequence: after a failover a sequence may be that of another
        notification, which the former primary never had."""

    async def read(self, webhook: str, partition: int, *, max_entries: int, max_bytes: int) -> QueuePage:
        while True:
            self._wake_ups.reading(webhook, partition)
            page, failures = await self._change("read_queue", webhook, partition, max_entries, max_bytes)
            notifications: list[QueuedNotification] = []
            unreadable: list[int] = []
            for sequence, record in zip(map(int, page[::2]), page[1::2], strict=True):
                try:
                    notifications.append(decode_notification(sequence, record))
                except DecodeError:
                    unreadable.append(sequence)
            if unreadable:
                log.error("webhook.unreadable", webhook=webhook, notifications=len(unreadable))
                await self.bury(webhook, partition, unreadable, reason=DeadReason.FAILED, status=None)
            if notifications or not unreadable:
                break
        self._ids[webhook, partition] = {each.sequence: each.id for each in notifications}
        head = _decode_failures(failures) if failures else None
        if head is not None and head.sequence != notifications[0].sequence:
            head = None
        return QueuePage(tuple(notifications), head)

    async def wait(self, webhook: str, partition: int) -> None:
        await self._wake_ups.wait(webhook, partition)

    async def remove(self, webhook: str, partition: int, sequences: Collection[int]) -> None:
        await self._remove(webhook, partition, "", sequences)

    async def record_failure(
        self, webhook: str, partition: int, sequence: int, *, retry_at: float, status: int | None
    ) -> HeadFailures:
        retry_ms, code = int(retry_at * 1000), "" if status is None else status
        call = f"{self._owner.rpartition(' ')[2]}.{next(self._calls)}"
        stored = await self._change("record_failure", webhook, partition, sequence, retry_ms, code, call)
        return _decode_failures(stored[0]) if stored else HeadFailures(sequence, 0, 0, retry_at, status)

    async def bury(
        self,
        webhook: str,
        partition: int,
        sequences: Collection[int],
        *,
        reason: DeadReason,
        status: int | None,
    ) -> None:
        begins = FIELD.join((_DEAD_LETTER, reason.value, "" if status is None else str(status), ""))
        buried = sorted(sequences)
        for first in range(0, len(buried), _BURIED_AT_ONCE):
            part = buried[first : first + _BURIED_AT_ONCE]
            await self._remove(webhook, partition, begins, part)

    async def _remove(self, webhook: str, partition: int, begins: str, sequences: Collection[int]) -> None:
        """Remove notifications, once Redis replicas have confirmed it: what they miss would be sent again."""
        ids = self._ids.get((webhook, partition), {})
        named = [part for each in sorted(sequences) for part in (each, ids.get(each, ""))]
        await self._change(
            "remove_notifications", webhook, partition, begins, *named, commands=self._confirmed
        )

    async def _change(
        self,
        script: str,
        webhook: str,
        partition: int,
        *arguments: Argument,
        commands: Commands | None = None,
    ) -> list[Any]:
        """Run a script of a partition. Raises: PartitionLost."""
        answer = await (commands or self._commands).call(script, webhook, partition, self._owner, *arguments)
        status, *details = answer
        if status == b"LOST":
            self._ids.pop((webhook, partition), None)
            self._wake_ups.forget(webhook, (partition,))
            raise PartitionLost(f"this replica does not own partition {partition} of {webhook}")
        return list(details)

    async def dead_letters(
        self, webhook: str, *, after: str | None = None, limit: int
    ) -> Sequence[DeadLetter]:
        if after == "":
            return ()
        found = await self._commands.call("dead_letters", webhook, after or "", limit)
        return tuple(
            decode_dead_letter(id_.decode(errors="replace"), value)
            for id_, value in zip(found[::2], found[1::2], strict=True)
        )

    async def replay(self, webhook: str, ids: Collection[str], *, partitions: int) -> int:
        return await self._take_dead_letters(webhook, partitions, ids)

    async def drop(self, webhook: str, ids: Collection[str]) -> int:
        return await self._take_dead_letters(webhook, "", ids)

    async def _take_dead_letters(self, webhook: str, partitions: Argument, ids: Collection[str]) -> int:
        # Not repeated after a lost answer: a second run would find less, and return that.
        _, taken = await self._confirmed.call(
            "take_dead_letters",
            webhook,
            partitions,
            WAKE_FORM,
            *ids,
            retry=False,
            raise_rejection=_raise_full,
        )
        return int(taken)

    async def summaries(self, webhooks: Collection[str]) -> dict[str, QueueSummary]:
        # One after the other: many queues in one script would keep Redis from everything else.
        return {
            name: _summary(*await self._commands.call("summarize_queue", name))
            for name in dict.fromkeys(webhooks)
        }


def _summary(entries: int, size: int, oldest_at: bytes, dead: int, owners: list[bytes]) -> QueueSummary:
    owned = sorted(
        (int(partition), replica.decode())
        for partition, replica in zip(owners[::2], owners[1::2], strict=True)
    )
    return QueueSummary(entries, size, float(oldest_at) if oldest_at else None, dead, tuple(owned))
