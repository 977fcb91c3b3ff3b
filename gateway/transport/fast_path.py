"""The short way of whole requests: parsed by aiohttp, answered without its request, response, routing and second task.

Those cost more than all that a push has done to it. A request goes this way when it came whole, nothing is before it on
its connection, and nothing about it needs aiohttp's care; every other one is left to aiohttp.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, Unpack

import structlog
from aiohttp import HttpVersion11, StreamReader, hdrs, web
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDictProxy

from gateway.transport.eager_task import start_eager_task
from gateway.transport.http import GatewayRequestHandler, HandlerOptions, encode_response

log = structlog.get_logger(__name__)


class FastPath(Protocol):
    """Answers requests that need nothing of aiohttp but its parser."""

    def matches(self, method: str, target: str) -> bool:
        """Whether it answers such requests."""
        ...

    async def handle(
        self, method: str, target: str, headers: CIMultiDictProxy[str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer; the headers need neither a length nor a date."""
        ...


class FastPathHandler(GatewayRequestHandler):
    """One connection of a client that may send such requests."""

    __slots__ = ("_answering", "_pipelined", "_is_handling", "_is_draining", "_fast_path")

    def __init__(
        self,
        server: web.Server,
        *,
        fast_path: FastPath,
        is_draining: Callable[[], bool],
        **options: Unpack[HandlerOptions],
    ) -> None:
        """While ``is_leaving``, no request goes this way: aiohttp knows how a connection ends with an answer."""
        super().__init__(server, **options)
        self._fast_path = fast_path
        self._is_draining = is_draining
        self._answering: asyncio.Task[None] | None = None
        self._is_handling = False
        """Whether aiohttp's task has a request in its hands."""
        self._pipelined = b""
        """What came while a request was answered the short way."""

    def data_received(self, data: bytes) -> None:
        """Bytes of the client, cut anywhere."""
        if self._answering is not None:
            self._hold_pipelined(data)
            return
        if self._is_busy():
            super().data_received(data)
            return
        # For what goes the short way aiohttp's task is not woken.
        waiter, self._waiter = self._waiter, None
        super(GatewayRequestHandler, self).data_received(data)
        self._waiter = waiter
        if self._is_fast_path():
            return
        if self._messages and waiter is not None and not waiter.done():
            waiter.set_result(None)
        self._start_head_timer()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # aiohttp's signature
        """Let the request that runs finish, for so long; aiohttp's server calls this."""
        await super().shutdown(timeout)
        if self._answering is not None:
            self._answering.cancel()

    def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """aiohttp's task calls this in the step in which it takes a request."""
        self._is_handling = True
        return self._handle_fully(request, super()._handle_request(request, start_time, request_handler))

    async def _handle_fully(
        self, request: web.BaseRequest, handling: Coroutine[Any, Any, tuple[web.StreamResponse, bool]]
    ) -> tuple[web.StreamResponse, bool]:
        response, reset = await handling
        # Else aiohttp's task drops the rest of a body, or closes: what comes now is not for us (RFC 9112 §9.6).
        self._is_handling = reset or not response.keep_alive or not request.content.is_eof()
        return response, reset

    def _is_busy(self) -> bool:
        """Whether something else must be answered, or sent, before what comes now."""
        return bool(self._is_handling or self._messages or self._paused)

    def _is_fast_path(self) -> bool:
        """Begin to answer what just came, if it is one whole request that the short way takes."""
        if len(self._messages) != 1 or self._parser is None:
            return False
        message, payload = self._messages[0]
        if not isinstance(message, RawRequestMessage) or not _is_whole(message, payload):
            return False
        if self._is_draining() or not self._fast_path.matches(message.method, message.path):
            return False
        self._messages.clear()
        self._parser.message_consumed()
        self._stop_head_timer()
        self._had_a_head = True
        self._request_in_progress = True
        task = start_eager_task(self._answer(message, payload.read_nowait()), name="short way")
        if not task.done():
            self._answering = task
        return True

    async def _answer(self, message: RawRequestMessage, body: bytes) -> None:
        try:
            answer = await self._fast_path.handle(message.method, message.path, message.headers, body)
            response = encode_response(*answer, close=self._force_close)
        except Exception as error:  # noqa: BLE001 - a door: whatever a handler let through is logged and answered
            response = self._failed(error, message.headers)
        finally:
            self._answering = None
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        if self.transport is not None:
            self.transport.write(response)
            self._start_keepalive()
            self._resume_pipelined()

    def _failed(self, error: Exception, headers: CIMultiDictProxy[str]) -> bytes:
        log.error("request.failed", exc_info=error)
        return encode_response(
            *self._internal_error(headers.getall("X-Request-Id", ())), close=self._force_close
        )

    def _hold_pipelined(self, data: bytes) -> None:
        """Pipelined requests are answered one after the other; the rest of them waits in the socket."""
        self._pipelined += data
        self._pause_transport_reading()

    def _resume_pipelined(self) -> None:
        if self._pipelined:
            behind, self._pipelined = self._pipelined, b""
            self._resume_transport_reading()
            self.data_received(behind)

    def _start_keepalive(self) -> None:
        """Let aiohttp close the connection once nothing was asked for a while, as it does after its own answers."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )

    def _process_keepalive(self) -> None:
        if self._answering is not None:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()


def _is_whole(message: RawRequestMessage, payload: StreamReader) -> bool:
    """Whether nothing is missing of a request, and nothing about it needs aiohttp's care."""
    return (
        payload.is_eof()
        and message.version == HttpVersion11
        and not message.upgrade
        and not message.should_close
        and hdrs.HOST in message.headers
    )
