"""What tests do with queues of notifications: put some in, claim partitions as a worker does, and empty them."""

from __future__ import annotations

import time
from collections.abc import Collection

from gateway.domain.messages import new_id
from gateway.domain.notifications import (
    DeadReason,
    Notification,
    PartitionClaim,
    QueuedNotification,
    partition_of,
)
from tests.integration.redis_state.replicas import (
    Replica,
)

WORK = "app"
PARTITIONS = 16


def notification(
    user: str = "ann", *, id_: str | None = None, partitions: int = PARTITIONS, size: int = 2
) -> Notification:
    data = '{"x":"' + "y" * (size - 2) + '"}' if size > 2 else "{}"
    partition = partition_of(user, partitions)
    return Notification(id_ or new_id(), WORK, partition, user, "client.event", time.time(), data)


async def notify(replica: Replica, *notifications: Notification) -> None:
    await replica.state.broker.append_all((), notifications=notifications)


async def claim(replica: Replica, partitions: int = PARTITIONS) -> PartitionClaim:
    return await replica.state.partitions.claim(WORK, partitions)


async def step(replica: Replica, partitions: int = PARTITIONS) -> frozenset[int]:
    """Claim and give up the surplus, as a worker does each second; return what the replica owns then."""
    claimed = await claim(replica, partitions)
    if claimed.surplus:
        await replica.state.partitions.release(WORK, claimed.surplus)
    return claimed.owned - claimed.surplus


async def read(replica: Replica, partition: int, *, max_entries: int = 100) -> tuple[QueuedNotification, ...]:
    page = await replica.state.webhook_queues.read(
        WORK, partition, max_entries=max_entries, max_bytes=10_000_000
    )
    return page.notifications


async def drain(replica: Replica, partitions: Collection[int]) -> list[str]:
    """Read and remove everything of some partitions; return the ids."""
    ids = []
    for partition in sorted(partitions):
        while page := await read(replica, partition):
            ids += [each.id for each in page]
            await replica.state.webhook_queues.remove(WORK, partition, [each.sequence for each in page])
    return ids


async def bury(replica: Replica, queued: Notification) -> str:
    """Put a notification into its queue and move it to the dead letters; return its id."""
    await notify(replica, queued)
    [first] = await read(replica, queued.partition)
    await replica.state.webhook_queues.bury(
        WORK, queued.partition, [first.sequence], reason=DeadReason.REJECTED, status=422
    )
    return queued.id


async def dead_ids(replica: Replica, *, after: str | None = None, limit: int = 1_000) -> list[str]:
    return [
        each.id for each in await replica.state.webhook_queues.dead_letters(WORK, after=after, limit=limit)
    ]
