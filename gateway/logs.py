"""What the process writes about itself: one line for each fact, on stderr, in one form for everybody.

Our own code logs facts under dotted names through structlog, straight to the stream; what libraries say through the
standard library goes the same way. Payloads and secrets are never handed to a logger (DESIGN §6, law 10); what bears
the name of a secret is masked all the same.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
# Below warning they write packets, and so payloads and tokens. Their level must be set before their first server is
# made, else they bring a handler of their own.
_TALKATIVE: Final = (
    "engineio",
    "engineio.server",
    "engineio.client",
    "socketio",
    "socketio.server",
    "socketio.client",
)
_NEVER: Final = frozenset(
    {
        "token",
        "secret",
        "signature",
        "authorization",
        "password",
        "pid",
        "offset",
        "query",
        "payload",
        "data",
        "args",
    }
)
_FIRST: Final = ("timestamp", "level", "event")
_MASK: Final = "********"


def configure_logging(level: str, format: str = "auto", *, stream: TextIO | None = None) -> None:  # noqa: A002
    """Set up structlog and the standard library's logging for this process.

    ``level`` is debug, info, warning or error; less than that costs a call that does nothing. ``format`` is json,
    console, or auto: json unless ``stream`` (stderr) is a terminal. May be called again.
    """
    stream = sys.stderr if stream is None else stream
    number = _LEVELS[level]
    on_terminal = stream.isatty()
    render = _renderers(json=format == "json" or (format == "auto" and not on_terminal), colors=on_terminal)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask,
    ]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _route_standard_library(number, stream, shared, render)


def _renderers(*, json: bool, colors: bool) -> list[Processor]:
    if json:
        return [
            structlog.processors.format_exc_info,
            _in_order,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    return [structlog.dev.ConsoleRenderer(colors=colors)]


def _route_standard_library(
    number: int, stream: TextIO, shared: list[Processor], render: list[Processor]
) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    for former in list(root.handlers):
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(number)
    logging.captureWarnings(True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """When, how bad and what come first: people read these lines too."""
    first = {name: event.pop(name) for name in _FIRST if name in event}
    return {**first, **event}


def _mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name in event.keys() & _NEVER:
        event[name] = _MASK
    return event
