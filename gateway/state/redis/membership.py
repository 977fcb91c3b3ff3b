"""The lease of this replica: acquire, renew, release it; reap replicas whose lease has expired.

A heartbeat is one script each third of a lease, whatever the number of connections. A replica that finds another lease
than it had, or another generation of the log, writes all its connections and sessions to Redis again. Among the living
replicas the first by name reaps those whose lease has expired; each step of that is atomic and may be repeated. A
replica that stops releases its lease, so no other replica reports it as reaped.

A name belongs to one process: a process that sees another one renew the lease of its name must stop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Never

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, StateMisconfigured
from gateway.domain.names import FORMER_SID_FORM
from gateway.state.redis.codec import Codec
from gateway.state.redis.commands import Commands
from gateway.state.redis.guards import RedisDedupStore
from gateway.state.redis.limits import KEEP_SECONDS
from gateway.state.redis.metrics import RedisMetrics
from gateway.state.redis.presence import RedisPresence
from gateway.state.redis.presence_events import PresenceRecording
from gateway.state.redis.records import TILDE_FORMAT
from gateway.state.redis.sessions import RedisSessions

CLOCK_SKEW_SECONDS: Final = 2.0
"""From this difference on the clocks of Redis and of this host are logged; ``doctor`` warns from it on, too."""
_HEARTBEATS_PER_LEASE: Final = 3
RELEASE_SECONDS: Final = 1.0
"""The most that releasing the lease adds to a stop. If that is too short, the lease ends by itself."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StateSizes:
    """What Redis held at the last heartbeat."""

    replicas: int = 0
    history_entries: int = 0
    history_bytes: int = 0
    history_oldest_ms: int = 0
    """When the oldest entry was accepted, by the clock of Redis; 0 without entries."""
    nonces: int = 0
    parked_sessions: int = 0
    parked_bytes: int = 0
    last_seen_users: int = 0
    revoked_users: int = 0
    rate_buckets: int = 0
    revoked_tokens: int = 0
    offline_queue_bytes: int = 0


