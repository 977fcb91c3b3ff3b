"""The metrics of the Redis state: those that its components count on, and those that are read at each scrape.

A replica without Redis has them too: ``create_metrics_without_redis``.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Final, Literal

from gateway.metrics import MetricFactory, Read, one_label

COMMANDS: Final = "commands"
CHANNELS: Final = "channels"
"""The connections to Redis: one for commands, one that subscribes to channels."""
APPENDS: Final = "appends"
"""The connection for appends that Redis replicas confirm (``REDIS_WAIT_REPLICAS``)."""
READ: Final = "read"
"""The name under which commands that change nothing are counted."""
CONNECTIONS: Final = (COMMANDS, CHANNELS)
ConnectionName = Literal["commands", "channels", "appends"]
NOT_EXECUTED: Final = "not_executed"
UNKNOWN: Final = "unknown"
"""What is known of a command that failed: whether it was executed."""
_COMMAND_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0)
_PROBE_BOUNDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip


class RedisMetrics:
    """What is counted of the connections, commands, subscription and lease of one replica."""

    def __init__(self, metrics: MetricFactory) -> None:
        self._connected_before: set[str] = set()
        self._create_connection_metrics(metrics)
        self._create_subscription_metrics(metrics)
        self.leases_lost = metrics.counter(
            "leases_lost", "Times that this replica was considered dead, or that Redis holds another log."
        )
        self.replicas_reaped = metrics.counter(
            "replicas_reaped", "Dead replicas whose data this replica removed."
        )

    def _create_connection_metrics(self, metrics: MetricFactory) -> None:
        self._reconnects = metrics.counter(
            "redis_reconnects",
            "Connections to Redis opened after the first one.",
            ("connection",),
            one_label(CONNECTIONS),
        )
        self._connect_failures = metrics.counter(
            "redis_connect_failures",
            "Attempts to connect to Redis that failed.",
            ("connection",),
            one_label(CONNECTIONS),
        )
        self.command_seconds = metrics.histogram(
            "redis_command_duration_seconds",
            "Time from a command to the answer of Redis, retries included.",
            ("command",),
            bounds=_COMMAND_BOUNDS,
        )
        self.command_failures = metrics.counter(
            "redis_command_failures",
            "Commands that were certainly not executed (not_executed), or perhaps (unknown).",
            ("command", "outcome"),
        )
        self.command_retries = metrics.counter(
            "redis_command_retries", "Repeated attempts to execute a command.", ("command",)
        )

    def _create_subscription_metrics(self, metrics: MetricFactory) -> None:
        self.probe_seconds = metrics.histogram(
            "pubsub_probe_round_trip_seconds",
            "Time from sending a probe through Redis to its turn in the delivery queue.",
            bounds=_PROBE_BOUNDS,
        )
        self.resyncs = metrics.counter("resyncs", "Times that the log was read after an interruption.")
        self.resynced_entries = metrics.counter(
            "resynced_entries", "Entries read from the log after an interruption."
        )
        self.decode_errors = metrics.counter(
            "decode_errors", "Messages on the channels of Redis that this release cannot read."
        )

    def init_command_labels(self, commands: Iterable[str]) -> None:
        """Show these commands from the start."""
        commands = tuple(commands)
        self.command_seconds.init_labels(one_label(commands))
        self.command_failures.init_labels(product(commands, (NOT_EXECUTED, UNKNOWN)))
        self.command_retries.init_labels(one_label(commands))

    def connection_opened(self, connection: ConnectionName) -> None:
        """Count a connection, unless it is the first of its kind."""
        if connection in self._connected_before:
            self._reconnects.count((connection,))
        self._connected_before.add(connection)

    def connection_failed(self, connection: ConnectionName) -> None:
        """Count a failed attempt to connect."""
        self._connect_failures.count((connection,))


def create_callback_metrics(
    metrics: MetricFactory,
    *,
    connected: Read,
    rejecting: Read,
    probe_age: Read,
    lag: Read,
    clock_skew: Read,
    messages_received: Read,
    receive_buffer_overflows: Read,
) -> None:
    """Create the metrics that are read at each scrape."""
    metrics.callback_gauge(
        "redis_connected", "1 while this connection to Redis is open.", ("connection",), read=connected
    )
    metrics.callback_gauge(
        "redis_rejecting",
        "1 while Redis answers on this connection and rejects commands, by reason.",
        ("connection", "reason"),
        read=rejecting,
    )
    metrics.callback_gauge(
        "pubsub_probe_age_seconds", "Time since this replica last received its own probe.", read=probe_age
    )
    metrics.callback_gauge(
        "broker_lag_seconds", "How late this replica receives published messages.", read=lag
    )
    metrics.callback_gauge(
        "redis_clock_skew_seconds",
        "How far the clock of Redis is ahead of that of this host.",
        read=clock_skew,
    )
    metrics.callback_counter(
        "redis_messages_received", "Entries received on channels of Redis.", read=messages_received
    )
    metrics.callback_counter(
        "receive_buffer_overflows",
        "Times that the receive buffer was full and was read from the log instead.",
        read=receive_buffer_overflows,
    )


def create_metrics_without_redis(metrics: MetricFactory) -> None:
    """Create the same metrics for a replica without Redis: all zero, or without a series."""
    RedisMetrics(metrics)
    create_callback_metrics(
        metrics,
        connected=dict,
        rejecting=dict,
        probe_age=dict,
        lag=dict,
        clock_skew=dict,
        messages_received=dict,
        receive_buffer_overflows=dict,
    )
