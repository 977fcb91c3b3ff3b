"""Notifications: events that a webhook gets at least once, and in order for each user. Values and limits.

A queue belongs to one webhook and has partitions. All notifications of a user are in one partition, which one replica
owns at a time (``gateway.interfaces.queues``).
"""

from __future__ import annotations

from enum import Enum
from hashlib import sha1
from typing import Final, NamedTuple

MAX_QUEUED: Final = 100_000
MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
"""What the queue of a webhook holds at most; beyond it notifications are rejected, never dropped."""
MAX_DEAD_LETTERS: Final = 1_000
MAX_DEAD_LETTER_BYTES: Final = 16 * 1024 * 1024
DEAD_LETTER_SECONDS: Final = 7 * 86_400.0
"""What is kept of the dead letters of a webhook, the newest ones."""
MAX_KEEP_SECONDS: Final = 7 * 86_400.0
"""The most that ``keep_seconds`` of a webhook may be."""
QUEUE_SECONDS: Final = MAX_KEEP_SECONDS + 86_400.0
"""The TTL of a queue, renewed by each notification."""
MAX_PARTITIONS: Final = 256
PRESENCE_PARTITIONS: Final = 16
"""The partitions of the users whose presence changed."""
PRESENCE_WORK: Final = "!presence"
USER_LISTS_WORK: Final = "!online_users"
"""Work that is shared between replicas as partitions are, beside the webhooks. No id of a webhook begins so."""


class Notification(NamedTuple):
    """An event for a webhook that the broker accepts together with messages.

    ``id`` is the ``webhook-id`` of every try, of ``A-Z a-z 0-9 _ -``. ``at``: when it happened, in seconds since 1970.
    ``data`` is the JSON text of an object without the member ``sequence``.
    """

    id: str
    webhook: str
    partition: int
    user: str
    type: str
    at: float
    data: str


class QueuedNotification(NamedTuple):
    """A notification in its queue. ``sequence`` rises in its partition, also after the queue was lost.

    It is when the notification was put into the queue, in microseconds since 1970, or later. ``size`` is what it counts
    of MAX_QUEUED_BYTES.
    """

    sequence: int
    id: str
    user: str
    type: str
    at: float
    data: str
    size: int = 0

    @property
    def queued_at(self) -> float:
        """When it was put into the queue, for the last time, in seconds since 1970."""
        return self.sequence / 1_000_000


QUEUED_OVERHEAD_BYTES: Final = 200
"""What a queued notification counts beside its texts."""


def queued_bytes(notification: Notification) -> int:
    """Return what a notification counts of MAX_QUEUED_BYTES. The scripts of ``state/redis/lua`` count the same."""
    texts = (notification.id, notification.user, notification.type, notification.data)
    return QUEUED_OVERHEAD_BYTES + sum(
        [len(text) if text.isascii() else len(text.encode()) for text in texts]
    )


class HeadFailures(NamedTuple):
    """The failures of the first notification of a partition.

    ``beside_success`` counts those before which the webhook had accepted others since the failure before. ``retry_at``
    is in seconds since 1970. ``status`` is that of the last answer, None without one.
    """

    sequence: int
    failures: int
    beside_success: int
    retry_at: float
    status: int | None


class QueuePage(NamedTuple):
    """The first notifications of a partition, oldest first. ``failures`` are those of the first one, if it failed."""

    notifications: tuple[QueuedNotification, ...]
    failures: HeadFailures | None = None


class DeadReason(Enum):
    """Why a notification is not tried any more: the backend rejected it, it failed too often, or it is too old."""

    REJECTED = "rejected"
    FAILED = "failed"
    EXPIRED = "expired"


class DeadLetter(NamedTuple):
    """A notification that is not tried any more. ``dead_at``: since when, in seconds since 1970."""

    id: str
    user: str
    type: str
    at: float
    data: str
    reason: DeadReason
    status: int | None
    dead_at: float


class QueueSummary(NamedTuple):
    """What a queue holds. ``oldest_at``: when its oldest notification happened, in seconds since 1970.

    ``owners`` are the replicas that own its partitions, by partition; one without an owner is absent.
    """

    entries: int = 0
    bytes: int = 0
    oldest_at: float | None = None
    dead_letters: int = 0
    owners: tuple[tuple[int, str], ...] = ()


class PartitionClaim(NamedTuple):
    """The partitions that a replica owns. ``surplus`` are those of them that it should release.

    ``waiting`` are those of them that hold notifications.
    """

    owned: frozenset[int] = frozenset()
    surplus: frozenset[int] = frozenset()
    waiting: frozenset[int] = frozenset()


class PartitionLost(Exception):
    """This replica does not own the partition; nothing was changed."""


def partition_of(user: str, partitions: int) -> int:
    """Return the partition of a user. The scripts of ``state/redis/lua`` compute the same."""
    return int.from_bytes(sha1(user.encode(), usedforsecurity=False).digest()[:2]) % partitions