@dataclass(kw_only=True, eq=False, repr=False)
class Membership:
    """The lease of this replica, and the work that depends on it.

    ``process`` distinguishes this process from others of the same name. ``release_version`` is that of the release
    that it runs. ``on_reaped`` gets the name of each replica that this one reaped.
    """

    commands: Commands
    presence: RedisPresence
    sessions: RedisSessions
    recording: PresenceRecording
    dedup: RedisDedupStore
    codec: Codec
    replica: str
    process: str
    release_version: str
    lease_seconds: float
    on_reaped: Callable[[str], None]
    metrics: RedisMetrics
    sizes: StateSizes = field(init=False, default=StateSizes())
    _started_at: float = field(init=False, default_factory=time.time)
    _lease: tuple[bytes, bytes] | None = field(init=False, default=None)
    """When the lease was taken, and the generation of the log, as the last heartbeat returned them."""
    _held_until: float = field(init=False, default=-math.inf)
    """Until when the lease has certainly not expired: a monotonic time."""
    _renewed_ms: int = field(init=False, default=0)
    """The last heartbeat, by the clock of Redis."""
    _newest_format: int = field(init=False, default=0)
    """The newest record format that any replica reads."""
    _oldest_format: int = field(init=False, default=TILDE_FORMAT)
    """The lowest of the newest record formats that the replicas read."""
    _former_sids_until_ms: int = field(init=False, default=0)
    """Until when a sid that does not begin with ``~`` may live, by the clock of Redis."""
    _conflict_ends: bytes | None = field(init=False, default=None)
    """The end of another process's lease of this name, as it was first found."""
    _logged_skew: float = field(init=False, default=0.0)
    _replicas: list[str] = field(init=False, default_factory=list)
    _ended: list[str] = field(init=False, default_factory=list)
    _is_stale: bool = field(init=False, default=False)
    _wake: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _renewed: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(init=False, default_factory=list)

    async def acquire(self) -> None:
        """Take the first lease, after reaping what an earlier process of the same name left.

        Raises:
            BrokerUnavailable: Redis does not answer, or another process may hold the lease. It may be tried again.
            BrokerTimeout: the answer was lost. It may be tried again.
            StateMisconfigured: another process lives under this name.
        """
        probe = self.codec.probe(self.process)
        status, *ends = await self.commands.call("acquire_lease", self.replica, self.process, probe)
        if status != b"OK":
            self._fail_on_conflict(ends[0])
        await self._reap(self.replica)
        await self.heartbeat()

    async def wait_for_peers(self) -> None:
        """Wait until no replica writes a format that this release cannot read, while ``run`` renews the lease.

        A replica that lives for the time of a lease sends a heartbeat within it, and learns what this release reads.
        """
        if self._newest_format > self.codec.newest:
            log.info("lease.waiting_for_peers", seconds=self.lease_seconds)
            await asyncio.sleep(self.lease_seconds)

    def join_wait_seconds(self, room: str) -> float:
        """Return for how long clients may not join a room still, as far as the last heartbeat shows."""
        if self._oldest_format < TILDE_FORMAT:
            return self.lease_seconds  # until another heartbeat shows what lives
        if FORMER_SID_FORM.fullmatch(room):
            return max(0.0, (self._former_sids_until_ms - self.commands.redis_ms()) / 1000)
        return 0.0

    def holds_lease(self) -> bool:
        """Return whether the lease has certainly not expired. It began no earlier than its heartbeat was sent."""
        return time.monotonic() < self._held_until

    def wake(self) -> None:
        """Send a heartbeat now: the connection is a new one, perhaps to another server."""
        self._wake.set()

    def mark_stale(self) -> None:
        """Compare with Redis after the next heartbeat: it may hold older data of this replica than was written.

        Another primary may not have received the last writes; the same server, restarted, holds what it had saved.
        """
        self._is_stale = True
        self.sessions.mark_all_dirty()

    async def run(self) -> None:
        """Renew the lease until cancelled or until ``release``.

        Raises:
            StateMisconfigured: another process took the name of this replica and lives.
        """
        async with asyncio.TaskGroup() as tasks:
            self._tasks = [
                tasks.create_task(self._renew_forever(), name="redis lease"),
                tasks.create_task(self._maintain_forever(), name="redis lease work"),
                tasks.create_task(self._refresh_keys_forever(), name="redis keys"),
            ]

    async def release(self) -> None:
        """Release the lease while ``run`` renews it, and remove from presence what is left of this replica.

        Takes RELEASE_SECONDS at most and raises nothing. From the first step on no connection of this replica counts;
        other replicas reap what could not be removed in time.
        """
        running = [task for task in self._tasks if not task.done()]
        if not running:
            return
        self._held_until = -math.inf
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                for task in running:
                    task.cancel()
                await asyncio.wait(running)  # a later heartbeat would take another lease
                await self.commands.call("release_lease", self.replica, self.process)
                log.info("lease.released", replica=self.replica)
                await self._reap(self.replica)
        except (BrokerUnavailable, BrokerTimeout) as error:
            log.warning("lease.release_timeout", reason=error.message)
        except TimeoutError:
            log.warning("lease.release_timeout", reason=f"it took longer than {RELEASE_SECONDS} s")

    async def heartbeat(self) -> None:
        """Renew the lease, and learn what changed.

        Raises:
            BrokerUnavailable: Redis does not answer, or another process may hold the lease.
            BrokerTimeout: the answer was lost.
            StateMisconfigured: another process lives under this name.
        """
        # The clock of the loop stands still within a turn, also while the process is suspended.
        sent_at, began_at = asyncio.get_running_loop().time(), time.monotonic()
        in_use = self.sessions.in_use()  # read first: sessions that are saved from now on are not too old
        status, *answer = await self.commands.call(
            "heartbeat",
            self.replica,
            self.codec.newest,
            self.process,
            self._renewed_ms,
            int(self.presence.has_former_sids),
            f"{self.release_version} {self._started_at:.3f}",
        )
        if status != b"OK":
            self._fail_on_conflict(answer[0])
        self._conflict_ends = None
        self._held_until = began_at + self.lease_seconds
        taken, generation, began, now, oldest_format, newest_format, living, ended, sizes, *rest = answer
        sessions_ended, former_sids_until = rest
        self.sessions.lease_renewed(now, now + int(self.lease_seconds * 1000))
        if self._lease not in {None, (taken, generation)}:
            log.warning("lease.lost", connections=len(self.presence))
            self.metrics.leases_lost.count()
            self.presence.mark_all_dirty()
            if sessions_ended:
                self.sessions.forget(in_use)
            else:
                self.sessions.mark_all_dirty()
        self._lease = taken, generation
        self._renewed_ms = now
        self._replicas = sorted(name.decode() for name in living)
        self._ended = [name.decode() for name in ended]
        self.dedup.begin(float(began))
        self.commands.set_clock(float(now), sent_at)
        self._note_clock()
        self.codec.negotiate(oldest_format)
        self._note_formats(oldest_format, newest_format, former_sids_until)
        self.sizes = StateSizes(len(living), *sizes)

    def _note_clock(self) -> None:
        """Log that the clocks of Redis and of this host differ, again when the difference changes, or agree again."""
        skew = self.commands.clock_skew_seconds
        if abs(skew) < CLOCK_SKEW_SECONDS / 2 and self._logged_skew:
            self._logged_skew = 0.0
            log.info("gateway.clocks_agree", seconds=round(skew, 1))
        elif abs(skew) >= CLOCK_SKEW_SECONDS and abs(skew - self._logged_skew) >= CLOCK_SKEW_SECONDS:
            self._logged_skew = skew
            log.warning("gateway.clock_skew", seconds=round(skew, 1))

    def _note_formats(self, oldest: int, newest: int, former_sids_until_ms: int) -> None:
        if (oldest < TILDE_FORMAT) != (self._oldest_format < TILDE_FORMAT):
            log.info("rooms.joins_changed", possible=oldest >= TILDE_FORMAT)
        self._oldest_format, self._newest_format = oldest, newest
        # Never earlier than it was: a Redis that lost its data does not know the sids that live.
        self._former_sids_until_ms = max(self._former_sids_until_ms, former_sids_until_ms)

    def _fail_on_conflict(self, ends: bytes) -> Never:
        """Raise because another process holds the lease of this name until ``ends``.

        Raises:
            StateMisconfigured: the lease was renewed since it was first found, so that process lives.
            BrokerUnavailable: it may be the lease of a process that was killed.
        """
        self._held_until = -math.inf
        if self._conflict_ends not in {None, ends}:
            raise StateMisconfigured(
                f"another process that lives is named {self.replica!r}: give each a GATEWAY_REPLICA_ID of its own"
            )
        if self._conflict_ends is None:
            log.error("lease.conflict", replica=self.replica)
        self._conflict_ends = ends
        raise BrokerUnavailable(f"another process holds the lease of {self.replica!r}")

    async def maintain(self, within_seconds: float) -> None:
        """Do what the last heartbeat showed to be due, spread over a time.

        Each part is tried by itself, because at its memory limit Redis executes only what frees memory.
        """
        for part in (
            self._reconcile,
            self.sessions.end,
            self.presence.remove_disconnected,
            self._reap_replicas,
            self.sessions.flush,
            partial(self.presence.flush, within_seconds),
            self.recording.touch,
        ):
            try:
                await part()
            except (BrokerUnavailable, BrokerTimeout) as error:
                log.warning("lease.maintenance_failed", reason=error.message)

    async def _reconcile(self) -> None:
        if not self._is_stale:
            return
        self._is_stale = False  # first: it may be marked stale again meanwhile
        try:
            await self.presence.reconcile()
        except (BrokerUnavailable, BrokerTimeout):
            self._is_stale = True
            raise

    async def _reap_replicas(self) -> None:
        if self._replicas[:1] != [self.replica]:
            return
        await self._reap_each(self._ended)

    async def reap_expired(self, replicas: Collection[str]) -> None:
        """Reap replicas whose lease has just expired, whichever replica found it, and renew the lease here if it did.

        Raises:
            BrokerUnavailable: not all were reaped; the first replica by name reaps them after its next heartbeat.
            BrokerTimeout: the same.
        """
        if self.replica in replicas:
            self.wake()
        await self._reap_each([replica for replica in replicas if replica != self.replica])

    async def _reap_each(self, replicas: Collection[str]) -> None:
        for replica in replicas:
            if await self._reap(replica):
                log.info("lease.reaped", replica=replica)
                self.metrics.replicas_reaped.count()
                self.on_reaped(replica)

    async def _reap(self, replica: str) -> bool:
        """Remove the connections of a replica without a lease. Return whether this was the first to find that."""
        remaining, first = 1, 0
        while remaining > 0:
            remaining, is_first = await self.commands.call("reap_replica", replica, self.recording.rules)
            first += is_first
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
