"""How the shared state serves this replica; satisfies ``state.redis.meter.Meter``. All zero without Redis."""

from __future__ import annotations

from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry

from gateway.interfaces import RedisStats
from gateway.metrics.primitives import MetricFactory, one_label

_COMMAND_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0)
_PROBE_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONNECTIONS: Final = ("commands", "channels")
FAILURES: Final = ("not_executed", "unknown")


class RedisMetrics:
    """The connections to Redis, what is asked on them, and how far behind this replica hears."""

    def __init__(self, registry: CollectorRegistry) -> None:
        factory = MetricFactory(registry)
        self._factory = factory
        self._connected_before: set[str] = set()
        each = one_label(CONNECTIONS)
        self._connected = factory.callback_gauge(
            "redis_connected", "1 while there is this connection to Redis.", ("connection",)
        )
        self._rejecting = factory.callback_gauge(
            "redis_rejecting",
            "1 while Redis answers on this connection, and refuses.",
            ("connection", "reason"),
        )
        self._reconnects = factory.counter(
            "redis_reconnects", "Connections to Redis made after the first one.", ("connection",), each
        )
        self._connect_failures = factory.counter(
            "redis_connect_failures", "Connections to Redis that could not be made.", ("connection",), each
        )
        self._seconds = factory.histogram(
            "redis_command_duration_seconds",
            "From asking Redis to its answer, repetitions included.",
            ("command",),
            bounds=_COMMAND_BOUNDS,
        )
        self._failures = factory.counter(
            "redis_command_failures",
            "Commands that certainly did nothing (unsent), or of which nobody knows (unanswered).",
            ("command", "outcome"),
        )
        self._retries = factory.counter(
            "redis_command_retries", "Commands asked again within their time.", ("command",)
        )
        self._describe_subscription(factory)

    def _describe_subscription(self, factory: MetricFactory) -> None:
        self._probe_age = factory.callback_gauge(
            "pubsub_probe_age_seconds", "Since this replica last heard on a channel what it said to itself."
        )
        self._probe_seconds = factory.histogram(
            "pubsub_probe_round_trip_seconds",
            "From saying something to itself through Redis to its turn among what is delivered.",
            bounds=_PROBE_BOUNDS,
        )
        self._lag = factory.callback_gauge(
            "broker_lag_seconds", "How far behind this replica hears what is published."
        )
        self._received = factory.callback_counter(
            "redis_messages_received", "Entries that came on channels of Redis."
        )
        self._overflows = factory.callback_counter(
            "receive_buffer_overflows",
            "Times that too much had come on channels, and was read from the log instead.",
        )
        self._resyncs = factory.counter("resyncs", "Times that the log was read after an interruption.")
        self._resynced = factory.counter("resynced_entries", "Entries that came by reading the log.")
        self._leases_lost = factory.counter(
            "leases_lost", "Times that this replica had been taken for dead, or another log was found."
        )
        self._reaped = factory.counter("replicas_reaped", "Dead replicas cleaned up after by this one.")
        self._decode_errors = factory.counter(
            "decode_errors", "Things on the channels of Redis that this release cannot read."
        )

    def watch(self, shared: RedisStats) -> None:
        """Where to look when somebody asks."""
        names = tuple(shared.command_names)
        self._seconds.init_labels(one_label(names))
        self._failures.init_labels(product(names, FAILURES))
        self._retries.init_labels(one_label(names))
        self._connected.read = lambda: {(name,): there for name, there in shared.connected.items()}
        words = tuple(shared.rejection_codes)
        self._rejecting.read = lambda: {
            (name, word): shared.rejections.get(name) == word for name in CONNECTIONS for word in words
        }
        self._probe_age.read = lambda: {(): shared.probe_age_seconds}
        self._lag.read = lambda: {(): shared.lag_seconds}
        self._received.read = lambda: {(): shared.messages_received}
        self._overflows.read = lambda: {(): shared.receive_buffer_overflows}

    def connection_made(self, connection: str) -> None:
        if connection in self._connected_before:
            self._reconnects.count((connection,))
        self._connected_before.add(connection)

    def connection_failed(self, connection: str) -> None:
        self._connect_failures.count((connection,))

    def command_finished(self, command: str, seconds: float) -> None:
        self._seconds.observe(seconds, (command,))

    def command_failed(self, command: str, outcome: str) -> None:
        self._failures.count((command, outcome))

    def command_retried(self, command: str) -> None:
        self._retries.count((command,))

    def probe_received(self, seconds: float) -> None:
        self._probe_seconds.observe(seconds)

    def resynced(self, entries: int) -> None:
        self._resyncs.count()
        self._resynced.count((), entries)

    def lease_lost(self) -> None:
        self._leases_lost.count()

    def replica_reaped(self, _replica: str) -> None:
        self._reaped.count()

    def decode_failed(self) -> None:
        self._decode_errors.count()
