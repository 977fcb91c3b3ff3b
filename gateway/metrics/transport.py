"""What the transport carries and refuses; satisfies ``transport.server.Meter``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.metrics.primitives import PREFIX, MetricFactory, one_label


class SessionStats(Protocol):
    """All transport sessions at one moment; see ``gateway.transport.server``."""

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
        factory = MetricFactory(registry)
        self._requests_rejected = factory.counter(
            "engineio_requests_rejected", "Requests to the Socket.IO path refused, by reason.", ("reason",)
        )
        self._closed = factory.counter(
            "engineio_sessions_closed",
            "Transport sessions ended, by reason, also of those who joined no namespace.",
            ("reason",),
        )
        self._unauthenticated = factory.callback_gauge(
            "engineio_sessions_unauthenticated", "Transport sessions that joined no namespace yet."
        )
        self._limit = factory.callback_gauge("engineio_sessions_limit", "MAX_CONNECTIONS.")
        self._unauthenticated_limit = factory.callback_gauge(
            "engineio_sessions_unauthenticated_limit", "MAX_UNAUTHENTICATED."
        )
        self._send_buffer_limit = factory.callback_gauge(
            "send_buffer_limit_bytes", "SEND_BUFFER_BYTES, for each transport session."
        )
        self._collect: Callable[[], Awaitable[SessionStats]] | None = None
        self._sessions = _Sessions()
        registry.register(self._sessions)

    def init_labels(
        self,
        *,
        rejections: Iterable[str],
        close_reasons: Iterable[str],
        max_sessions: int,
        max_unauthenticated: int,
        send_buffer_bytes: int,
    ) -> None:
        """Show these from the start: words that sessions are refused and ended with, and the limits that hold."""
        self._requests_rejected.init_labels(one_label(rejections))
        self._closed.init_labels(one_label(close_reasons))
        self._limit.read = lambda: {(): max_sessions}
        self._unauthenticated_limit.read = lambda: {(): max_unauthenticated}
        self._send_buffer_limit.read = lambda: {(): send_buffer_bytes}

    def watch(
        self, collect_stats: Callable[[], Awaitable[SessionStats]], unauthenticated_now: Callable[[], int]
    ) -> None:
        """Where to look when somebody asks."""
        self._collect = collect_stats
        self._unauthenticated.read = lambda: {(): unauthenticated_now()}

    async def update(self) -> None:
        """Walk over the sessions, so that what is collected next tells of now."""
        if self._collect is not None:
            self._sessions.found = await self._collect()

    def request_rejected(self, reason: str) -> None:
        self._requests_rejected.count((reason,))

    def session_closed(self, reason: str) -> None:
        self._closed.count((reason,))


class _Sessions(Collector):
    """Everything that one walk over the sessions shows; nothing is counted while they send."""

    def __init__(self) -> None:
        self.found: SessionStats | None = None

    def collect(self) -> Iterable[Metric]:
        sessions = GaugeMetricFamily(
            PREFIX + "engineio_sessions", "Transport sessions open now.", labels=("transport",)
        )
        waiting = GaugeMetricFamily(
            PREFIX + "send_buffer_bytes",
            "Bytes that wait in this process to be sent to clients, all together.",
        )
        largest = GaugeMetricFamily(
            PREFIX + "send_buffer_largest_bytes", "Bytes that wait for the client that most waits for."
        )
        behind = GaugeMetricFamily(
            PREFIX + "send_buffer_waiting_sessions", "Transport sessions for which anything waits."
        )
        found = self.found
        if found is not None:
            for transport, number in found.by_transport.items():
                sessions.add_metric((transport,), number)
            waiting.add_metric((), found.waiting_bytes)
            largest.add_metric((), found.largest_bytes)
            behind.add_metric((), found.waiting_sessions)
        return sessions, waiting, largest, behind
