"""The Prometheus registry. Metrics are made here and nowhere else; rooms are handed what they count with.

Names: ``push_gateway_<what>_<unit>``, the unit spelled out (``seconds``, ``bytes``, ``connections``), counters end in
``_total`` (https://prometheus.io/docs/practices/naming/). A label takes values from a list that we know, never a user,
room, sid or anything else that a client or backend can make up.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

from gateway import __version__
from gateway.metrics.tallies import Level, Spread, Tally

PREFIX = "push_gateway_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Everything that this process counts; satisfies the meters of both doors and of the transport."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(namespace="push_gateway", registry=self.registry)
        self._state_items = self._gauge("state_items", "Held in the state now, by what it is.", ("part",))
        self._describe_build()
        self._open = self._level("open_connections", "Socket.IO connections open now.", ("namespace",))
        self._opened = self._tally("connections_opened", "Connections accepted.", ("namespace", "transport"))
        self._closed = self._tally(
            "connections_closed", "Connections ended, by reason.", ("namespace", "reason")
        )
        self._refused = self._counter("connections_refused", "Connections refused, by code.", ("code",))
        self._recoveries = self._tally(
            "recoveries", "Clients that asked to go on where they were: recovered, or why not.", ("outcome",)
        )
        self._accepted = self._tally("entries_accepted", "Entries that the broker took, by kind.", ("kind",))
        self._delivered = self._tally("deliveries", "Messages handed to connections of this replica.", ())
        self._requests_refused = self._counter(
            "transport_requests_refused", "Requests to the Socket.IO path refused, by reason.", ("reason",)
        )
        self._sessions_closed = self._tally(
            "transport_sessions_closed",
            "Transport sessions ended, by reason, also of those who joined no namespace.",
            ("reason",),
        )
        self._sessions = self._gauge("transport_sessions", "Transport sessions open now.", ())
        self._newcomers = self._gauge(
            "transport_sessions_unauthenticated", "Of these, those that joined no namespace yet.", ()
        )
        self._skipped = self._counter(
            "volatile_skipped", "Volatile messages not sent, by reason.", ("reason",)
        )
        self._gaps = self._counter(
            "history_gaps", "Interruptions after which messages were missing for good, by code.", ("code",)
        )
        self._cleaned = self._counter(
            "replicas_cleaned_up", "Dead replicas cleaned up after by this one.", ()
        )
        self._unreadable = self._counter(
            "frames_unreadable", "Things on the channels of Redis that this release cannot read.", ()
        )
        self._condition = self._gauge(
            "replica_condition", "1 for what this replica can do now: hearing, deaf or away.", ("condition",)
        )
        self._received = self._tally("client_messages", "Messages received from clients.", ())
        self._requests = self._tally("requests", "Requests to the REST door.", ("route", "status", "code"))
        self._request_seconds = Spread(
            PREFIX + "request_duration_seconds",
            "From the head of a request to its answer.",
            "route",
            bounds=_REQUEST_BUCKETS,
        )
        self.registry.register(self._request_seconds)

    def watch_state(self, sizes: Callable[[], Mapping[str, int]]) -> None:
        """Tell how much of everything that has a limit the state holds, whenever somebody asks."""
        for part in sizes():
            self._state_items.labels(part).set_function(partial(_size_of, sizes, part))

    def exposition(self) -> bytes:
        """All of it in the text format of Prometheus."""
        return generate_latest(self.registry)

    # the Socket.IO door

    def connection_opened(self, namespace: str, transport: str) -> None:
        self._opened.count((namespace, transport))
        self._open.count((namespace,))

    def connection_closed(self, namespace: str, reason: str) -> None:
        self._closed.count((namespace, reason))
        self._open.count((namespace,), -1)

    def connection_refused(self, code: str) -> None:
        self._refused.labels(code).inc()

    def recovery_told(self, outcome: str) -> None:
        self._recoveries.count((outcome,))

    def volatile_skipped(self, reason: str) -> None:
        self._skipped.labels(reason).inc()

    def event_received(self) -> None:
        self._received.count()

    # the transport

    def watch_transport(self, open_now: Callable[[], int], newcomers_now: Callable[[], int]) -> None:
        """Where to look when somebody asks."""
        self._sessions.set_function(open_now)
        self._newcomers.set_function(newcomers_now)

    def request_refused(self, reason: str) -> None:
        self._requests_refused.labels(reason).inc()

    def session_closed(self, reason: str) -> None:
        self._sessions_closed.count((reason,))

    # the application

    def entry_accepted(self, kind: str) -> None:
        self._accepted.count((kind,))

    def delivered(self, connections: int) -> None:
        self._delivered.count((), connections)

    # the shared state

    def gap_found(self, code: str) -> None:
        self._gaps.labels(code).inc()

    def replica_cleaned_up(self, _replica: str) -> None:
        self._cleaned.inc()

    def frame_unreadable(self) -> None:
        self._unreadable.inc()

    def watch_condition(self, conditions: Iterable[str], is_now: Callable[[str], bool]) -> None:
        """Tell which of the conditions this replica is in, whenever somebody asks."""
        for each in conditions:
            self._condition.labels(each).set_function(partial(is_now, each))

    # the REST door

    def request_answered(self, *, route: str, status: int, code: str, seconds: float) -> None:
        self._requests.count((route, str(status), code))
        self._request_seconds.observe(route, seconds)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _tally(self, name: str, text: str, labels: tuple[str, ...]) -> Tally:
        tally = Tally(PREFIX + name, text, labels)
        self.registry.register(tally)
        return tally

    def _level(self, name: str, text: str, labels: tuple[str, ...]) -> Level:
        level = Level(PREFIX + name, text, labels)
        self.registry.register(level)
        return level

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(PREFIX + name, text, labels, registry=self.registry)

    def _describe_build(self) -> None:
        build = self._gauge("build_info", "Always 1; the version is in the labels.", ("version", "python"))
        build.labels(__version__, platform.python_version()).set(1)


def _size_of(sizes: Callable[[], Mapping[str, int]], part: str) -> float:
    return sizes()[part]
