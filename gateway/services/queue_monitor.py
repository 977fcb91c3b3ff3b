"""``QueueMonitor``: metrics of what waits in the queues of webhooks, read rarely and not for each scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, release_frames
from gateway.domain.event_catalogue import EventCatalogue
from gateway.domain.notifications import QueueSummary
from gateway.interfaces import Clock, Schedule, WebhookQueues
from gateway.metrics import MetricFactory

READ_SECONDS: Final = 5.0
QUIET_READ_SECONDS: Final = 30.0
"""How often the queues are read while the event catalogue notifies no webhook: they may hold something of earlier."""
KEEP_SECONDS: Final = 2 * QUIET_READ_SECONDS
"""For how long the last reading is reported while the state does not answer."""


class QueueMonitor:
    """Reads what the queues of the configured webhooks hold, and reports it as metrics.

    Every replica reports the same, because the state is shared. Without webhooks nothing is read.
    """

    def __init__(
        self,
        *,
        queues: WebhookQueues,
        configured: Callable[[], Collection[str]],
        catalogue: Callable[[], EventCatalogue],
        clock: Clock,
        schedule: Schedule,
        metrics: MetricFactory,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        """``configured`` returns the ids of the webhooks, ``catalogue`` the event catalogue, as in effect now."""
        self._queues = queues
        self._configured = configured
        self._catalogue = catalogue
        self._clock = clock
        self._schedule = schedule
        self._read_seconds = read_seconds
        self._changed = asyncio.Event()
        self._summaries: Mapping[str, QueueSummary] = {}
        self._read_at = float("-inf")
        for name, text, value in (
            ("webhook_queue_depth", "Notifications in the queue.", lambda each: each.entries),
            ("webhook_queue_bytes", "What they count of the limit of the queue.", lambda each: each.bytes),
            (
                "webhook_queue_oldest_age_seconds",
                "Age of the oldest notification; 0 if there is none.",
                self._age,
            ),
            (
                "webhook_dead_letters",
                "Notifications that are not tried any more.",
                lambda each: each.dead_letters,
            ),
        ):
            metrics.callback_gauge(name, text, ("webhook",), read=self._reader(value))

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            self._changed.clear()
            seconds = await self._read()
            if seconds is None:
                await self._changed.wait()
                continue
            timer = self._schedule.after(seconds, self._changed.set)
            try:
                await self._changed.wait()
            finally:
                timer.cancel()

    def reload(self) -> None:
        """Use the webhooks and the event catalogue in effect now."""
        self._changed.set()

    async def _read(self) -> float | None:
        """Read the queues once; return the seconds until the next time, None without webhooks."""
        names = self._configured()
        if not names:
            self._summaries = {}
            return None
        try:
            self._summaries = await self._queues.summaries(names)
            self._read_at = self._clock.monotonic()
        except (BrokerUnavailable, BrokerTimeout) as error:
            # The former reading is reported for KEEP_SECONDS.
            release_frames(error)
        return self._read_seconds if self._catalogue().notified_webhooks() else QUIET_READ_SECONDS

    def _reader(
        self, value: Callable[[QueueSummary], float]
    ) -> Callable[[], Mapping[tuple[str, ...], float]]:
        def read() -> Mapping[tuple[str, ...], float]:
            if self._clock.monotonic() > self._read_at + KEEP_SECONDS:
                return {}
            return {(name,): float(value(each)) for name, each in self._summaries.items()}

        return read

    def _age(self, summary: QueueSummary) -> float:
        return 0.0 if summary.oldest_at is None else max(0.0, self._clock.now() - summary.oldest_at)
