"""Proof of life: one script each third of a lease, whatever the number of connections.

A replica that finds another lease than it had, or another generation of the log than the one it knew, tells Redis of
all its connections again. The first of the living, by name, takes what the dead left out of the presence; every step of
that is whole and may be done twice. A replica that stops gives its lease up, and so is never found dead.

A name is one process's: whoever finds that another holds the lease, and sees it renewed, must not go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Never

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, StateMisconfigured
from gateway.state.redis.codec import Codec
from gateway.state.redis.commands import Commands
from gateway.state.redis.guards import RedisDedupStore
from gateway.state.redis.metrics import RedisMetrics
from gateway.state.redis.presence import RedisPresence
from gateway.state.redis.sessions import RedisSessions

log = structlog.get_logger(__name__)

KEEP_SECONDS: Final = 86_400.0
"""How long a key lives that somebody keeps alive: longer than any outage after which it should still be there."""
_HEARTBEATS_PER_LEASE: Final = 3
RELEASE_SECONDS: Final = 1.0
"""What a stop may take longer for the sake of leaving; where that is too short, the lease runs out."""


@dataclass(frozen=True, slots=True)
class StateSizes:
    """What Redis held at the last sign of life."""

    history_entries: int = 0
    history_bytes: int = 0
    history_oldest_ms: int = 0
    """When the oldest entry was accepted, by the clock of Redis; 0 where there is none."""
    nonces: int = 0
    replicas: int = 0


@dataclass(kw_only=True, eq=False, repr=False)
class Membership:
    """The lease of this replica, and what depends on it. ``cleaned`` is told of each replica that died;
    ``process`` tells this process from others of the same name."""

    commands: Commands
    presence: RedisPresence
    sessions: RedisSessions
    dedup: RedisDedupStore
    codec: Codec
    replica: str
    process: str
    lease_seconds: float
    on_reaped: Callable[[str], None]
    metrics: RedisMetrics
    sizes: StateSizes = field(init=False, default=StateSizes())
    _lease: tuple[bytes, bytes] | None = field(init=False, default=None)
    """When it was taken, and the generation of the log at the last sign of life."""
    _renewed_ms: int = field(init=False, default=0)
    """The last sign of life, by the clock of Redis."""
    _newest_format: int = field(init=False, default=0)
    """The newest that any replica reads."""
    _conflict_ends: bytes | None = field(init=False, default=None)
    """The end of the lease that another process of this name held when it was found."""
    _replicas: list[str] = field(init=False, default_factory=list)
    _ended: list[str] = field(init=False, default_factory=list)
    _is_stale: bool = field(init=False, default=False)
    _wake: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _renewed: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(init=False, default_factory=list)

    async def acquire(self) -> None:
        """Take the first lease, once what an earlier process of the same name left is cleaned up.

        Raises BrokerUnavailable, BrokerTimeout: then it may be tried again. Raises StateUnusable.
        """
        probe = self.codec.probe(self.process)
        status, *ends = await self.commands.call("acquire_lease", self.replica, self.process, probe)
        if status != b"OK":
            self._fail_on_conflict(ends[0])
        await self._reap(self.replica)
        await self.heartbeat()

    async def wait_for_peers(self) -> None:
        """While ``run`` keeps the lease, wait until nobody writes what this release cannot read: whoever still lives
        after the time of a lease has given a sign of life since, and so learned what this one reads."""
        if self._newest_format > self.codec.newest:
            log.info("lease.waiting_for_peers", seconds=self.lease_seconds)
            await asyncio.sleep(self.lease_seconds)

    def wake(self) -> None:
        """Give a sign of life now: this is another connection, perhaps to another server."""
        self._wake.set()

    def mark_stale(self) -> None:
        """What Redis knows of this replica may be older than what it was told: another primary never heard the last of
        it, and the same one started anew knows what it had saved."""
        self._is_stale = True
        self.sessions.mark_all_dirty()

    async def run(self) -> None:
        """Keep the lease until cancelled, or until it is given up. Raises StateUnusable."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = [
                tasks.create_task(self._renew_forever(), name="redis lease"),
                tasks.create_task(self._maintain_forever(), name="redis lease work"),
                tasks.create_task(self._refresh_keys_forever(), name="redis keys"),
            ]

    async def release(self) -> None:
        """Give up the lease while ``run`` keeps it, and take out of presence what is still there.

        Takes LEAVE_SECONDS at most and raises nothing. The first step does it for everybody else; what is not taken
        out in time, the others take out.
        """
        keeping = [task for task in self._tasks if not task.done()]
        if not keeping:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                for task in keeping:
                    task.cancel()
                await asyncio.wait(keeping)  # a sign of life that comes later would be another lease
                await self.commands.call("release_lease", self.replica, self.process)
                log.info("lease.released", replica=self.replica)
                await self._reap(self.replica)
        except (BrokerUnavailable, BrokerTimeout) as error:
            log.warning("lease.release_timeout", reason=error.message)
        except TimeoutError:
            log.warning("lease.release_timeout", reason=f"it took longer than {RELEASE_SECONDS} s")

    async def heartbeat(self) -> None:
        """One sign of life. Raises BrokerUnavailable, BrokerTimeout; StateUnusable if the name is another process's."""
        sent_at = asyncio.get_running_loop().time()
        in_use = self.sessions.in_use()  # those saved from now on are saved after it
        status, *answer = await self.commands.call(
            "heartbeat", self.replica, self.codec.newest, self.process, self._renewed_ms
        )
        if status != b"OK":
            self._fail_on_conflict(answer[0])
        self._conflict_ends = None
        taken, generation, began, now, oldest_format, newest_format, living, ended, sizes, too_long = answer
        self.sessions.lease_renewed(now, now + int(self.lease_seconds * 1000))
        if self._lease not in {None, (taken, generation)}:
            log.warning("lease.lost", connections=len(self.presence))
            self.metrics.leases_lost.count()
            self.presence.mark_all_dirty()
            if too_long:
                self.sessions.forget(in_use)
            else:
                self.sessions.mark_all_dirty()
        self._lease = taken, generation
        self._renewed_ms = now
        self._replicas = sorted(name.decode() for name in living)
        self._ended = [name.decode() for name in ended]
        self.dedup.begin(float(began))
        self.commands.set_clock(float(now), sent_at)
        self.codec.negotiate(oldest_format)
        self._newest_format = newest_format
        entries, entry_bytes, oldest_ms, nonces = sizes
        self.sizes = StateSizes(entries, entry_bytes, oldest_ms, nonces, len(living))

    def _fail_on_conflict(self, ends: bytes) -> Never:
        """Another process holds the lease of this name until then. Raises StateUnusable if that was renewed since it
        was first found, and so lives; else BrokerUnavailable, since it may be what a dead one left."""
        if self._conflict_ends not in {None, ends}:
            raise StateMisconfigured(
                f"another process that lives is named {self.replica!r}: give each a GATEWAY_REPLICA_ID of its own"
            )
        if self._conflict_ends is None:
            log.error("lease.conflict", replica=self.replica)
        self._conflict_ends = ends
        raise BrokerUnavailable(f"another process holds the lease of {self.replica!r}")

    async def maintain(self, within_seconds: float) -> None:
        """What the last sign of life showed to be due, each by itself: at its memory limit Redis takes what gives some
        back and nothing else."""
        for part in (
            self._reconcile,
            self.sessions.end,
            self.presence.remove_departed,
            self._reap_replicas,
            self.sessions.flush,
            partial(self.presence.flush, within_seconds),
        ):
            try:
                await part()
            except (BrokerUnavailable, BrokerTimeout) as error:
                log.warning("lease.maintenance_failed", reason=error.message)

    async def _reconcile(self) -> None:
        if not self._is_stale:
            return
        self._is_stale = False  # before it asks: there may be reason to doubt again meanwhile
        try:
            await self.presence.reconcile()
        except (BrokerUnavailable, BrokerTimeout):
            self._is_stale = True
            raise

    async def _reap_replicas(self) -> None:
        if self._replicas[:1] != [self.replica]:
            return
        for replica in self._ended:
            if await self._reap(replica):
                log.info("lease.reaped", replica=replica)
                self.metrics.replicas_reaped.count()
                self.on_reaped(replica)

    async def _reap(self, replica: str) -> bool:
        """Take the connections of a replica without a lease out of presence; whether this was the first to find it
        dead."""
        left, first = 1, 0
        while left > 0:
            left, found_dead = await self.commands.call("reap_replica", replica)
            first += found_dead
        return first > 0

    async def _renew_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.lease_seconds / _HEARTBEATS_PER_LEASE):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.heartbeat()
            except (BrokerUnavailable, BrokerTimeout) as error:
                log.warning("lease.renew_failed", reason=error.message)
            else:
                self._renewed.set()

    async def _maintain_forever(self) -> None:
        while True:
            await self._renewed.wait()
            self._renewed.clear()
            await self.maintain(self.lease_seconds / _HEARTBEATS_PER_LEASE)

    async def _refresh_keys_forever(self) -> None:
        while True:
            await asyncio.sleep(KEEP_SECONDS / 8)
            try:
                await self.presence.refresh_ttl(KEEP_SECONDS / 8)
            except (BrokerUnavailable, BrokerTimeout) as error:
                log.warning("lease.ttl_refresh_failed", reason=error.message)
