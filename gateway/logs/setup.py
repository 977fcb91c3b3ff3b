"""Level and format of the log, at the start and again while the process runs.

Our code logs events with dotted names through structlog, directly to the stream. Lines of libraries, which use the
standard library, go to the same stream. Payloads and secrets are never passed to a logger (invariant 10 of
docs/explanation/architecture.md). A field with the name of a secret is masked nevertheless.
"""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Final, TextIO

import structlog
from structlog.typing import Processor

from gateway.logs import rendering, stdlib
from gateway.logs.output import Output
from gateway.logs.rendering import EventLogger, set_level

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def _dropped_line(lines: int) -> str:
    rendered: list[str] = []
    log = structlog.wrap_logger(
        SimpleNamespace(error=rendered.append), processors=_processors, wrapper_class=EventLogger
    )
    # An error, because there may be errors among the dropped lines.
    log.error("log.lines_dropped", lines=lines)
    return rendered[0] + "\n"


# Loggers keep these two objects from their first use on, so only their content is changed.
_output: Final = Output(_dropped_line)
_processors: Final[list[Processor]] = []


def configure_logging(level: str, format: str = "auto", *, stream: TextIO | None = None) -> None:  # noqa: A002
    """Set up structlog and ``logging`` for this process.

    ``level`` is debug, info, warning or error; a lower level costs a call that does nothing. ``format`` is json,
    console, or auto: console on a terminal, else json. ``stream``: None for stderr. It may be called again at any time,
    and applies to all existing loggers at once.
    """
    stream = sys.stderr if stream is None else stream
    on_terminal = stream.isatty()
    render = rendering.renderers(
        as_json=format == "json" or (format == "auto" and not on_terminal), colors=on_terminal
    )
    _output.use(stream)
    _processors[:] = [*rendering.SHARED, *render]
    structlog.configure(
        processors=_processors,
        wrapper_class=EventLogger,
        logger_factory=lambda *_: _output,
        cache_logger_on_first_use=True,
    )
    number = _LEVELS[level]
    set_level(number)
    stdlib.route(number, _output, render)


def collecting_lines() -> AbstractContextManager[None]:
    """Collect the lines below warning of the running event loop, and write them once in each turn of it."""
    return _output.collecting()


def is_more_verbose(level: str, other: str) -> str:
    """Return the one of two levels at which more is written."""
    return min(level, other, key=_LEVELS.__getitem__)


def lines_dropped() -> int:
    """Return the number of lines that were dropped since the process started."""
    return _output.dropped
