"""aiohttp's handler of one HTTP connection with what aiohttp lacks, and the bytes of HTTP/1.1 answers (RFC 9112 §4).

The handler answers malformed HTTP with the caller's error body instead of plain text and a traceback, times out heads
that do not arrive whole, calls a callback when the client closes the connection, and detaches connections that become
WebSockets.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, Protocol, TypedDict, Unpack

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

LINGER_SECONDS: Final = 5.0
"""How long the rest of a rejected body is read and dropped, so that its sender can read the answer."""
_STATUS_LINES: Final = {int(status): f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_PROXY_PROTOCOL: Final = (
    "the connection begins with the PROXY protocol, which the gateway does not read: switch it off at the load "
    "balancer (HAProxy: send-proxy; nginx: proxy_protocol; AWS: proxy_protocol_v2.enabled; Google: proxyHeader; "
    "Traefik: proxyProtocol); the client address comes from X-Forwarded-For with GATEWAY_TRUSTED_PROXIES"
)
_OTHER_PROTOCOLS: Final = (
    (b"PROXY ", HTTPStatus.BAD_REQUEST, _PROXY_PROTOCOL),
    (b"\r\n\r\n\x00\r\nQUIT\n", HTTPStatus.BAD_REQUEST, _PROXY_PROTOCOL),
    (
        b"\x16\x03",
        HTTPStatus.BAD_REQUEST,
        "the connection begins with TLS, and this port is for plain HTTP: end TLS at the load balancer, or use http://",
    ),
    (
        b"PRI * HTTP/2.0\r\n",
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
        "the connection begins with HTTP/2: set the load balancer to HTTP/1.1 towards the gateway, as WebSockets need",
    ),
)
"""First bytes of connections to a wrong port or of a wrongly configured load balancer, and the answer to them."""
_LOGGER: Final = logging.getLogger("aiohttp.server")

log = structlog.get_logger(__name__)


def encode_response(status: int, headers: Mapping[str, str], body: bytes, *, close: bool) -> bytes:
    """Encode an answer with its length and date. ``close``: it is the last answer of its connection.

    Raises: ValueError for a header with a line break, which would become two headers.
    """
    values = "".join(headers.values())
    if "\n" in values or "\r" in values:
        raise ValueError("a header holds a line break")
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    end = "Connection: close\r\n\r\n" if close else "\r\n"
    head = f"{_STATUS_LINES[status]}{fields}Content-Length: {len(body)}\r\nDate: {_date.now()}\r\n{end}"
    return head.encode() + body


def encode_switch(headers: Mapping[str, str]) -> bytes:
    """Encode the answer 101, after which the connection has another protocol (RFC 9110 §15.2.2)."""
    lines = [
        _STATUS_LINES[HTTPStatus.SWITCHING_PROTOCOLS],
        *(f"{name}: {value}\r\n" for name, value in headers.items()),
    ]
    return "".join(lines).encode() + b"\r\n"


# Most of this work ends without waiting. The second definition goes away with Python 3.11.
if sys.version_info >= (3, 12):

    def start_eager_task(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start a task that runs at once until it first waits."""
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True, name=name)

