"""Follow the status of the shared state: disconnect clients of a stalled replica, and report gaps in the history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from gateway.domain.disconnects import SUBSCRIPTION_STALLED, DisconnectReason
from gateway.domain.errors import DATA_LOST, HISTORY_TRIMMED
from gateway.domain.status import StateStatus
from gateway.hub import Hub
from gateway.interfaces import Clock, Schedule, Timer
from gateway.metrics import MetricFactory, one_label

GAP_EVENT: Final = "recovery:failed"

log = structlog.get_logger(__name__)


class DegradedMode:
    """The status of this replica, and what it does about it."""

    def __init__(
        self,
        *,
        hub: Hub,
        schedule: Schedule,
        clock: Clock,
        disconnect_all: Callable[[DisconnectReason], None],
        stalled_limit_seconds: float,
        metrics: MetricFactory,
        status: StateStatus = StateStatus.HEALTHY,
    ) -> None:
        """``disconnect_all`` closes every client for a reason; they reconnect to another replica.

        While the subscription is stalled, clients are kept for ``stalled_limit_seconds``, since it may recover.
        ``status`` is the status at the start.
        """
        self._hub = hub
        self._schedule = schedule
        self._clock = clock
        self._disconnect_clients = disconnect_all
        self._stalled_limit_seconds = stalled_limit_seconds
        self._stalled_timer: Timer | None = None
        self._gaps: asyncio.Queue[str] = asyncio.Queue()
        self._unreported: set[str] = set()
        """The codes in ``_gaps``, so that it holds each at most once."""
        self.status = status
        self.since = clock.now()
        self._create_metrics(metrics)

    def _create_metrics(self, metrics: MetricFactory) -> None:
        metrics.callback_gauge(
            "replica_status",
            "1 for the current status: healthy, subscription_stalled or unavailable.",
            ("status",),
            read=lambda: {(status,): status is self.status for status in StateStatus},
        )
        self._status_changes = metrics.counter(
            "replica_status_changes",
            "Changes to this status.",
            ("status",),
            one_label(StateStatus),
        )
        self._gaps_counted = metrics.counter(
            "history_gaps",
            "Gaps in the history after which messages are missing for good, by code.",
            ("code",),
            one_label((HISTORY_TRIMMED, DATA_LOST)),
        )

    def on_status_changed(self, status: StateStatus) -> None:
        """Count a change of the status and follow it."""
        self._status_changes.count((status,))
        self.set_status(status)

    def set_status(self, status: StateStatus) -> None:
        """Set the status, and start or cancel the timer of a stalled subscription."""
        self.status, self.since = status, self._clock.now()
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()
            self._stalled_timer = None
        if status is StateStatus.SUBSCRIPTION_STALLED:
            self._stalled_timer = self._schedule.after(self._stalled_limit_seconds, self._disconnect_all)

    def on_history_gap(self, code: str) -> None:
        """Report that messages to connections here are missing for good; ``code`` says why.

        Gaps with one code that are found before the first was reported are reported to clients once.
        """
        if code == DATA_LOST:
            self._hub.reset_positions()
        self._queue_gap(code)

    def on_loss_marked(self) -> None:
        """Report that another replica found lost data. The positions of connections here stay valid."""
        self._queue_gap(DATA_LOST)

    def _queue_gap(self, code: str) -> None:
        self._gaps_counted.count((code,))
        if code not in self._unreported:
            self._unreported.add(code)
            self._gaps.put_nowait(code)

    async def run(self) -> None:
        """Report gaps to clients, until cancelled."""
        while True:
            code = await self._gaps.get()
            # From here on a gap is reported again: some clients have got this report already.
            self._unreported.discard(code)
            await self._hub.report_gap(GAP_EVENT, code)
            self._gaps.task_done()

    async def flush(self) -> None:
        """Wait until every gap so far was reported to all clients."""
        await self._gaps.join()

    def _disconnect_all(self) -> None:
        self._stalled_timer = None
        log.error(
            "gateway.subscription_stalled",
            reason="no published message arrives here; clients have to use another replica",
        )
        self._disconnect_clients(SUBSCRIPTION_STALLED)
