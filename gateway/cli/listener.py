"""A stock python-socketio client that prints every event and reconnects."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import aiohttp
import socketio

from gateway.cli.errors import Rejected

_MIN_DELAY_SECONDS: Final = 0.5
_MAX_DELAY_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 20.0
_CLOSE_SECONDS: Final = 0.5

_DISABLED_LOG: Final = logging.getLogger("sio-gateway.disabled")
_DISABLED_LOG.disabled = True


class Listener:
    """Connect, print one JSON line for each event, and reconnect until the gateway rejects the connection.

    Each connection has a new python-socketio client, and the delay between connections is here: the library's own
    reconnection does not distinguish a rejected client from a lost connection, and never stops trying.
    """

    def __init__(
        self, *, url: str, path: str, namespace: str, transports: list[str], token: Callable[[], str]
    ) -> None:
        self._url = url
        self._path = path
        self._namespace = namespace
        self._transports = transports
        self._token = token
        self._delay_seconds = _MIN_DELAY_SECONDS

    async def run(self) -> None:
        """Run until cancelled or until stdout is closed.

        Raises: Rejected.
        """
        async with aiohttp.ClientSession() as http:
            while True:
                connection = await self._connection(http)
                if connection.stdout_closed:
                    return
                if connection.rejection is not None:
                    raise Rejected(connection.rejection)
                await self._pause(connection)

    async def _connection(self, http: aiohttp.ClientSession) -> _Connection:
        connection = _Connection(self._namespace, http)
        auth = {"token": self._token(), "recovery": False}
        try:
            await connection.run(self._url, path=self._path, transports=self._transports, auth=auth)
        finally:
            await connection.close()
        return connection

    async def _pause(self, connection: _Connection) -> None:
        if connection.connected:
            self._delay_seconds = _MIN_DELAY_SECONDS
        delay = self._delay_seconds * random.uniform(0.75, 1.25)  # noqa: S311  # spreads clients, protects nothing
        _print(f"{connection.failure or 'connection lost'}; reconnecting in {delay:.1f} s")
        await asyncio.sleep(delay)
        self._delay_seconds = min(2 * self._delay_seconds, _MAX_DELAY_SECONDS)


class _Connection:
    """One connection from the first request to its end, and how it ended.

    ``rejection`` is the reason if the client must not reconnect, ``failure`` the error of a failed connect.
    """

    def __init__(self, namespace: str, http: aiohttp.ClientSession) -> None:
        self.connected = False
        self.stdout_closed = False
        self.rejection: str | None = None
        self.failure: str | None = None
        self._namespace = namespace
        self._disconnect_reason = ""
        self._ended = asyncio.Event()
        # The library's own log messages are disabled; this module prints the events of the connection.
        self._client = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            http_session=http,
            logger=_DISABLED_LOG,
            engineio_logger=_DISABLED_LOG,
        )
        for event, handler in (
            ("connect", self._on_connect),
            ("connect_error", self._on_connect_error),
            ("disconnect", self._on_disconnect),
            ("*", self._on_event),
        ):
            self._client.on(event, handler, namespace=namespace)

    async def run(self, url: str, *, path: str, transports: list[str], auth: dict[str, object]) -> None:
        """Connect and wait until either side disconnects or stdout is closed."""
        ended = asyncio.create_task(self._ended.wait(), name="ended")
        # A task of its own: after a rejected connect the library waits for its last poll before it reports the error.
        connecting = asyncio.create_task(
            self._client.connect(
                url,
                auth=auth,
                transports=transports,
                namespaces=[self._namespace],
                socketio_path=path,
                wait_timeout=_CONNECT_SECONDS,
            ),
            name="connecting",
        )
        connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait({connecting, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return
        try:
            await connecting
        except (socketio.exceptions.ConnectionError, aiohttp.ClientError, OSError, ValueError) as error:
            self.failure = str(error) or type(error).__name__
            return
        await asyncio.wait({self._client.eio.read_loop_task, ended}, return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Disconnect, and wait for the answer for a short time only."""
        with suppress(TimeoutError, OSError, aiohttp.ClientError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._client.disconnect()
        # All other tasks belong to the library. They may run for half a minute and send after the connection is closed.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)

    def _on_connect(self) -> None:
        # The library sets this a moment later, and would ignore a DISCONNECT that arrives before.
        self.connected = self._client.connected = True
        _print(f"connected to {self._namespace}")

    def _on_connect_error(self, reason: object = None, *_: object) -> None:
        # A rejected handshake also calls this, before the Engine.IO connection exists: that one is worth a retry.
        if self._client.eio.state != "connected":
            return
        details = reason if isinstance(reason, dict) else {"message": reason}
        data = details.get("data")
        code = f"{data['code']}: " if isinstance(data, dict) and "code" in data else ""
        self.rejection = f"the gateway rejected the connection: {code}{details.get('message')}"
        self._ended.set()

    def _on_disconnect(self, reason: str) -> None:
        # The library has one reason for a DISCONNECT packet, which is final, and for a closed transport, which is not.
        if reason == self._client.reason.SERVER_DISCONNECT and self._client.eio.state == "connected":
            self.rejection = f"the gateway disconnected the client{self._disconnect_reason}"
        self._ended.set()

    def _on_event(self, event: str, *args: Any) -> None:
        if event == "error" and args and isinstance(args[0], dict):
            self._disconnect_reason = f": {args[0].get('code')}: {args[0].get('message')}"
        try:
            sys.stdout.write(
                json.dumps({"event": event, "args": args}, ensure_ascii=False, default=repr) + "\n"
            )
            sys.stdout.flush()
        except BrokenPipeError:  # as behind `| head -1`
            # Python flushes the rest of the buffer when it ends (docs.python.org, "Note on SIGPIPE").
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.stdout_closed = True
            self._ended.set()


def _print(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()