else:

    def start_eager_task(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start a task that runs in the next turn of the loop: Python has eager tasks from 3.12 on."""
        return asyncio.Task(work, loop=asyncio.get_running_loop(), name=name)


class _Date:
    """The date in the format of HTTP (RFC 9110 §5.6.7), made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


_date: Final = _Date()


class Reject(Protocol):
    """Makes the answer to a request that reached no handler."""

    def __call__(
        self, status: int, code: str, detail: str, request_ids: Sequence[str] = (), /
    ) -> tuple[dict[str, str], bytes]:
        """Return headers and body. ``code`` is stable; ``request_ids`` are the X-Request-Id headers of the request."""
        ...


class HandlerOptions(TypedDict):
    """Options that all connections of a port share."""

    loop: asyncio.AbstractEventLoop
    reject: Reject
    head_timeout_seconds: float
    keepalive_timeout: float


class GatewayRequestHandler(web.RequestHandler):
    """One HTTP connection of a client."""

    __slots__ = (
        "_has_had_head",
        "_head_deadline",
        "_head_timeout_seconds",
        "_reject",
        "on_close",
    )

    def __init__(self, server: web.Server, **options: Unpack[HandlerOptions]) -> None:
        super().__init__(
            server,
            loop=options["loop"],
            keepalive_timeout=options["keepalive_timeout"],
            # Heartbeats and timeouts find dead peers much sooner, and setting it costs with every connection.
            tcp_keepalive=False,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # as aiohttp's own runner passes it
            logger=_LOGGER,
        )
        self._reject = options["reject"]
        self._head_timeout_seconds = options["head_timeout_seconds"]
        self._head_deadline: asyncio.TimerHandle | None = None
        self._has_had_head = False
        self.on_close: Callable[[], None] | None = None
        """Called when the connection is lost."""

    def detach(self, protocol: asyncio.Protocol) -> None:
        """Give the connection to another protocol. For aiohttp it is lost; the current request is answered DETACHED.

        Raises: RuntimeError if the connection is lost already.
        """
        transport, self.transport = self.transport, None
        if transport is None:
            raise RuntimeError("the connection is lost")
        tail, self._message_tail = self._message_tail, b""
        transport.set_protocol(protocol)
        super().connection_lost(None)
        if tail:
            # No later bytes may overtake the tail, and the request has to be answered first.
            if not self._buffer_paused:
                transport.pause_reading()
            self._loop.call_soon(_feed_tail, transport, protocol, tail)
        elif self._buffer_paused:
            transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Parse bytes of the client, which may be split anywhere."""
        if not self._has_had_head and self._reject_other_protocol(data):
            return
        super().data_received(data)
        self._fail_malformed_body()
        self._update_head_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the requests of the connection and call ``on_close``."""
        self._stop_head_timer()
        super().connection_lost(exc)
        if self.on_close is not None:
            self.on_close()

    def resume_reading(self, resume_parser: bool = True) -> None:  # aiohttp's signature
        """Resume reading if it was paused. aiohttp calls this for each piece of a body, when it rarely was."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    # errors

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # aiohttp's signature
    ) -> web.StreamResponse:
        """Answer a request that the parser rejected (4xx) or whose handler raised an exception (500).

        Raises: ConnectionError if no answer can be sent any more.
        """
        rejected = isinstance(exc, HttpProcessingError) or status < HTTPStatus.INTERNAL_SERVER_ERROR
        if not rejected and not isinstance(exc, ConnectionError):
            log.error("request.failed", exc_info=exc)
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionError("the answer cannot be sent any more; the connection ends here") from exc
        # A request that the parser rejected has its headers, none, in a plain dictionary.
        request_ids = [value for name, value in request.headers.items() if name.lower() == "x-request-id"]
        if rejected:
            detail = "the request is not HTTP as RFC 9112 has it"
            headers, body = self._reject(status, "bad_request", detail, request_ids)
        else:
            status, headers, body = self._internal_error(request_ids)
        response = web.Response(status=status, body=body, headers=headers)
        response.force_close()
        return response

    def _internal_error(self, request_ids: Sequence[str]) -> tuple[int, dict[str, str], bytes]:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        detail = "the gateway failed; its log says why"
        return status, *self._reject(status, "internal_error", detail, request_ids)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an exception, but not for a body that is malformed in its rest: its request was rejected and answered."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    def _fail_malformed_body(self) -> None:
        """Raise RequestPayloadError in the reader of a body whose rest is malformed: aiohttp only queues an answer."""
        request = self._current_request
        if request is None or not self._messages or request.content.is_eof():
            return
        if request.content.exception() is None:
            request.content.set_exception(web.RequestPayloadError("the body is not HTTP as RFC 9112 has it"))

    def _reject_other_protocol(self, data: bytes) -> bool:
        """Answer and close a connection that begins in another protocol than HTTP/1; return False if it does not."""
        if self._head_deadline is not None:
            return False  # These are not the first bytes of the connection.
        for beginning, status, detail in _OTHER_PROTOCOLS:
            if data.startswith(beginning) and self.transport is not None:
                code = "bad_request" if status == HTTPStatus.BAD_REQUEST else "unsupported_version"
                headers, body = self._reject(status, code, detail)
                self.transport.write(encode_response(status, headers, body, close=True))
                self.force_close()
                return True
        return False

    # heads

    def _update_head_timer(self) -> None:
        """Start the timer when a part of a head has arrived, stop it when the head is whole."""
        is_waiting = self._is_waiting_for_head()
        if is_waiting and self._head_deadline is None:
            self._head_deadline = self._loop.call_later(self._head_timeout_seconds, self._reject_slow_head)
        elif not is_waiting:
            self._stop_head_timer()

    def _stop_head_timer(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _is_waiting_for_head(self) -> bool:
        if self._messages:
            self._has_had_head = True
            return False
        if self._waiter is None:
            # A request is being handled, or the first bytes arrived before the task of the connection has run.
            return not self._has_had_head
        return not self._waiter.done()

    def _reject_slow_head(self) -> None:
        self._head_deadline = None
        if self.transport is None:
            return
        status = HTTPStatus.REQUEST_TIMEOUT
        headers, body = self._reject(
            status, "request_timeout", "the head of the request did not arrive in time"
        )
        self.transport.write(encode_response(status, headers, body, close=True))
        self.force_close()


def _feed_tail(transport: asyncio.Transport, protocol: asyncio.Protocol, tail: bytes) -> None:
    if not transport.is_closing():
        transport.resume_reading()
        protocol.data_received(tail)


class _Detached(web.StreamResponse):
    """The answer to a request whose connection was detached from aiohttp: sends nothing."""

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002  # aiohttp's signature
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


DETACHED: Final = _Detached()
