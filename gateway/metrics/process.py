"""The process: its version, its memory and files, its garbage collector, and the lag of its event loop."""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import time
from typing import Any, Final

import structlog
from prometheus_client import GCCollector, ProcessCollector

from gateway.metrics.primitives import MetricFactory

_LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
INTERVAL_SECONDS: Final = 0.1
"""Between two measurements of the event loop. A block that is shorter may fall between two of them, a longer one is
always measured."""


FILES_SECONDS: Final = 1.0
"""Between two attempts to open a file."""
FILES_LOG_SECONDS: Final = 30.0
"""Between two lines about files that cannot be opened."""
_ANY_FILE: Final = 2
_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})

log = structlog.get_logger(__name__)


class ProcessMetrics:
    """Metrics of the process, and the task that measures its event loop."""

    def __init__(self, metrics: MetricFactory, *, version: str) -> None:
        # With the names of every Prometheus client library, so that common dashboards work.
        ProcessCollector(registry=metrics.registry)
        GCCollector(registry=metrics.registry)
        metrics.callback_gauge(
            "build_info",
            "Always 1; the version is in the labels.",
            ("version", "python"),
            read=lambda: {(version, platform.python_version()): 1},
        )
        self._exhausted = metrics.counter(
            "files_exhausted",
            "Seconds in which the process could open no more files.",
        )
        self._log_at = 0.0
        self._lag = metrics.histogram(
            "event_loop_lag_seconds", "How late the event loop runs a task that is due.", bounds=_LAG_BOUNDS
        )

    async def watch_files(self) -> None:
        """Try to open a file each second until cancelled; count and log when none can be opened.

        The event loops do not report it: libuv closes a connection for which there is no file, and asyncio's own loop
        logs it once for each of thousands of attempts.
        """
        asyncio.get_running_loop().set_exception_handler(self._handle_loop_error)
        while True:
            await asyncio.sleep(FILES_SECONDS)
            try:
                os.close(os.dup(_ANY_FILE))
            except OSError as error:
                if error.errno not in _NO_FILES:
                    raise
                self._count_exhausted()

    def _handle_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _NO_FILES:
            loop.default_exception_handler(context)

    def _count_exhausted(self) -> None:
        self._exhausted.count()
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + FILES_LOG_SECONDS
            log.error(
                "gateway.files_exhausted",
                reason="no more files can be opened, so connections fail: raise the limit of open files (ulimit -n)",
            )

    async def watch_loop(self) -> None:
        """Measure the lag of the event loop until cancelled: how late a task wakes that sleeps for INTERVAL_SECONDS."""
        # Not by the clock of the loop: uvloop's stands still within a turn, and knows whole milliseconds only.
        while True:
            due = time.monotonic() + INTERVAL_SECONDS
            await asyncio.sleep(INTERVAL_SECONDS)
            self._lag.observe(max(0.0, time.monotonic() - due))
