"""The gateway as a process: its event loop, its signals, its exit status."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable
from functools import partial

import structlog

from gateway import signals
from gateway.dev_console import Development
from gateway.domain.errors import StateMisconfigured
from gateway.http_server import ListenFailed
from gateway.rlimit import raise_limit
from gateway.runtime import Gateway
from gateway.settings import Settings, SettingsError
from gateway.socketio_server.client_bundle import BundleMissing

log = structlog.get_logger(__name__)

OnListening = Callable[[str], None]
"""Told the address once the gateway listens."""
LoadSettings = Callable[[], Settings]
"""Reads the settings anew; raises SettingsError."""

GC_THRESHOLDS = (50_000, 20, 100)
STOPPED, FAILED, UNUSABLE = 0, 1, 2
"""Exit statuses: stopped when told to; something broke while it ran; it cannot start as it is set up."""


def run(
    settings: Settings,
    *,
    development: Development | None = None,
    on_listening: OnListening | None = None,
    load_again: LoadSettings | None = None,
) -> int:
    """Run the gateway until SIGTERM or SIGINT; answers the exit status.

    SIGHUP takes over what ``load_again`` reads; without it a terminal that is closed ends the gateway.
    """
    before, limit = raise_limit()
    if limit != before:
        log.info("gateway.open_files_raised", before=before, limit=limit)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(settings, development, on_listening, load_again))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # There is none for Windows.
        return None
    return uvloop.new_event_loop


async def _serve(
    settings: Settings,
    development: Development | None,
    on_listening: OnListening | None,
    load_again: LoadSettings | None,
) -> int:
    try:
        gateway = Gateway(settings, development=development)
    except BundleMissing as error:
        log.error("gateway.cannot_start", reason=str(error))
        return UNUSABLE
    stopped = asyncio.Event()
    _install_signal_handlers(gateway, stopped, load_again)
    _tune_gc()
    try:
        await gateway.run(stopped, on_listening)
    except ExceptionGroup as failures:
        for failure in failures.exceptions:
            if isinstance(failure, ListenFailed):
                advice = "end what uses it, or choose another with GATEWAY_PORT or GATEWAY_INGEST_PORT"
                log.error("gateway.cannot_listen", reason=str(failure), advice=advice)
            elif isinstance(failure, StateMisconfigured):
                log.error("gateway.cannot_start", reason=failure.message)
                return UNUSABLE
            else:
                log.error("gateway.failed", reason=str(failure), exc_info=failure)
        return FAILED
    return STOPPED


def _tune_gc() -> None:
    """Look for garbage in cycles seldom: there is little of it, and looking means walking the whole history.

    With Python's own thresholds it took a fifth of the time of a push, and stopped deliveries for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _install_signal_handlers(
    gateway: Gateway, stopped: asyncio.Event, load_again: LoadSettings | None
) -> None:
    loop = asyncio.get_running_loop()
    stop = partial(_stop_or_quit, stopped)
    hang_up = stop if load_again is None else partial(_reload, gateway, load_again)
    actions = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: hang_up}
    for number, action in actions.items():
        loop.add_signal_handler(number, action)
    for came in signals.drain():
        actions[signal.Signals(came)]()


def _reload(gateway: Gateway, load_again: LoadSettings) -> None:
    """Settings that cannot be used change nothing: the process goes on with those it has."""
    try:
        gateway.reload(load_again())
    except SettingsError as error:
        log.error("settings.reload_failed", problems=error.problems)


def _stop_or_quit(stopped: asyncio.Event) -> None:
    """The first signal lets everybody leave, the second ends the process at once."""
    if stopped.is_set():
        log.warning("gateway.forced_exit", reason="it was told to stop a second time")
        os._exit(FAILED)
    stopped.set()
