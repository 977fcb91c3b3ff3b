"""A stock python-socketio client that prints what it hears and comes back."""

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

_FIRST_DELAY_SECONDS: Final = 0.5
_LONGEST_DELAY_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 20.0
_CLOSE_SECONDS: Final = 0.5


class Listener:
    """Connects, prints one JSON line for each event, and connects again until it is refused.

    A new python-socketio client for each connection, and the waiting between them here: its own reconnection cannot
    tell a client that was refused from one that was cut off, and tries for ever.
    """

    def __init__(
        self, *, url: str, path: str, namespace: str, transports: list[str], token: Callable[[], str]
    ) -> None:
        self._url = url
        self._path = path
        self._namespace = namespace
        self._transports = transports
        self._token = token
        self._delay_seconds = _FIRST_DELAY_SECONDS

    async def run(self) -> None:
        """Until cancelled or until nobody reads stdout any more; raises Refused."""
        async with aiohttp.ClientSession() as http:
            while True:
                connection = await self._connection(http)
                if connection.unread:
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
            self._delay_seconds = _FIRST_DELAY_SECONDS
        delay = self._delay_seconds * random.uniform(0.75, 1.25)  # noqa: S311  # spreads clients, hides nothing
        _print(f"{connection.failure or 'connection lost'}; trying again in {delay:.1f} s")
        await asyncio.sleep(delay)
        self._delay_seconds = min(2 * self._delay_seconds, _LONGEST_DELAY_SECONDS)


class _Connection:
    """One connection, from the first request to the end, and what became of it."""

    def __init__(self, namespace: str, http: aiohttp.ClientSession) -> None:
        self.connected = False
        self.unread = False
        self.rejection: str | None = None
        self.failure: str | None = None
        self._namespace = namespace
        self._disconnect_reason = ""
        self._over = asyncio.Event()
        # Its own messages would not help anybody; what happened is said here.
        self._client = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            http_session=http,
            logger=_SILENT,
            engineio_logger=_SILENT,
        )
        for event, handler in (
            ("connect", self._on_connect),
            ("connect_error", self._on_connect_error),
            ("disconnect", self._on_disconnect),
            ("*", self._on_event),
        ):
            self._client.on(event, handler, namespace=namespace)

    async def run(self, url: str, *, path: str, transports: list[str], auth: dict[str, object]) -> None:
        """Connect and stay until either side ends it, or nobody reads stdout any more."""
        over = asyncio.create_task(self._over.wait(), name="over")
        # Beside the waiting: after a refusal the library waits for its last poll before it says so.
        connecting = asyncio.create_task(
            self._client.connect(
                url,
                auth=auth,
                transports=transports,
                namespaces=[self._namespace],
                socketio_path=path,
                wait_timeout=_ANSWER_SECONDS,
            ),
            name="connecting",
        )
        connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait({connecting, over}, return_when=asyncio.FIRST_COMPLETED)
        if over.done():
            return
        try:
            await connecting
        except (socketio.exceptions.ConnectionError, aiohttp.ClientError, OSError, ValueError) as error:
            self.failure = str(error) or type(error).__name__
            return
        await asyncio.wait({self._client.eio.read_loop_task, over}, return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Say goodbye, but do not wait long for an answer."""
        with suppress(TimeoutError, OSError, aiohttp.ClientError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._client.disconnect()
        # Every task but this one is the library's. They may go on for half a minute, and send when all is closed.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)

    def _on_connect(self) -> None:
        # The library itself believes it a moment later, and would not hear a DISCONNECT that comes at once.
        self.connected = self._client.connected = True
        _print(f"connected to {self._namespace}")

    def _on_connect_error(self, reason: object = None, *_: object) -> None:
        # A refused handshake comes this way too, but before there is an Engine.IO connection: that one may pass.
        if self._client.eio.state != "connected":
            return
        details = reason if isinstance(reason, dict) else {"message": reason}
        data = details.get("data")
        code = f"{data['code']}: " if isinstance(data, dict) and "code" in data else ""
        self.rejection = f"the gateway refused the connection: {code}{details.get('message')}"
        self._over.set()

    def _on_disconnect(self, reason: str) -> None:
        # The same word for a DISCONNECT packet, which is meant for good, and for a closed transport, which is not.
        if reason == self._client.reason.SERVER_DISCONNECT and self._client.eio.state == "connected":
            self.rejection = f"the gateway ended the connection{self._disconnect_reason}"
        self._over.set()

    def _on_event(self, event: str, *args: Any) -> None:
        if event == "error" and args and isinstance(args[0], dict):
            self._disconnect_reason = f": {args[0].get('code')}: {args[0].get('message')}"
        try:
            sys.stdout.write(
                json.dumps({"event": event, "args": args}, ensure_ascii=False, default=repr) + "\n"
            )
            sys.stdout.flush()
        except BrokenPipeError:  # as behind `| head -1`
            # What is left in the buffer must go somewhere when Python ends (docs.python.org, "Note on SIGPIPE").
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.unread = True
            self._over.set()


_SILENT: Final = logging.getLogger("sio-gateway.silent")
_SILENT.disabled = True


def _print(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()
