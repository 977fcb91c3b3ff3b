"""Metrics of what has no component of its own: the state, the bodies that arrive, the lines that the log dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.domain.bounded_body import MAX_ARRIVING_BYTES, MIN_LARGEST_BODIES, ArrivingBodies
from gateway.logs import lines_dropped
from gateway.metrics import MetricFactory

_HISTORY_ENTRIES, _HISTORY_BYTES, _HISTORY_AGE = "history_entries", "history_bytes", "history_age_seconds"
_OWN_METRICS: Final = (_HISTORY_ENTRIES, _HISTORY_BYTES, _HISTORY_AGE)
"""Sizes with a metric of their own, because one metric has one unit."""


def create_state_metrics(
    metrics: MetricFactory,
    sizes: Callable[[], Mapping[str, float]],
    *,
    history_length: int,
    history_bytes: int,
) -> None:
    """Create the gauges of everything in the state that has a limit. ``sizes`` is ``State.sizes``."""

    def items() -> Mapping[tuple[str, ...], float]:
        return {(part,): size for part, size in sizes().items() if part not in _OWN_METRICS}

    metrics.callback_gauge(
        "state_items", "Items in the state that have a limit, by part.", ("part",), read=items
    )
    metrics.callback_gauge(
        "history_entries", "Entries in the history.", read=lambda: sizes()[_HISTORY_ENTRIES]
    )
    metrics.callback_gauge(
        "history_bytes",
        "Bytes of the history, as HISTORY_BYTES counts them.",
        read=lambda: sizes()[_HISTORY_BYTES],
    )
    metrics.callback_gauge(
        "history_oldest_age_seconds",
        "Age of the oldest entry in the history.",
        read=lambda: sizes()[_HISTORY_AGE],
    )
    metrics.callback_gauge("history_limit_entries", "HISTORY_LENGTH.", read=lambda: history_length)
    metrics.callback_gauge("history_limit_bytes", "HISTORY_BYTES.", read=lambda: history_bytes)


def create_arriving_bodies(metrics: MetricFactory, max_body_bytes: int) -> ArrivingBodies:
    """Return the bound of all bodies that arrive at once, with its metrics."""
    max_bytes = max(MAX_ARRIVING_BYTES, MIN_LARGEST_BODIES * max_body_bytes)
    arriving = ArrivingBodies(max_bytes=max_bytes)
    metrics.callback_gauge(
        "arriving_body_bytes",
        "Bytes of bodies and WebSocket messages that have not arrived whole.",
        read=lambda: arriving.bytes,
    )
    metrics.callback_gauge("arriving_body_limit_bytes", "The limit of these bytes.", read=lambda: max_bytes)
    metrics.callback_counter(
        "arriving_bodies_dropped",
        "Bodies and WebSocket messages that were dropped while they arrived.",
        read=lambda: arriving.dropped,
    )
    return arriving


def create_log_metrics(metrics: MetricFactory) -> None:
    """Create the counter of log lines that could not be written."""
    metrics.callback_counter("log_lines_dropped", "Log lines that could not be written.", read=lines_dropped)
