"""From a fact to a line.

The loggers of our own code.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog
from structlog import BoundLoggerBase
from structlog.typing import EventDict, Processor, WrappedLogger


class EventLogger(BoundLoggerBase):
    """A logger of facts under dotted names: ``log.info("connection.closed", reason=…)``.

    Loggers are kept by modules and objects for as long as the process runs, so the level is not theirs: ``set_level``
    puts other methods into this class, which holds for all of them at once, and one that is off does nothing.
    """

    def debug(self, event: str, **facts: Any) -> None:
        self._proxy_to_logger("debug", event, **facts)

    def info(self, event: str, **facts: Any) -> None:
        self._proxy_to_logger("info", event, **facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._proxy_to_logger("warning", event, **facts)

    def error(self, event: str, **facts: Any) -> None:
        self._proxy_to_logger("error", event, **facts)

    def critical(self, event: str, **facts: Any) -> None:
        self._proxy_to_logger("critical", event, **facts)

    def exception(self, event: str, **facts: Any) -> None:
        """An error, with the exception that is being handled."""
        self.error(event, **{"exc_info": True, **facts})

    def is_enabled_for(self, level: int) -> bool:
        """Whether lines of this level of the standard library are written."""
        return level >= _level.number


class _Level:
    """The level in force."""

    number = logging.NOTSET


_level: Final = _Level()
_METHODS: Final[dict[int, tuple[str, Callable[..., None]]]] = {
    logging.DEBUG: ("debug", EventLogger.debug),
    logging.INFO: ("info", EventLogger.info),
    logging.WARNING: ("warning", EventLogger.warning),
    logging.ERROR: ("error", EventLogger.error),
}


def set_level(number: int) -> None:
    """From now on write nothing below this level of the standard library, whoever made a logger and when."""
    _level.number = number
    for each, (name, method) in _METHODS.items():
        setattr(EventLogger, name, method if each >= number else _discard)


def _discard(_logger: EventLogger, _event: str, **_facts: Any) -> None:
    pass


_NEVER: Final = frozenset(
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
# JSON lets them stand in a text, and some readers take them for the end of a line.
_LINE_ENDS: Final = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def renderers(*, json: bool, colors: bool) -> list[Processor]:
    """What makes a line of a fact: an object of JSON, or something for people."""
    if json:
        return [structlog.processors.format_exc_info, _as_json]
    # Its own way with tracebacks would show the values of variables, and so tokens and payloads.
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]


def _begin(_logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
    """When, how bad and what come first: people read these lines too."""
    at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"timestamp": at, "level": level, "event": event.pop("event"), **event}


def _mask(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    if not _NEVER.isdisjoint(event):
        for name in event.keys() & _NEVER:
            event[name] = _MASK
    return event


SHARED: Final[tuple[Processor, ...]] = (_begin, _mask)
"""What happens to every fact, whatever it becomes."""


def _as_json(_logger: WrappedLogger, _level: str, event: EventDict) -> str:
    try:
        line = orjson.dumps(event, default=repr).decode()
    except TypeError:  # a whole number of more than 64 bits, half of a surrogate pair
        line = _as_json_of_anything(event)
    return line if line.isascii() else line.translate(_LINE_ENDS)


def _as_json_of_anything(event: Any) -> str:
    return json.dumps(event, default=repr, skipkeys=True)
