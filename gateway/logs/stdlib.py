"""Lines that libraries write through ``logging``, and exceptions that nothing caught."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.logs import rendering
from gateway.logs.output import Output

# Below warning they log packets, and so payloads and tokens, or each request of the trace export. The level of the
# first six must be set before their first server is created, otherwise they add a handler of their own.
_VERBOSE: Final = (
    "engineio",
    "engineio.server",
    "engineio.client",
    "socketio",
    "socketio.server",
    "socketio.client",
    "urllib3",
)
_WITH_ADDRESSES: Final = ("opentelemetry", "urllib3", "requests")
"""Libraries of the trace export. Its address and headers may contain the secret of a collector."""
_TASK: Final = re.compile(r"<Task [a-z]+ name='([^']*)'")

log = structlog.get_logger("gateway")


class _Handler(logging.StreamHandler[Output]):
    """Logs that a line of a library cannot be formatted, instead of a traceback with the arguments."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the name of logging
        log.error("log.failed", logger=record.name, exc_info=True)  # noqa: LOG014  # called while one is handled


def route(number: int, output: Output, render: Sequence[Processor]) -> None:
    """Let the loggers of ``logging`` write to ``output``, in our format, from level ``number`` on."""
    handler = _Handler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_remove_arguments, *rendering.SHARED, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    for former in list(root.handlers):
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(number)
    logging.captureWarnings(True)
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed
    sys.unraisablehook = _unraisable


def _remove_arguments(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    """Remove arguments and secrets from a line of a library.

    The event loop logs the calls that failed, with their arguments, which may come from a client.
    """
    record = event["_record"]
    if record.name == "asyncio":
        first, _, rest = str(event["event"]).partition("\n")
        task = _TASK.search(rest)
        if first.startswith("Exception in callback"):
            first = first.partition("(")[0]
        event["event"] = first if task is None else f"{first} ({task[1]})"
    elif record.name.startswith(_WITH_ADDRESSES):
        _remove_values(record, event)
    return event


def _remove_values(record: logging.LogRecord, event: EventDict) -> None:
    """Keep the text without its arguments, those that are numbers, and the types of errors: others may be secret."""
    event["event"] = str(record.msg)
    arguments = record.args if isinstance(record.args, tuple) else ()
    errors = [*arguments, *(record.exc_info or ())[1:2]]
    event["errors"] = [type(each).__name__ for each in errors if isinstance(each, BaseException)]
    event["numbers"] = [each for each in arguments if isinstance(each, int | float)]
    record.exc_info = record.exc_text = None
    event.pop("exc_info", None)


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    log.critical("process.crashed", exc_info=(kind, error, trace))


def _thread_crashed(crash: threading.ExceptHookArgs) -> None:
    name = None if crash.thread is None else crash.thread.name
    log.critical("thread.crashed", thread=name, exc_info=crash.exc_value)


def _unraisable(failure: sys.UnraisableHookArgs) -> None:
    # Only the name of the object: its text may contain anything.
    where = getattr(failure.object, "__qualname__", type(failure.object).__qualname__)
    log.error("process.exception_ignored", where=where, exc_info=failure.exc_value)
