"""What the transport carries and refuses; satisfies ``transport.server.Meter``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.metrics.tallies import PREFIX, Shelf, singles


class Survey(Protocol):
    """All transport sessions at one moment; see ``gateway.transport.survey``."""

    @property
    def by_transport(self) -> dict[str, int]: ...

    @property
    def waiting_bytes(self) -> int: ...

    @property
    def largest_bytes(self) -> int: ...

    @property
    def waiting_sessions(self) -> int: ...


class TransportMetrics:
    """Transport sessions, their outboxes, and what never became a session."""

    def __init__(self, registry: CollectorRegistry) -> None:
        shelf = Shelf(registry)
        self._requests_refused = shelf.tally(
            "transport_requests_refused", "Requests to the Socket.IO path refused, by reason.", ("reason",)
        )
        self._closed = shelf.tally(
            "transport_sessions_closed",
            "Transport sessions ended, by reason, also of those who joined no namespace.",
            ("reason",),
        )
        self._newcomers = shelf.reading(
            "transport_sessions_unauthenticated", "Transport sessions that joined no namespace yet."
        )
        self._limit = shelf.reading("transport_sessions_limit", "MAX_CONNECTIONS.")
        self._newcomers_limit = shelf.reading(
            "transport_sessions_unauthenticated_limit", "MAX_UNAUTHENTICATED."
        )
        self._outbox_limit = shelf.reading("outbox_limit_bytes", "OUTBOX_BYTES, for each transport session.")
        self._survey: Callable[[], Awaitable[Survey]] | None = None
        self._sessions = _Sessions()
        registry.register(self._sessions)

    def expect(
        self,
        *,
        refusals: Iterable[str],
        endings: Iterable[str],
        max_sessions: int,
        max_newcomers: int,
        outbox_bytes: int,
    ) -> None:
        """Show these from the start: words that sessions are refused and ended with, and the limits that hold."""
        self._requests_refused.expect(singles(refusals))
        self._closed.expect(singles(endings))
        self._limit.read = lambda: {(): max_sessions}
        self._newcomers_limit.read = lambda: {(): max_newcomers}
        self._outbox_limit.read = lambda: {(): outbox_bytes}

    def watch(self, survey: Callable[[], Awaitable[Survey]], newcomers_now: Callable[[], int]) -> None:
        """Where to look when somebody asks."""
        self._survey = survey
        self._newcomers.read = lambda: {(): newcomers_now()}

    async def look(self) -> None:
        """Walk over the sessions, so that what is collected next tells of now."""
        if self._survey is not None:
            self._sessions.found = await self._survey()

    def request_refused(self, reason: str) -> None:
        self._requests_refused.count((reason,))

    def session_closed(self, reason: str) -> None:
        self._closed.count((reason,))


class _Sessions(Collector):
    """Everything that one walk over the sessions shows; nothing is counted while they send."""

    def __init__(self) -> None:
        self.found: Survey | None = None

    def collect(self) -> Iterable[Metric]:
        sessions = GaugeMetricFamily(
            PREFIX + "transport_sessions", "Transport sessions open now.", labels=("transport",)
        )
        waiting = GaugeMetricFamily(
            PREFIX + "outbox_bytes", "Bytes that wait in this process to be sent to clients, all together."
        )
        largest = GaugeMetricFamily(
            PREFIX + "outbox_largest_bytes", "Bytes that wait for the client that most waits for."
        )
        behind = GaugeMetricFamily(
            PREFIX + "outbox_waiting_sessions", "Transport sessions for which anything waits."
        )
        found = self.found
        if found is not None:
            for transport, number in found.by_transport.items():
                sessions.add_metric((transport,), number)
            waiting.add_metric((), found.waiting_bytes)
            largest.add_metric((), found.largest_bytes)
            behind.add_metric((), found.waiting_sessions)
        return sessions, waiting, largest, behind
