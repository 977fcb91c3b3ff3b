"""From a fact to a line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

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
