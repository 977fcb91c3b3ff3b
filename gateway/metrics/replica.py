"""The process itself: what it is, what it can do now, what it holds, and how late its event loop is."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

from gateway import __version__
from gateway.metrics.primitives import MetricFactory

_LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LOOK_SECONDS: Final = 0.1
"""Between two looks at the event loop. What blocks it for shorter may fall between two looks; for longer it is seen."""
HISTORY_ENTRIES, HISTORY_BYTES, HISTORY_AGE = "history_entries", "history_bytes", "history_age_seconds"
_WITH_A_NAME: Final = (HISTORY_ENTRIES, HISTORY_BYTES, HISTORY_AGE)
"""Parts that are metrics of their own: one metric has one unit."""


class ReplicaMetrics:
    """One replica as a whole."""

    def __init__(self, registry: CollectorRegistry) -> None:
        factory = MetricFactory(registry)
        # Under the names that every client library of Prometheus gives them, so that dashboards of others fit.
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        build = factory.callback_gauge(
            "build_info", "Always 1; the version is in the labels.", ("version", "python")
        )
        build.read = lambda: {(__version__, platform.python_version()): 1}
        self._ready = factory.callback_gauge(
            "replica_ready", "1 while the readiness probe is answered with 200."
        )
        self._draining = factory.callback_gauge("replica_draining", "1 once the process was asked to stop.")
        self._lag = factory.histogram(
            "event_loop_lag_seconds", "How late the event loop comes to what is due.", bounds=_LAG_BOUNDS
        )
        self._log_lines_dropped = factory.callback_counter(
            "log_lines_dropped", "Lines of the log that could not be written."
        )
        self._describe_state(factory)

    def _describe_state(self, factory: MetricFactory) -> None:
        self._items = factory.callback_gauge(
            "state_items", "Held in the state now, by what it is.", ("part",)
        )
        self._history_entries = factory.callback_gauge("history_entries", "Entries in the history now.")
        self._history_bytes = factory.callback_gauge(
            "history_bytes", "Bytes of the history now, as HISTORY_BYTES counts."
        )
        self._history_age = factory.callback_gauge(
            "history_oldest_age_seconds", "Age of the oldest entry in the history."
        )
        self._history_limit = factory.callback_gauge("history_limit_entries", "HISTORY_LENGTH.")
        self._history_limit_bytes = factory.callback_gauge("history_limit_bytes", "HISTORY_BYTES.")

    def watch_state(
        self, sizes: Callable[[], Mapping[str, float]], *, history_length: int, history_bytes: int
    ) -> None:
        """Tell how much of everything that has a limit the state holds, whenever somebody asks."""
        self._items.read = lambda: {
            (part,): size for part, size in sizes().items() if part not in _WITH_A_NAME
        }
        self._history_entries.read = lambda: {(): sizes()[HISTORY_ENTRIES]}
        self._history_bytes.read = lambda: {(): sizes()[HISTORY_BYTES]}
        self._history_age.read = lambda: {(): sizes()[HISTORY_AGE]}
        self._history_limit.read = lambda: {(): history_length}
        self._history_limit_bytes.read = lambda: {(): history_bytes}

    def watch_health(self, *, is_ready: Callable[[], bool], is_draining: Callable[[], bool]) -> None:
        """Tell what probes are told, whenever somebody asks."""
        self._ready.read = lambda: {(): is_ready()}
        self._draining.read = lambda: {(): is_draining()}

    def watch_log(self, lines_dropped: Callable[[], int]) -> None:
        """Tell how many lines were lost, whenever somebody asks."""
        self._log_lines_dropped.read = lambda: {(): lines_dropped()}

    async def watch_loop(self) -> None:
        """Look how late the event loop is, until cancelled: a task that asks to be woken is woken that much later."""
        # Not by the clock of the loop: uvloop's stands still within a turn, and knows whole milliseconds only.
        while True:
            due = time.monotonic() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self._lag.observe(max(0.0, time.monotonic() - due))
