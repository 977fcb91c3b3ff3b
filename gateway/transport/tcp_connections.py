"""The open TCP connections of a listener: how many there may be, and which of them make room for new ones.

The limit is below that of open files, so that files are left for Redis, webhooks, logs and probes. At the limit a new
connection takes the place of one that never sent a request, the oldest first, or of those that have waited for their
client for the longest time. If there is none, SPARE connections are open in addition: they are answered 503, and probes
as always.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, Protocol

import structlog

from gateway.interfaces import Clock
from gateway.metrics import MetricFactory

SPARE: Final = 64
RETRY_SECONDS: Final = 5
"""``Retry-After`` of the 503."""
MIN_WAIT_SECONDS: Final = 1.0
"""Connections that wait for less time keep their place: the next bytes may be on their way."""
BATCH: Final = 1 / 64
"""The part of all connections that makes room at once if they wait for clients: to find them takes a look at each."""
SEARCH_SECONDS: Final = 0.1
"""How long it is not looked for waiting connections after there was none."""
LOG_SECONDS: Final = 10.0
CLOSE_REASONS: Final = ("unused", "waiting")

log = structlog.get_logger(__name__)


class Place(Enum):
    """What a new connection gets."""

    ADMITTED = "admitted"
    SPARE = "spare"
    """Only probes are answered, everything else with 503."""
    NONE = "none"
    """It is answered 503 at once and closed."""


class HttpConnection(Protocol):
    """An HTTP connection that may make room."""

    @property
    def is_unused(self) -> bool:
        """Whether no request has arrived whole."""
        ...

    @property
    def waits_since(self) -> float | None:
        """Since when it waits for its client, by the clock of the event loop; None while a request is handled."""
        ...

    def make_room(self) -> None:
        """Close the connection."""
        ...


class OpenConnections:
    """The connections of one listener."""

    def __init__(
        self, clock: Clock, *, listener: str, limit: int, websockets: Callable[[], int] = lambda: 0
    ) -> None:
        """``websockets`` returns how many connections became WebSockets. They never make room."""
        self.limit = limit
        self.rejected = 0
        self.closed = dict.fromkeys(CLOSE_REASONS, 0)
        self._clock = clock
        self._listener = listener
        self._websockets = websockets
        self._open: dict[HttpConnection, None] = {}
        self._unused: dict[HttpConnection, None] = {}
        """Those that may have sent no request, the oldest first."""
        self._search_at = 0.0
        self._log_at = 0.0

    @property
    def count(self) -> int:
        """The number of open connections."""
        return len(self._open) + self._websockets()

    def open(self, connection: HttpConnection) -> Place:
        """Count a new connection; close others if there are too many."""
        excess = self.count + 1 - self.limit
        if excess > 0:
            self._log_limit()
            if not self._close_unused() and not self._close_waiting():
                self.rejected += 1
                if excess > SPARE:
                    return Place.NONE
                self._open[connection] = self._unused[connection] = None
                return Place.SPARE
        self._open[connection] = self._unused[connection] = None
        return Place.ADMITTED

    def replace(self, former: HttpConnection, connection: HttpConnection) -> None:
        """Count a connection under another object, whose requests it has from now on."""
        self.close(former)
        self._open[connection] = self._unused[connection] = None

    def close(self, connection: HttpConnection) -> None:
        """Count a connection no longer."""
        self._open.pop(connection, None)
        self._unused.pop(connection, None)

    def _close_unused(self) -> bool:
        while self._unused:
            oldest = next(iter(self._unused))
            if oldest.is_unused:
                self._make_room(oldest, "unused")
                return True
            del self._unused[oldest]
        return False

    def _close_waiting(self) -> bool:
        now = self._clock.monotonic()
        if now < self._search_at:
            return False
        waiting = [(since, each) for each in self._open if (since := each.waits_since) is not None]
        oldest = heapq.nsmallest(max(1, int(self.limit * BATCH)), waiting, key=lambda item: item[0])
        chosen = [each for since, each in oldest if since <= now - MIN_WAIT_SECONDS]
        for each in chosen:
            self._make_room(each, "waiting")
        if not chosen:
            self._search_at = now + SEARCH_SECONDS
        return bool(chosen)

    def _make_room(self, connection: HttpConnection, reason: str) -> None:
        self.closed[reason] += 1
        self.close(connection)
        connection.make_room()

    def _log_limit(self) -> None:
        now = self._clock.monotonic()
        if now >= self._log_at:
            self._log_at = now + LOG_SECONDS
            log.warning(
                "connections.limit_reached",
                listener=self._listener,
                limit=self.limit,
                websockets=self._websockets(),
                rejected=self.rejected,
                closed_unused=self.closed["unused"],
                closed_waiting=self.closed["waiting"],
            )


def create_connection_metrics(metrics: MetricFactory, listeners: Mapping[str, OpenConnections]) -> None:
    """Create the metrics of all listeners of a process."""
    metrics.callback_gauge(
        "tcp_connections",
        "Open TCP connections of clients and backends, WebSockets included.",
        ("listener",),
        read=lambda: {(name,): each.count for name, each in listeners.items()},
    )
    metrics.callback_gauge(
        "tcp_connections_limit",
        "How many there may be.",
        ("listener",),
        read=lambda: {(name,): each.limit for name, each in listeners.items()},
    )
    metrics.callback_counter(
        "tcp_connections_rejected",
        "TCP connections that were answered 503 because there were too many.",
        ("listener",),
        read=lambda: {(name,): each.rejected for name, each in listeners.items()},
    )
    metrics.callback_counter(
        "tcp_connections_replaced",
        "TCP connections that were closed to make room for new ones.",
        ("listener", "reason"),
        read=lambda: {
            (name, reason): number
            for name, each in listeners.items()
            for reason, number in each.closed.items()
        },
    )
