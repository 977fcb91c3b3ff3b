"""The partitions of shared work that this replica owns, and the signals that they hold something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from gateway.domain.notifications import PRESENCE_WORK, USER_LISTS_WORK, PartitionClaim
from gateway.state.redis.codec import QueueWake
from gateway.state.redis.commands import Commands


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
