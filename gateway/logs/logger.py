"""The loggers of our own code."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from structlog import BoundLoggerBase


class FactLogger(BoundLoggerBase):
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
    logging.DEBUG: ("debug", FactLogger.debug),
    logging.INFO: ("info", FactLogger.info),
    logging.WARNING: ("warning", FactLogger.warning),
    logging.ERROR: ("error", FactLogger.error),
}


def set_level(number: int) -> None:
    """From now on write nothing below this level of the standard library, whoever made a logger and when."""
    _level.number = number
    for each, (name, method) in _METHODS.items():
        setattr(FactLogger, name, method if each >= number else _say_nothing)


def _say_nothing(_logger: FactLogger, _event: str, **_facts: Any) -> None:
    pass
