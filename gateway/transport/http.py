"""aiohttp's handler of one HTTP connection, with what aiohttp leaves open.

It answers what HTTP forbids in the words of the caller instead of plain text and a traceback, cuts off heads that
arrive in dribbles, tells a waiting poll that its client went away, and hands connections over that become WebSockets.

A request that came whole, with nothing before it on its connection, may take the short way: parsed by aiohttp, answered
by a ``ShortWay`` without aiohttp's request, response and routing, which cost more than all that a push has done to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

import structlog
from aiohttp import HttpVersion11, StreamReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDictProxy

from gateway.transport.replies import encode_reply
from gateway.transport.tasks import start_soon

log = structlog.get_logger(__name__)


LINGER_SECONDS: Final = 5.0
"""How long the rest of a refused body is read and dropped, so that its sender gets to see the answer."""


class Refuse(Protocol):
    """How a request that never reached a handler is answered."""

    def __call__(
        self, status: int, code: str, detail: str, request_ids: Sequence[str] = (), /
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body; ``code`` is stable, ``request_ids`` are the X-Request-Id headers of the request."""
        ...


class ShortWay(Protocol):
    """Answers requests that need nothing of aiohttp but its parser."""

    def takes(self, method: str, target: str) -> bool:
        """Whether it answers such requests."""
        ...

    async def answer_whole(
        self, method: str, target: str, headers: CIMultiDictProxy[str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer; the headers need neither a length nor a date."""
        ...


class GatewayRequestHandler(web.RequestHandler):
    """One connection of a client."""

    __slots__ = (
        "_answering",
        "_behind",
        "_had_a_head",
        "_head_deadline",
        "_head_timeout_seconds",
        "_is_handling",
        "_refuse",
        "_short_way",
        "when_lost",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        refuse: Refuse,
        short_way: ShortWay | None,
        head_timeout_seconds: float,
        keepalive_timeout: float,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=keepalive_timeout,
            # Heartbeats and time-outs find dead peers much sooner, and asking for it costs with every connection.
            tcp_keepalive=False,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # as aiohttp's own runner passes it
            logger=_QUIET,
        )
        self._refuse = refuse
        self._short_way = short_way
        self._answering: asyncio.Task[None] | None = None
        self._is_handling = False
        """Whether aiohttp's task has a request in its hands; a WebSocket is one until its end."""
        self._behind = b""
        """What came while a request was answered the short way."""
        self._head_timeout_seconds = head_timeout_seconds
        self._head_deadline: asyncio.TimerHandle | None = None
        self._had_a_head = False
        self.when_lost: Callable[[], None] | None = None

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Let another protocol have this connection; for aiohttp, and for the request at hand, it is over.

        The request is answered with ``HANDED_OVER`` then.
        """
        transport, self.transport = self.transport, None
        if transport is None:
            raise RuntimeError("there is no connection to hand over")
        behind, self._message_tail = self._message_tail, b""
        transport.set_protocol(protocol)
        super().connection_lost(None)
        if self._buffer_paused:
            transport.resume_reading()
        if behind:
            self._loop.call_soon(protocol.data_received, behind)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client, cut anywhere."""
        if self._answering is not None:
            self._wait_behind(data)
        elif self._short_way is None or self._is_busy():
            super().data_received(data)
            self._tell_of_broken_body()
            self._watch_head()
        else:
            # For what goes the short way aiohttp's task is not woken.
            waiter, self._waiter = self._waiter, None
            super().data_received(data)
            self._waiter = waiter
            if self._goes_short(self._short_way):
                return
            if self._messages and waiter is not None and not waiter.done():
                waiter.set_result(None)
            self._watch_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone; whoever waits for it hears it now."""
        self._forget_head()
        super().connection_lost(exc)
        if self.when_lost is not None:
            self.when_lost()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # aiohttp's signature
        """Let the request that runs finish, for so long; aiohttp's server calls this."""
        await super().shutdown(timeout)
        if self._answering is not None:
            self._answering.cancel()

    def resume_reading(self, resume_parser: bool = True) -> None:  # aiohttp's signature
        """aiohttp calls this for every piece of a body that is read; nearly always nothing was paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """aiohttp's task calls this in the step in which it takes a request."""
        self._is_handling = True
        return self._handle_to_the_end(super()._handle_request(request, start_time, request_handler))

    async def _handle_to_the_end(
        self, handling: Coroutine[Any, Any, tuple[web.StreamResponse, bool]]
    ) -> tuple[web.StreamResponse, bool]:
        try:
            return await handling
        finally:
            self._is_handling = False

    # the short way

    def _is_busy(self) -> bool:
        """Whether something else must be answered, or sent, before what comes now."""
        return bool(self._is_handling or self._messages or self._paused)

    def _goes_short(self, short_way: ShortWay) -> bool:
        """Begin to answer what just came, if it is one whole request that the short way takes."""
        if len(self._messages) != 1 or self._parser is None:
            return False
        message, payload = self._messages[0]
        if not isinstance(message, RawRequestMessage) or not _is_whole(message, payload):
            return False
        if not short_way.takes(message.method, message.path):
            return False
        self._messages.clear()
        self._parser.message_consumed()
        self._forget_head()
        self._had_a_head = True
        self._request_in_progress = True
        task = start_soon(self._answer(short_way, message, payload.read_nowait()), name="short way")
        if not task.done():
            self._answering = task
        return True

    async def _answer(self, short_way: ShortWay, message: RawRequestMessage, body: bytes) -> None:
        try:
            answer = await short_way.answer_whole(message.method, message.path, message.headers, body)
            reply = encode_reply(*answer, close=self._force_close)
        except Exception as error:  # noqa: BLE001 - a door: whatever a handler let through is logged and answered
            reply = self._failed(error, message.headers)
        finally:
            self._answering = None
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        if self.transport is not None:
            self.transport.write(reply)
            self._stay_open()
            self._go_on_with_what_came_behind()

    def _failed(self, error: Exception, headers: CIMultiDictProxy[str]) -> bytes:
        log.error("request.failed", exc_info=error)
        return encode_reply(
            *self._internal_error(headers.getall("X-Request-Id", ())), close=self._force_close
        )

    def _wait_behind(self, data: bytes) -> None:
        """Pipelined requests are answered one after the other; the rest of them waits in the socket."""
        self._behind += data
        self._pause_transport_reading()

    def _go_on_with_what_came_behind(self) -> None:
        if self._behind:
            behind, self._behind = self._behind, b""
            self._resume_transport_reading()
            self.data_received(behind)

    def _stay_open(self) -> None:
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

    # errors

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # aiohttp's signature
    ) -> web.StreamResponse:
        """Answer what no handler could: what the parser refused (4xx), or an exception that a door let through."""
        refused = isinstance(exc, HttpProcessingError) or status < HTTPStatus.INTERNAL_SERVER_ERROR
        if not refused and not isinstance(exc, ConnectionError):
            log.error("request.failed", exc_info=exc)
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionError("the answer cannot be sent any more; the connection ends here") from exc
        # What the parser refused comes without any headers, in a plain dictionary.
        request_ids = [value for name, value in request.headers.items() if name.lower() == "x-request-id"]
        if refused:
            detail = "the request is not HTTP as RFC 9112 has it"
            headers, body = self._refuse(status, "bad_request", detail, request_ids)
        else:
            status, headers, body = self._internal_error(request_ids)
        response = web.Response(status=status, body=body, headers=headers)
        response.force_close()
        return response

    def _internal_error(self, request_ids: Sequence[str]) -> tuple[int, dict[str, str], bytes]:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        detail = "the gateway failed; its log says why"
        return status, *self._refuse(status, "internal_error", detail, request_ids)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """What aiohttp finds wrong while it drops the rest of a refused body was answered already."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    def _tell_of_broken_body(self) -> None:
        """Whoever reads a body must hear that the rest of it is no HTTP; aiohttp only queues an answer behind it."""
        request = self._current_request
        if request is None or not self._messages or request.content.is_eof():
            return
        if request.content.exception() is None:
            request.content.set_exception(web.RequestPayloadError("the body is not HTTP as RFC 9112 has it"))

    # heads

    def _watch_head(self) -> None:
        """Start the clock when a head arrives in part, stop it when it is whole."""
        waits_for_a_head = self._waits_for_a_head()
        if waits_for_a_head and self._head_deadline is None:
            self._head_deadline = self._loop.call_later(self._head_timeout_seconds, self._cut_off)
        elif not waits_for_a_head:
            self._forget_head()

    def _forget_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _waits_for_a_head(self) -> bool:
        if self._messages:
            self._had_a_head = True
            return False
        if self._waiter is None:
            # A request is being handled; or the task of this connection had no turn yet, when the first bytes came.
            return not self._had_a_head
        return not self._waiter.done()

    def _cut_off(self) -> None:
        self._head_deadline = None
        if self.transport is None:
            return
        status = HTTPStatus.REQUEST_TIMEOUT
        headers, body = self._refuse(
            status, "request_timeout", "the head of the request did not arrive in time"
        )
        self.transport.write(encode_reply(status, headers, body, close=True))
        self.force_close()


def _is_whole(message: RawRequestMessage, payload: StreamReader) -> bool:
    """Whether nothing is missing of a request, and nothing about it needs aiohttp's care."""
    return (
        payload.is_eof()
        and message.version == HttpVersion11
        and not message.upgrade
        and not message.should_close
        and hdrs.HOST in message.headers
    )


class _HandedOver(web.StreamResponse):
    """What stands for the answer where the connection is no longer aiohttp's."""

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002  # aiohttp's signature
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """There is nothing to write."""


HANDED_OVER: Final = _HandedOver()
_QUIET = logging.getLogger("aiohttp.server")
