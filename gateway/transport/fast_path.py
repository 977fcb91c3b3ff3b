"""The fast path of whole ordinary requests: parsed, handled and answered without aiohttp.

aiohttp's parser, request, response, routing and second task cost more than everything that the gateway does with a
push. A request takes the fast path if it arrived whole and is ordinary (``whole_requests``), and no other request is
before it on its connection. aiohttp handles every other one; both ways give the same answers.

On the fast path a plain push is handled in the step in which it arrives (``FastPath.begin``), any other request in a
task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, Unpack

import structlog
from aiohttp import web
from multidict import CIMultiDictProxy

from gateway.domain.errors import release_frames
from gateway.transport.http import (
    MAX_HEADERS,
    GatewayRequestHandler,
    HandlerOptions,
    start_eager_task,
)
from gateway.transport.http_response import encode_response, keepalive_headers
from gateway.transport.whole_requests import WholeRequest, parse_whole

log = structlog.get_logger(__name__)

Answer = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body. Length and date are added to the headers later."""


class Caller(Protocol):
    """The sender of a request, while the request is handled."""

    on_close: Callable[[], None] | None
    """Called when the connection is lost, or the caller sends no more. A handler that sets it resets it to None."""

    @property
    def is_closing(self) -> bool:
        """Whether that has happened."""
        ...


class FastPath(Protocol):
    """A handler of requests that need nothing of aiohttp."""

    beginnings: tuple[bytes, ...]
    """One of them is how each request begins that is handled here, and perhaps others."""

    def matches(self, method: str, target: str) -> bool:
        """Whether requests with this method and target are handled here."""
        ...

    def begin(
        self,
        method: str,
        target: str,
        fields: Mapping[bytes, bytes],
        body: bytes,
        respond: Callable[[Answer], None],
        *,
        remote: str | None,
    ) -> bool:
        """Handle a request in this step if it is of a kind that allows that; else return False and do nothing.

        ``fields`` are the headers by their name in lower case, none of them repeated. ``respond`` is called once with
        the answer, in this step or later.
        """
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
    ) -> Answer:
        """Handle a request and return the answer.

        ``remote`` is the address of the peer, ``caller`` is its connection.
        """
        ...


class FastPathHandler(GatewayRequestHandler):
    """One HTTP connection whose requests may take the fast path."""

    __slots__ = ("_beginnings", "_fast_path", "_is_draining", "_kept", "_task")

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
        self._beginnings = fast_path.beginnings
        self._is_draining = is_draining
        self._task: asyncio.Task[None] | None = None
        """Handles a request on the fast path that waits for something."""
        headers = keepalive_headers(options["limits"].keepalive_seconds)
        self._kept = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])

    @property
    def is_closing(self) -> bool:
        """Whether the connection is lost, or the client sends no more."""
        return self.is_half_closed or self.transport is None

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # aiohttp's signature
        """Let a running request finish within ``timeout`` seconds, then cancel it. Called by aiohttp's server."""
        await super().shutdown(timeout)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Handle bytes of the client: on the fast path, if they are a whole ordinary request."""
        if not (self._is_ready and self._take(data)):
            super().data_received(data)

    @property
    def _is_ready(self) -> bool:
        """Whether nothing is before a request that arrives now, neither bytes nor a request nor an unread answer."""
        return not (
            self._held
            or self._is_in_head
            or not self._is_answered
            or not self._payload.is_eof()
            or self._is_feeding
            or self._is_handling
            or self._messages
            or self._paused
            or self._reading_paused
            or self._force_close
            or self._close
            or self._lingering is not None
            or self.transport is None
            or self.is_spare
            or self._is_draining()
        )

    def _take(self, data: bytes) -> bool:
        """Begin to handle a request on the fast path; return False for bytes that are for aiohttp."""
        if not data.startswith(self._beginnings):
            return False
        request = parse_whole(data, max_head_bytes=self._max_header_bytes, max_headers=MAX_HEADERS)
        if request is None or not self._fast_path.matches(request.method, request.target):
            return False
        self._is_new = self._is_answered = False
        self._request_count += 1
        self._request_in_progress = True
        remote = self.remote
        try:
            is_begun = self._fast_path.begin(
                request.method,
                request.target,
                request.fields,
                request.body,
                partial(self._respond, request),
                remote=remote,
            )
        except Exception as error:  # noqa: BLE001 - outermost edge: logged and answered
            response = self._encode_failure(error, request.headers)
            # A second answer to a request would be taken for that to the next.
            if self._request_in_progress:
                self._send(response)
            return True
        if not is_begun:
            task = start_eager_task(self._answer(request, remote), name="fast path")
            if not task.done():
                self._task = task
        return True

    async def _answer(self, request: WholeRequest, remote: str | None) -> None:
        headers = request.headers
        try:
            answer = await self._fast_path.handle(
                request.method, request.target, headers, request.body, remote=remote, caller=self
            )
            response = encode_response(*answer, close=self._is_last(), kept=self._kept)
        except Exception as error:  # noqa: BLE001 - outermost edge: logged and answered
            response = self._encode_failure(error, headers)
        except BaseException:
            self._end_request()
            raise
        self._send(response)

    def _respond(self, request: WholeRequest, answer: Answer) -> None:
        """Send the answer to a request that was begun."""
        try:
            response = encode_response(*answer, close=self._is_last(), kept=self._kept)
        except Exception as error:  # noqa: BLE001 - outermost edge: logged and answered
            response = self._encode_failure(error, request.headers)
        self._send(response)

    def _send(self, response: bytes) -> None:
        self._end_request()
        if self.transport is not None:
            self.transport.write(response)
            self._start_keepalive()
            self._note_answer()

    def _end_request(self) -> None:
        self._task = None
        self._request_in_progress = False
        if self._handler_waiter is not None:
            self._handler_waiter.set_result(None)

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
        if not self._is_answered:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()
