"""What backends and clients are notified of beside pushes: the components, their tasks, their reload and their end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

from gateway.domain.event_catalogue import EventCatalogue
from gateway.hub import Hub
from gateway.interfaces import Clock, Schedule, State, Webhooks
from gateway.metrics import MetricFactory
from gateway.services.notifications import Notifications, RetryRules
from gateway.services.presence_events import PresenceWorker
from gateway.services.queue_monitor import QueueMonitor
from gateway.services.user_lists import Listings, UserListSender

FINISH_SECONDS: Final = 2.0
"""How long the requests to webhooks that are under way may take when the process stops."""
LEAVE_SECONDS: Final = 0.5
"""How long the state may take afterwards to give up the partitions."""


class Notices:
    """Notifications of webhooks, changes of presence for a webhook and for clients, and the lists of connections.

    Without such parts in the event catalogue its tasks wait and do nothing.
    """

    def __init__(
        self,
        *,
        catalogue: Callable[[], EventCatalogue],
        namespaces: Collection[str],
        has_other_replicas: bool,
        state: State,
        hub: Hub,
        webhooks: Webhooks,
        clock: Clock,
        schedule: Schedule,
        metrics: MetricFactory,
    ) -> None:
        """``catalogue`` returns the event catalogue in effect. ``has_other_replicas``: others may do the work, too."""
        self._catalogue = catalogue
        self._notifications = Notifications(
            catalogue=catalogue,
            webhooks=webhooks,
            queues=state.webhook_queues,
            partitions=state.partitions,
            clock=clock,
            schedule=schedule,
            is_alone=not has_other_replicas,
            metrics=metrics,
        )
        self._monitor = QueueMonitor(
            queues=state.webhook_queues,
            configured=webhooks.configured,
            catalogue=catalogue,
            clock=clock,
            schedule=schedule,
            metrics=metrics,
        )
        self.listings = Listings(hub=hub, presence=state.presence, listings=state.listings, schedule=schedule)
        self._presence = PresenceWorker(
            events=state.presence_events,
            partitions=state.partitions,
            webhooks=webhooks,
            broker=state.broker,
            rates=state.rates,
            clock=clock,
            schedule=schedule,
            retry_seconds=retry_seconds,
            is_alone=not has_other_replicas,
            metrics=metrics,
        )
        self._lists = UserListSender(
            lists=state.user_lists,
            partitions=state.partitions,
            broker=state.broker,
            rates=state.rates,
            clock=clock,
            schedule=schedule,
            namespaces=namespaces,
            metrics=metrics,
        )
        self.reload()

    def reload(self) -> None:
        """Act by the catalogue and the webhooks in effect from now on. What failed before is tried at once."""
        catalogue = self._catalogue()
        registers_again = self._presence.configure(catalogue.presence)
        self.listings.configure(catalogue, registers_again=registers_again)
        self._lists.configure(catalogue)
        self._notifications.reload()
        self._monitor.reload()

    async def run(self, has_state: asyncio.Event) -> None:
        """Work until cancelled, once the state can be used."""
        await has_state.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._notifications.run(), name="webhook notifications")
            tasks.create_task(self._monitor.run(), name="webhook queues")
            tasks.create_task(self._presence.run(), name="presence events")
            tasks.create_task(self._lists.run(), name="user lists")
            tasks.create_task(self.listings.run(), name="listed connections")

    async def close(self) -> None:
        """Stop while ``run`` still works: end the requests under way, and leave the rest to other replicas.

        Takes FINISH_SECONDS and LEAVE_SECONDS at most, and raises nothing. What it could not leave in this time other
        replicas take once the lease of this one has ended.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS + LEAVE_SECONDS):
                await asyncio.gather(
                    self._notifications.stop(finish_seconds=FINISH_SECONDS),
                    self._presence.close(finish_seconds=FINISH_SECONDS),
                    self._lists.close(),
                )


def retry_seconds(failures: int, retry_after_seconds: float | None) -> float:
    """Return the pause after so many failures in a row: the same for notifications and changes of presence."""
    chance = random.random()  # noqa: S311  # spreads requests, protects nothing
    return RetryRules().delay_seconds(failures, retry_after_seconds=retry_after_seconds, chance=chance)
