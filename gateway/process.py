"""The gateway as a process: event loop, signals, garbage collector and exit status."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import structlog

from gateway import signals
from gateway.dev_console import Development
from gateway.domain.errors import StateMisconfigured
from gateway.http_server import ListenFailed
from gateway.logs import collecting_lines
from gateway.rlimit import raise_limit
from gateway.runtime import Gateway
from gateway.settings import Settings, SettingsError
from gateway.socketio_server.client_bundle import BundleMissing

OnListening = Callable[[str], None]
"""Called with the address once the gateway listens."""
LoadSettings = Callable[[], Settings]
"""Reads the settings again. Raises SettingsError."""

GC_THRESHOLDS = (50_000, 20, 100)
MMAP_BYTES: Final = 256 * 1024
"""Blocks of this size and above are returned to the system when they are freed."""
_M_MMAP_THRESHOLD: Final = -3
"""The parameter of mallopt(3)."""
RELOAD_SECONDS: Final = 30.0
"""How long the files may take to be read at SIGHUP. The next SIGHUP tries again."""
STOPPED, FAILED, UNUSABLE = 0, 1, 2
"""Exit statuses: stopped by a signal; failed while it ran; cannot start with this configuration."""

log = structlog.get_logger(__name__)


def run(
    settings: Settings,
    *,
    development: Development | None = None,
    on_listening: OnListening | None = None,
    load_again: LoadSettings | None = None,
) -> int:
    """Run the gateway until SIGTERM or SIGINT; return the exit status.

    SIGHUP reloads the settings with ``load_again``. Without it SIGHUP stops the gateway, as when a terminal is closed.
    """
    before, limit = raise_limit()
    if limit != before:
        log.info("gateway.open_files_raised", before=before, limit=limit)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(settings, development, on_listening, load_again))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # uvloop does not exist for Windows
        return None
    return uvloop.new_event_loop


async def _serve(
    settings: Settings,
    development: Development | None,
    on_listening: OnListening | None,
    load_again: LoadSettings | None,
) -> int:
    with collecting_lines():
        return await _run_gateway(settings, development, on_listening, load_again)


async def _run_gateway(
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
    reloader = None if load_again is None else _Reloader(gateway, load_again, stopped)
    _install_signal_handlers(stopped, reloader)
    _tune_gc()
    _tune_memory()
    try:
        await gateway.run(stopped, on_listening)
    except ExceptionGroup as failures:
        for failure in failures.exceptions:
            if isinstance(failure, ListenFailed):
                log.error(
                    "gateway.cannot_listen", reason=str(failure), advice=_listen_advice(failure.__cause__)
                )
            elif isinstance(failure, StateMisconfigured):
                log.error("gateway.cannot_start", reason=failure.message)
                return UNUSABLE
            else:
                log.error("gateway.failed", reason=str(failure), exc_info=failure)
        return FAILED
    finally:
        if reloader is not None:
            await reloader.close()
    return STOPPED


def _tune_memory() -> None:
    """Let glibc return large blocks to the system when they are freed, such as bodies and answers to polls.

    It would keep those of up to 32 MiB in its heap once the first one was freed: 100 clients that left answers of 3.6
    MB unread would cost 380 MB for good, and 40 MB with this.
    """
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        with suppress(AttributeError, OSError, TypeError):  # another C library has no mallopt
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES)


def _tune_gc() -> None:
    """Let the garbage collector run seldom: there are few cycles, and each run walks the whole history.

    With Python's own thresholds it took a fifth of the time of a push, and stopped deliveries for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _listen_advice(cause: BaseException | None) -> str:
    """Return what an operator can do about a port that cannot be opened."""
    code = cause.errno if isinstance(cause, OSError) else None
    if isinstance(cause, socket.gaierror) or code == errno.EADDRNOTAVAIL:
        return "set GATEWAY_HOST to an address of this machine"
    if code == errno.EACCES:
        return "choose a port from 1024 on with GATEWAY_PORT or GATEWAY_INGEST_PORT"
    return "stop the program that uses it, or choose another with GATEWAY_PORT or GATEWAY_INGEST_PORT"


def _install_signal_handlers(stopped: asyncio.Event, reloader: _Reloader | None) -> None:
    loop = asyncio.get_running_loop()
    stop = partial(_stop_or_quit, stopped)
    hang_up = stop if reloader is None else reloader.request
    actions: dict[signal.Signals, Callable[[], object]] = {
        signal.SIGTERM: stop,
        signal.SIGINT: stop,
        signal.SIGHUP: hang_up,
    }
    for number, action in actions.items():
        loop.add_signal_handler(number, action)
    for received in signals.drain():
        actions[signal.Signals(received)]()


class _Reloader:
    """Reloads the settings, one reload after the other. A request during a reload causes one more after it.

    The files are read in a thread, because a large event catalogue takes longer than clients may wait. The event loop
    then applies the settings at once. Settings with problems change nothing.
    """

    def __init__(self, gateway: Gateway, load_again: LoadSettings, stopped: asyncio.Event) -> None:
        self._gateway = gateway
        self._load_again = load_again
        self._stopped = stopped
        self._is_requested = False
        self._task: asyncio.Task[None] | None = None

    def request(self) -> None:
        """Begin a reload, now or after the one that is in progress."""
        self._is_requested = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="reload")

    async def close(self) -> None:
        """Cancel the reload that is in progress; nothing is applied afterwards."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._is_requested and not self._stopped.is_set():
            self._is_requested = False
            try:
                async with asyncio.timeout(RELOAD_SECONDS):
                    settings = await _in_thread(self._load_again)
                if not self._stopped.is_set():
                    self._gateway.reload(settings)
            except SettingsError as error:
                log.error("settings.reload_failed", problems=error.problems)
            except TimeoutError:
                problem = f"a file could not be read to its end within {RELOAD_SECONDS:.0f} s"
                log.error("settings.reload_failed", problems=[problem])
            except Exception as error:  # the outermost edge of a reload: the gateway stays as it is
                log.error("settings.reload_failed", problems=[str(error)], exc_info=error)


async def _in_thread(load: LoadSettings) -> Settings:
    """Return what ``load`` returns in a thread of its own. The exit of the process does not wait for the thread.

    Those of ``asyncio.to_thread`` would keep the process from ending, as when a file is on a server that is away.
    """
    loop = asyncio.get_running_loop()
    loaded: asyncio.Future[Settings] = loop.create_future()

    def end(result: Settings | None, error: Exception | None) -> None:
        if loaded.done():
            return  # it was given up
        if error is not None:
            loaded.set_exception(error)
        elif result is not None:
            loaded.set_result(result)

    def work() -> None:
        result, failure = None, None
        try:
            result = load()
        except Exception as error:  # noqa: BLE001  # raised where the result is awaited
            failure = error
        with suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(end, result, failure)

    threading.Thread(target=work, name="reload", daemon=True).start()
    return await loaded


def _stop_or_quit(stopped: asyncio.Event) -> None:
    """Drain and stop at the first signal; exit at once at the second."""
    if stopped.is_set():
        log.warning("gateway.forced_exit", reason="a second signal to stop was received")
        os._exit(FAILED)
    stopped.set()
