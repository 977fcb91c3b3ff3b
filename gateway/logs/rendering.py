"""The loggers of our code, and how an event becomes a line."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

import orjson
import structlog
from structlog import BoundLoggerBase
from structlog.typing import EventDict, Processor, WrappedLogger

_MASKED: Final = frozenset(
    {
        "token",
        "secret",
        "signature",
        "authorization",
        "cookie",
        "password",
        "pid",
        "offset",
        "query",
        "payload",
        "data",
        "args",
    }
)
_MASK: Final = "********"
# JSON allows them in a string, and some readers take them for the end of a line.
_LINE_ENDS: Final = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})


class EventLogger(BoundLoggerBase):
    """A logger of events with dotted names and fields: ``log.info("connection.closed", reason=…)``.

    Modules and objects keep their loggers for the life of the process, so the level is not a property of a logger.
    ``set_level`` replaces the methods of this class, for all loggers at once. The method of a level that is off does
    nothing.

    A JSON line without an exception is rendered in one step. It is the line that the processors of structlog render,
    at a quarter of their cost; a test compares the two.
    """

    def debug(self, event: str, **fields: Any) -> None:
        if not self._write_json("debug", event, fields):
            self._proxy_to_logger("debug", event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        if not self._write_json("info", event, fields):
            self._proxy_to_logger("info", event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        if not self._write_json("warning", event, fields):
            self._proxy_to_logger("warning", event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        if not self._write_json("error", event, fields):
            self._proxy_to_logger("error", event, **fields)

    def _write_json(self, level: str, event: str, fields: dict[str, Any]) -> bool:
        """Write a line as a JSON object; return False for a line that the processors have to render."""
        processors = cast(Sequence[Processor], self._processors)
        if not processors or processors[-1] is not _as_json or "exc_info" in fields:
            return False
        # A field has the place of one with the same name that the logger is bound to.
        values = {"timestamp": _timestamp(), "level": level, "event": event, **self._context, **fields}
        getattr(self._logger, level)(_as_json(self._logger, level, _mask(self._logger, level, values)))
        return True

    def critical(self, event: str, **fields: Any) -> None:
        self._proxy_to_logger("critical", event, **fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Log an error with the exception that is being handled."""
        self.error(event, **{"exc_info": True, **fields})

    def is_enabled_for(self, level: int) -> bool:
        """Return whether lines of this level (a number of ``logging``) are written."""
        return level >= _level.number


class _Level:
    """The current level."""

    number = logging.NOTSET


_level: Final = _Level()
_METHODS: Final[dict[int, tuple[str, Callable[..., None]]]] = {
    logging.DEBUG: ("debug", EventLogger.debug),
    logging.INFO: ("info", EventLogger.info),
    logging.WARNING: ("warning", EventLogger.warning),
    logging.ERROR: ("error", EventLogger.error),
}


def set_level(number: int) -> None:
    """Write no lines below this level (a number of ``logging``), for existing and for new loggers."""
    _level.number = number
    for each, (name, method) in _METHODS.items():
        setattr(EventLogger, name, method if each >= number else _discard)


def _discard(_logger: EventLogger, _event: str, **_fields: Any) -> None:
    pass


def renderers(*, as_json: bool, colors: bool) -> list[Processor]:
    """Return the last steps that render an event: as a JSON object, or readable for people."""
    if as_json:
        return [structlog.processors.format_exc_info, _as_json]
    # The default tracebacks of ConsoleRenderer show the values of variables, and so tokens and payloads.
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]


def _order_fields(_logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
    """Put time, level and name first: people read these lines too."""
    return {"timestamp": _timestamp(), "level": level, "event": event.pop("event"), **event}


class _Timestamp:
    """The time in UTC with microseconds. What is before the fraction is made once a second."""

    def __init__(self) -> None:
        self._newest = -1, ""

    def __call__(self) -> str:
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        known, text = self._newest
        if second != known:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._newest = second, text  # in one step: threads share it
        return f"{text}.{nanoseconds // 1000:06d}Z"


_timestamp: Final = _Timestamp()


def _mask(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    if not _MASKED.isdisjoint(event):
        for name in event.keys() & _MASKED:
            event[name] = _MASK
    return event


SHARED: Final[tuple[Processor, ...]] = (_order_fields, _mask)
"""The first steps of every event, in both formats."""


def _as_json(_logger: WrappedLogger, _level: str, event: EventDict) -> str:
    try:
        line = orjson.dumps(event, default=repr).decode()
    except TypeError:  # an integer of more than 64 bits, or half of a surrogate pair
        line = json.dumps(event, default=repr, skipkeys=True)
    return line if line.isascii() else line.translate(_LINE_ENDS)
