"""The interfaces of what is passed on to backends: queues of notifications, and changes of the presence of users.

Methods raise BrokerUnavailable and BrokerTimeout as those of the state do (``gateway.interfaces.state``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from gateway.domain.notifications import (
    DeadLetter,
    DeadReason,
    HeadFailures,
    PartitionClaim,
    QueuePage,
    QueueSummary,
)
from gateway.domain.presence import PresenceChange, PresenceConsumer, PresenceRules, UserList


class Partitions(Protocol):
    """Which replica owns which partition of shared work: of a webhook, PRESENCE_WORK, USER_LISTS_WORK.

    Contract:

    - A partition has one owner at a time. It is a replica with a lease; once the lease has expired, or the replica has
      released the partition, the next ``claim`` of another replica may take it.
    - The replicas that called ``claim`` within the last few seconds share the partitions evenly.
    """

    async def claim(self, work: str, partitions: int) -> PartitionClaim:
        """Report that this replica takes part in the work, and take partitions without an owner. Called each second.

        ``partitions`` is how many there are. More are claimed while a queue holds notifications in others, because the
        number was higher before.
        """
        ...

    async def release(self, work: str, partitions: Collection[int]) -> None:
        """Give partitions up, once nothing of this replica works on them."""
        ...

    async def leave(self, work: str) -> None:
        """Give all partitions up and take no part in the work any more. Idempotent."""
        ...

    def holds_lease(self) -> bool:
        """Return whether the lease of this replica has certainly not expired. Never waits, never raises."""
        ...


class WebhookQueues(Protocol):
    """The queues of notifications and their dead letters.

    Contract:

    - ``Broker.append_all`` puts notifications into them, together with messages.
    - ``sequence`` rises in a partition, also after the queue was lost, as long as the clock does.
    - Only the owner of a partition reads and changes it; to others every method of a partition but ``wait`` raises
      PartitionLost and changes nothing.
    - Of the dead letters of a webhook MAX_DEAD_LETTERS and MAX_DEAD_LETTER_BYTES are kept, the newest ones, for
      DEAD_LETTER_SECONDS.
    """

    async def read(self, webhook: str, partition: int, *, max_entries: int, max_bytes: int) -> QueuePage:
        """Return the first notifications of a partition; at least one if there is any. Raises: PartitionLost."""
        ...

    async def wait(self, webhook: str, partition: int) -> None:
        """Wait until a notification was put into a partition of this replica. It may return without a reason.

        A shared state may lose the signal: read the partition from time to time, too (``PartitionClaim.waiting``).
        """
        ...

    async def remove(self, webhook: str, partition: int, sequences: Collection[int]) -> None:
        """Remove notifications that the webhook accepted. Those that are gone change nothing. Raises: PartitionLost."""
        ...

    async def record_failure(
        self, webhook: str, partition: int, sequence: int, *, retry_at: float, status: int | None
    ) -> HeadFailures:
        """Count a failed try of the first notification, and return its failures. The next owner gets them too.

        A first failure is never ``beside_success``. For another notification than the first one nothing is counted,
        and the answer has no failures.

        Raises: PartitionLost.
        """
        ...

    async def bury(
        self,
        webhook: str,
        partition: int,
        sequences: Collection[int],
        *,
        reason: DeadReason,
        status: int | None,
    ) -> None:
        """Move notifications to the dead letters. Raises: PartitionLost."""
        ...

    async def dead_letters(
        self, webhook: str, *, after: str | None = None, limit: int
    ) -> Sequence[DeadLetter]:
        """Return dead letters, oldest first, after the one with the id ``after``; none after an unknown id."""
        ...

    async def replay(self, webhook: str, ids: Collection[str], *, partitions: int) -> int:
        """Put dead letters at the end of their queue, with their ids; return how many. Unknown ids change nothing.

        They keep their order, whatever that of ``ids``, and the time at which they happened; ``queued_at`` is new.

        Raises: BrokerUnavailable if the queue is full; nothing was changed then.
        """
        ...

    async def drop(self, webhook: str, ids: Collection[str]) -> int:
        """Delete dead letters; return how many. Unknown ids change nothing."""
        ...

    async def summaries(self, webhooks: Collection[str]) -> dict[str, QueueSummary]:
        """Return what the queues hold, each at one moment."""
        ...


class PresenceEvents(Protocol):
    """The changes of users between online and offline, until each consumer was notified of them.

    Contract:

    - A user is online while a connection is registered, in any namespace, and offline once there was none for
      ``PresenceRules.offline_after_seconds``. The state of a user changes in the same step as the presence.
    - Each change has a version: milliseconds since 1970, or one more than the version before if that is later.
    - The newest change of a user stays undelivered, for each consumer by itself, until ``delivered`` names its version.
      A change that is overtaken by a newer one is not returned any more. A user who was offline, as every consumer
      was notified, and of whom no change was returned to any of them since, may be skipped.
    - What the state lost is made up for by the replicas: users who are connected are online again with a new version,
      and for users who left shortly before their offline state gets a new version.
    """

    def configure(self, rules: PresenceRules | None) -> None:
        """Record changes by these rules from now on; None: record none."""
        ...

    async def sweep(self, partitions: Collection[int], *, limit: int) -> int:
        """Set users offline whose time has come, up to ``limit``; return how many states changed."""
        ...

    async def undelivered(
        self, consumer: PresenceConsumer, partitions: Collection[int], *, limit: int
    ) -> tuple[PresenceChange, ...]:
        """Return changes that a consumer was not notified of, the oldest first, without those that were postponed."""
        ...

    async def delivered(self, consumer: PresenceConsumer, changes: Collection[PresenceChange]) -> None:
        """Record that a consumer was notified of these changes. A newer change of a user stays undelivered."""
        ...

    async def postpone(
        self, consumer: PresenceConsumer, changes: Collection[PresenceChange], *, seconds: float
    ) -> None:
        """Return these changes again only after some seconds, so that others do not wait behind them."""
        ...

    async def audit(self, partitions: Collection[int], *, limit: int) -> int:
        """Examine the users that are online and were not examined for the longest time; return how many.

        One without a connection becomes offline after ``offline_after_seconds``, unless there is one by then.
        """
        ...

    async def undelivered_counts(self) -> dict[PresenceConsumer, tuple[int, float | None]]:
        """Return how many changes each consumer was not notified of, and when the oldest of them happened."""
        ...


class UserLists(Protocol):
    """The list of connections of a namespace, each as the JSON text that ``Presence.register`` got as ``listed``."""

    async def version(self, namespace: str) -> int:
        """Return a number that changes whenever the list does; 0 for a namespace without a list.

        It also changes when a connection is registered, whatever its entry: the connection has not got the list.
        """
        ...

    async def read(self, namespace: str, *, limit: int) -> UserList:
        """Return the entries of the connections that came first, at most ``limit``, and how many there are in all."""
        ...
