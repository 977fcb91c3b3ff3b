"""Share the changes of presence between the replicas, find users that are offline, and notify both sides."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from gateway.domain.event_catalogue import PresenceNotices
from gateway.domain.notifications import PRESENCE_PARTITIONS, PRESENCE_WORK
from gateway.domain.presence import PresenceChange, PresenceConsumer, PresenceRules
from gateway.interfaces import Broker, Clock, Partitions, PresenceEvents, RateLimits, Schedule, Webhooks
from gateway.metrics import MetricFactory
from gateway.services.presence_events.announcements import Announcer
from gateway.services.presence_events.webhook import WebhookNotifier
from gateway.services.shared_work import CLAIM_SECONDS, SharedWork, Steps

SWEEP_SECONDS: Final = 0.25
SWEEP_LIMIT: Final = 100
"""Users in one request to the state, which does nothing else meanwhile."""
READ_SECONDS: Final = 0.25
AUDIT_SECONDS: Final = 1.0
AUDITED_PER_SECOND: Final = 100
"""Users that are examined, by all replicas."""
COUNT_SECONDS: Final = 15.0
"""How often the undelivered changes are counted, for the metrics."""
_STATES: Final = ("online", "offline")
_NONE: Final[tuple[int, float | None]] = (0, None)
_CLOSE_POLL_SECONDS: Final = 0.05


class PresenceWorker:
    """Works on the partitions of PRESENCE_WORK that this replica owns, while the event catalogue has presence.

    The webhook and the clients are notified independently of each other. Failures of the state are survived.
    """

    def __init__(
        self,
        *,
        events: PresenceEvents,
        partitions: Partitions,
        webhooks: Webhooks,
        broker: Broker,
        rates: RateLimits,
        clock: Clock,
        schedule: Schedule,
        retry_seconds: Callable[[int, float | None], float],
        is_alone: bool,
        metrics: MetricFactory,
    ) -> None:
        """``is_alone``: no other replica can do the work once this one has stopped."""
        self._events = events
        self._clock = clock
        self._is_alone = is_alone
        self._is_closed = False
        self._active = asyncio.Event()
        self._changed = asyncio.Event()
        """Set when ``_active`` was changed, so that partitions are claimed or given up at once."""
        self._sharing: asyncio.Task[None] | None = None
        self._rules: PresenceRules | None = None
        self._undelivered: dict[PresenceConsumer, tuple[int, float | None]] = {}
        """How many changes each consumer was not notified of, and since when, as last read."""
        self._steps = Steps(self._active, schedule, work=PRESENCE_WORK)
        self._work = SharedWork(partitions, PRESENCE_WORK, PRESENCE_PARTITIONS)
        self._create_metrics(metrics)
        self._notifier = WebhookNotifier(
            events=events,
            webhooks=webhooks,
            clock=clock,
            retry_seconds=retry_seconds,
            owned=self._work.owned,
            on_notified=self._count,
        )
        self._announcer = Announcer(
            events=events,
            broker=broker,
            rates=rates,
            clock=clock,
            schedule=schedule,
            owned=self._work.owned,
            on_notified=self._count,
        )

    def configure(self, notices: PresenceNotices | None) -> bool:
        """Act by this part of the event catalogue from now on; return whether connections are to be
        registered again, because a side is notified that was not before.

        Requests to the webhook that wait after a failure are made at once: it may have changed, too.
        """
        rules = None if notices is None else notices.rules
        former, self._rules = self._rules, rules
        if rules != former:
            self._events.configure(rules)
        self._notifier.configure(None if notices is None else notices.notify)
        self._announcer.configure(() if notices is None else notices.announce)
        if rules is None or self._is_closed:
            self._active.clear()
        else:
            self._active.set()
        self._changed.set()
        return rules is not None and (former is None or not rules.consumers <= former.consumers)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._sharing = tasks.create_task(self._share(), name="presence events share")
            notifier, announcer = self._notifier, self._announcer
            for name, step, seconds, wake in (
                ("sweep", self._sweep, SWEEP_SECONDS, None),
                ("audit", self._audit, AUDIT_SECONDS, None),
                ("count", self._read_counts, COUNT_SECONDS, None),
                ("webhook", lambda: notifier.work(self._work.owned(), tasks), READ_SECONDS, notifier.wake),
                ("clients", lambda: announcer.work(self._work.owned(), tasks), READ_SECONDS, announcer.wake),
            ):
                steps = self._steps.repeat(name, step, seconds=seconds, wake=wake)
                tasks.create_task(steps, name=f"presence events {name}")

    async def close(self, *, finish_seconds: float) -> None:
        """Stop while ``run`` still works: end the requests under way, and give the partitions up.

        A replica that is alone notifies of what changed until now, first. Takes ``finish_seconds`` and one request to
        the state at most, and raises nothing.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + finish_seconds
        self._is_closed = True
        if self._is_alone and self._active.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(ends_at):
                    await self._notify_of_all()
        self._active.clear()
        await self._notifier.finish(seconds=max(0.0, ends_at - loop.time()))
        if self._sharing is not None:
            self._sharing.cancel()
            await asyncio.wait([self._sharing])
        await self._leave()

    async def _share(self) -> None:
        """Claim partitions while there is something to do, else give them up."""
        while True:
            await self._active.wait()
            await self._steps.run("claim", lambda: self._work.claim(self._notifier.is_busy))
            await self._steps.sleep_until(self._changed, CLAIM_SECONDS)
            if not self._active.is_set():
                await self._leave()

    async def _leave(self) -> None:
        self._undelivered = {}
        await self._steps.run("hand over", self._announcer.hand_over)
        await self._work.leave()

    async def _notify_of_all(self) -> None:
        while True:
            await self._steps.run("sweep", self._sweep)
            self._notifier.wake.set()
            self._announcer.wake.set()
            await self._steps.run("count", self._read_counts)
            if not any(count for count, _ in self._undelivered.values()):
                return
            await asyncio.sleep(_CLOSE_POLL_SECONDS)

    async def _sweep(self) -> None:
        owned = self._work.owned()
        changed = SWEEP_LIMIT if owned else 0
        while changed >= SWEEP_LIMIT:
            changed = await self._events.sweep(owned, limit=SWEEP_LIMIT)
            if changed:
                self._notifier.wake.set()
                self._announcer.wake.set()

    async def _audit(self) -> None:
        owned = self._work.owned()
        if owned:
            share = len(owned) / PRESENCE_PARTITIONS
            await self._events.audit(owned, limit=math.ceil(AUDITED_PER_SECOND * share))

    # metrics

    def _create_metrics(self, metrics: MetricFactory) -> None:
        self._changes = metrics.counter(
            "presence_changes",
            "Changes of users between online and offline that a consumer was notified of, by this replica.",
            ("consumer", "state"),
            [(consumer.value, state) for consumer in PresenceConsumer for state in _STATES],
        )
        metrics.callback_gauge(
            "presence_undelivered",
            "Users of whose newest state a consumer was not notified yet, on all replicas.",
            ("consumer",),
            read=lambda: {(each.value,): self._undelivered.get(each, _NONE)[0] for each in PresenceConsumer},
        )
        metrics.callback_gauge(
            "presence_undelivered_oldest_age_seconds",
            "Age of the oldest of them.",
            ("consumer",),
            read=lambda: {(each.value,): self._oldest_age_seconds(each) for each in PresenceConsumer},
        )

    def _oldest_age_seconds(self, consumer: PresenceConsumer) -> float:
        _, since = self._undelivered.get(consumer, _NONE)
        return 0.0 if since is None else max(0.0, self._clock.now() - since)

    async def _read_counts(self) -> None:
        self._undelivered = await self._events.undelivered_counts()

    def _count(self, consumer: PresenceConsumer, changes: Sequence[PresenceChange]) -> None:
        for change in changes:
            self._changes.count((consumer.value, "online" if change.is_online else "offline"))
