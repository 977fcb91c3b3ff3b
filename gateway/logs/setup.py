"""Level and form of the log, at start and again while the process runs.

Our own code logs facts under dotted names through structlog, straight to the stream; what libraries say through the
standard library goes the same way. Payloads and secrets are never handed to a logger (DESIGN §6, law 10); what bears
the name of a secret is masked all the same.
"""

from __future__ import annotations

import logging
import sys
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
    made: list[str] = []
    log = structlog.wrap_logger(
        SimpleNamespace(error=made.append), processors=_processors, wrapper_class=EventLogger
    )
    # An error, because some of them may be among the lines that are lost.
    log.error("log.lines_dropped", lines=lines)
    return made[0] + "\n"


# Loggers keep these two from their first use on; what is changed is their content.
_output: Final = Output(_dropped_line)
_processors: Final[list[Processor]] = []


def configure_logging(level: str, format: str = "auto", *, stream: TextIO | None = None) -> None:  # noqa: A002
    """Set up structlog and the standard library's logging for this process.

    ``level`` is debug, info, warning or error; less than that costs a call that does nothing. ``format`` is json,
    console, or auto: json unless ``stream`` (stderr) is a terminal. May be called again at any time, and holds at once
    for every logger there is.
    """
    stream = sys.stderr if stream is None else stream
    on_terminal = stream.isatty()
    render = rendering.renderers(
        json=format == "json" or (format == "auto" and not on_terminal), colors=on_terminal
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


def is_more_verbose(level: str, other: str) -> str:
    """The one of two levels at which more is written."""
    return min(level, other, key=_LEVELS.__getitem__)


def lines_dropped() -> int:
    """How many lines could not be written since the process began."""
    return _output.dropped
