"""The fast path of whole requests: parsed by aiohttp, answered without its request, response, routing and second task.

Those cost more than everything that the gateway does with a push. A request takes the fast path when it arrived whole,
no other request is before it on its connection, and nothing about it needs aiohttp. aiohttp handles every other one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol, Unpack

import structlog
from aiohttp import HttpVersion11, StreamReader, hdrs, web
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDictProxy

from gateway.domain.errors import release_frames
from gateway.transport.http import (
    GatewayRequestHandler,
    HandlerOptions,
    start_eager_task,
)
from gateway.transport.http_response import encode_response, keepalive_headers

log = structlog.get_logger(__name__)


class Caller(Protocol):
    """The sender of a request, while the request is handled."""

    on_close: Callable[[], None] | None
    """Called when the connection is lost, or the caller sends no more. A handler that sets it resets it to None."""

    @property
    def is_closing(self) -> bool:
        """Whether that has happened."""
        ...


class FastPath(Protocol):
    """A handler of requests that need of aiohttp only its parser."""

    def matches(self, method: str, target: str) -> bool:
        """Whether requests with this method and target are handled here."""
        ...

    async def handle(
        self,
        method: str,
        target: str,
        headers: CIMultiDictProxy[str],
        body: bytes,
        *,
        remote: str | None,
        caller: Caller | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of the answer. Length and date are added to the headers later.

        ``remote`` is the address of the peer, ``caller`` is its connection.
        """
        ...


class FastPathHandler(GatewayRequestHandler):
    """One HTTP connection whose requests may take the fast path."""

    __slots__ = ("_fast_path", "_is_draining", "_is_taking", "_kept", "_task")

    def __init__(
        self,
        server: web.Server,
        *,
        fast_path: FastPath,
        is_draining: Callable[[], bool],
        **options: Unpack[HandlerOptions],
    ) -> None:
        """While ``is_draining()``, no request takes the fast path: aiohttp ends a connection with an answer."""
        super().__init__(server, **options)
        self._fast_path = fast_path
        self._is_draining = is_draining
        self._task: asyncio.Task[None] | None = None
        """Handles a request on the fast path that waits for something."""
        headers = keepalive_headers(options["limits"].keepalive_seconds)
        self._kept = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        self._is_taking = False
        """Whether requests that arrive now may take the fast path."""

    @property
    def is_closing(self) -> bool:
        """Whether the connection is lost, or the client sends no more."""
        return self.is_half_closed or self.transport is None

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # aiohttp's signature
        """Let a running request finish within ``timeout`` seconds, then cancel it. Called by aiohttp's server."""
        await super().shutdown(timeout)
        if self._task is not None:
            self._task.cancel()

    def _feed(self) -> None:
        """Handle what has arrived. aiohttp's task is not woken for requests on the fast path."""
        if self._is_feeding:
            return
        if self._is_handling or self._messages or self._paused:
            # Another request must be answered first, or bytes be sent.
            super()._feed()
            return
        waiter, self._waiter = self._waiter, None
        self._is_taking = True
        super()._feed()
        self._is_taking = False
        self._waiter = waiter
        if self._messages and waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _parse(self, piece: bytes) -> None:
        super()._parse(piece)
        if self._is_taking and not self._paused:
            self._start_fast_path()

    def _start_fast_path(self) -> None:
        """Start to handle what has just arrived if it is one whole request that the fast path matches."""
        if len(self._messages) != 1 or self._parser is None:
            return
        message, payload = self._messages[0]
        if not isinstance(message, RawRequestMessage) or not _is_whole(message, payload):
            return
        if self.is_spare or self._is_draining() or not self._fast_path.matches(message.method, message.path):
            return
        self._messages.clear()
        self._parser.message_consumed()
        self._request_in_progress = True
        task = start_eager_task(self._answer(message, payload.read_nowait()), name="fast path")
        if not task.done():
            self._task = task

    async def _answer(self, message: RawRequestMessage, body: bytes) -> None:
        try:
            answer = await self._fast_path.handle(
                message.method, message.path, message.headers, body, remote=self.remote, caller=self
            )
            response = encode_response(*answer, close=self._is_last(), kept=self._kept)
        except Exception as error:  # noqa: BLE001 - outermost edge: logged and answered
            response = self._encode_failure(error, message.headers)
        finally:
            self._task = None
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        if self.transport is not None:
            self.transport.write(response)
            self._start_keepalive()
            self._note_answer()

    def _is_last(self) -> bool:
        return self._force_close or self.is_last_answer

    def _encode_failure(self, error: Exception, headers: CIMultiDictProxy[str]) -> bytes:
        """Log the exception of a handler and return the bytes of an answer 500."""
        log.error("request.failed", exc_info=error)
        release_frames(error)
        return encode_response(*self._internal_error(headers), close=self._is_last(), kept=self._kept)

    def _start_keepalive(self) -> None:
        """Let aiohttp close the connection when it is idle for the keep-alive time, as after aiohttp's own answers."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )

    def _process_keepalive(self) -> None:
        if self._task is not None:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()


def _is_whole(message: RawRequestMessage, payload: StreamReader) -> bool:
    """Whether a request arrived whole and nothing about it needs aiohttp."""
    return (
        payload.is_eof()
        and message.version == HttpVersion11
        and not message.upgrade
        and not message.should_close
        and hdrs.HOST in message.headers
        and hdrs.TRANSFER_ENCODING not in message.headers
    )
