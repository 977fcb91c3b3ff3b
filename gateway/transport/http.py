"""aiohttp's handler of one HTTP connection with what aiohttp lacks.

The handler handles one request at a time (``serial_requests``). It answers malformed HTTP with the caller's error body
instead of plain text and a traceback, times out heads that do not arrive whole, calls a callback when the client closes
the connection, and detaches connections that become WebSockets.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol, TypedDict, Unpack

import structlog
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.domain.errors import release_frames
from gateway.transport.connection_totals import ConnectionTotals, reset
from gateway.transport.http_response import ANSWER_HEADERS, encode_response
from gateway.transport.serial_requests import LINGER_SECONDS, SerialRequestHandler
from gateway.transport.tcp_connections import OpenConnections

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
MAX_HEADERS: Final = 128
KEEPALIVE_GRACE_SECONDS: Final = 1.0
"""A connection is closed so much later than announced: a request that was sent in time may still be on its way."""
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_LOGGER: Final = logging.getLogger("aiohttp.server")

log = structlog.get_logger(__name__)


# Most of this work ends without waiting. The second definition goes away with Python 3.11.
if sys.version_info >= (3, 12):

    def start_eager_task(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start a task that runs at once until it first waits."""
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True, name=name)

else:

    def start_eager_task(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start a task that runs in the next turn of the loop: Python has eager tasks from 3.12 on."""
        return asyncio.Task(work, loop=asyncio.get_running_loop(), name=name)


class Reject(Protocol):
    """Makes the answer to a request that reached no handler."""

    def __call__(
        self, status: int, code: str, detail: str, given: CIMultiDictProxy[str], remote: str | None, /
    ) -> tuple[dict[str, str], bytes]:
        """Return headers and body. ``code`` is stable; ``given`` are the headers of the request, as far as they are
        known, and ``remote`` is the address of the peer.
        """
        ...


class CorsHeaders(Protocol):
    """Makes the headers that let a web page read an answer."""

    def __call__(self, remote: str | None, headers: CIMultiDictProxy[str], /) -> Mapping[str, str]:
        """Return them for a request of this peer with these headers; none if its page may not read the answer."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpLimits:
    """Limits of each connection. Sizes in bytes, times in seconds."""

    head_timeout_seconds: float
    """How long a head may take to arrive."""
    keepalive_seconds: float = 650.0
    """How long a connection may be idle: longer than the 600 s of Google's balancers, which have to close it first."""
    max_header_bytes: int = 32 * 1024
    """The limit of a head: the request line and all headers."""
    answer_timeout_seconds: float = 10.0
    """How long a client may take to read the next READ_BYTES of an answer, or its rest."""


class HandlerOptions(TypedDict):
    """Options of a connection; all but the first are those of its port.

    ``is_spare``: the connection exceeds the limit of its port, so that only probes are answered.
    """

    is_spare: bool
    loop: asyncio.AbstractEventLoop
    reject: Reject
    limits: HttpLimits
    cors: CorsHeaders
    totals: ConnectionTotals
    connections: OpenConnections


class GatewayRequestHandler(SerialRequestHandler):
    """One HTTP connection of a client."""

    __slots__ = (
        "_body_begun_at",
        "_connections",
        "_cors",
        "_head_deadline",
        "_head_timeout_seconds",
        "_is_new",
        "_reject",
        "is_spare",
    )

    def __init__(self, server: web.Server, **options: Unpack[HandlerOptions]) -> None:
        super().__init__(
            server,
            loop=options["loop"],
            keepalive_timeout=options["limits"].keepalive_seconds + KEEPALIVE_GRACE_SECONDS,
            max_header_bytes=options["limits"].max_header_bytes,
            answer_timeout_seconds=options["limits"].answer_timeout_seconds,
            totals=options["totals"],
            max_headers=MAX_HEADERS,
            # Heartbeats and timeouts find dead peers much sooner, and setting it costs with every connection.
            tcp_keepalive=False,
            auto_decompress=False,
            access_log=None,
            logger=_LOGGER,
        )
        self._reject = options["reject"]
        self._cors = options["cors"]
        self._connections = options["connections"]
        self.is_spare = options["is_spare"]
        self._head_timeout_seconds = options["limits"].head_timeout_seconds
        self._head_deadline: asyncio.TimerHandle | None = None
        self._body_begun_at = 0.0
        """When the last body began that did not arrive with its head."""
        self._is_new = True
        """Whether no byte has arrived."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the connection no longer."""
        self._connections.close(self)
        super().connection_lost(exc)

    @property
    def is_unused(self) -> bool:
        """Whether no request has arrived whole."""
        return self._request_count == 0

    @property
    def waits_since(self) -> float | None:
        """Since when it waits for its client, by the clock of the event loop; None while a request is handled.

        It waits for a request or the rest of one, until an answer is read, or until the client closes the connection.
        """
        if self._linger_timer is not None:
            return self._linger_timer.when() - LINGER_SECONDS
        if self._answer_deadline is not None:
            return self._answer_deadline.when() - self._answer_timeout_seconds
        if self._head_deadline is not None:
            return self._head_deadline.when() - self._head_timeout_seconds
        if not self._payload.is_eof():
            return self._body_begun_at
        if not self._is_answered or self._held or self.on_close is not None:
            return None
        return self._next_keepalive_close_time - self._keepalive_timeout

    def make_room(self) -> None:
        """Close the connection, which waits for its client."""
        if self._socket is not None and self.unread_bytes:
            reset(self._socket)
        else:
            self.force_close()

    @property
    def remote(self) -> str | None:
        """The address of the peer, if it has one."""
        peer = self.peername
        return peer[0] if isinstance(peer, tuple) else None

    def detach(self, protocol: asyncio.Protocol) -> None:
        """Give the connection to another protocol. For aiohttp it is lost; the current request is answered DETACHED.

        Raises: RuntimeError if the connection is lost already.
        """
        transport, self.transport = self.transport, None
        if transport is None:
            raise RuntimeError("the connection is lost")
        tail, self._held, self._held_at = self._held[self._held_at :], b"", 0
        transport.set_write_buffer_limits()
        transport.set_protocol(protocol)
        self.connection_lost(None)
        if tail:
            # No later bytes may overtake the tail, and the request has to be answered first.
            if not self._is_held_back:
                transport.pause_reading()
            self._loop.call_soon(_feed_tail, transport, protocol, tail)

    def data_received(self, data: bytes) -> None:
        """Handle bytes of the client, which may be split anywhere."""
        if self._is_new:
            self._is_new = False
            if self._reject_other_protocol(data):
                return
        super().data_received(data)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer. aiohttp would add its own version and that of Python."""
        if isinstance(resp, web.HTTPException):
            release_frames(resp)  # aiohttp keeps an exception that is a response in a variable.
        for name, value in ANSWER_HEADERS.items():
            resp.headers.setdefault(name, value)
        return await super().finish_response(request, resp, start_time)

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
            if exc is not None:
                release_frames(exc)
            raise ConnectionError("the answer cannot be sent any more; the connection ends here") from exc
        if exc is not None:
            release_frames(exc)
        if rejected:
            status, headers, body = self._reject_malformed(exc)
        else:
            status, headers, body = self._internal_error(request.headers)
        response = web.Response(status=status, body=body, headers=headers)
        response.force_close()
        return response

    def _reject_malformed(self, exc: BaseException | None) -> tuple[HTTPStatus, dict[str, str], bytes]:
        """Return the answer to a request that the parser rejected."""
        if "Too many headers" in str(exc):
            return self._reject_parsed(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                f"the head of the request has more than {MAX_HEADERS} headers",
            )
        return self._reject_parsed(
            HTTPStatus.BAD_REQUEST, "bad_request", "the request is not HTTP as RFC 9112 has it"
        )

    def _reject_parsed(
        self, status: HTTPStatus, code: str, detail: str
    ) -> tuple[HTTPStatus, dict[str, str], bytes]:
        """Return the answer to a request by the headers of it that have arrived."""
        given = read_headers(bytes(self._head))
        headers, body = self._reject(status, code, detail, given, self.remote)
        headers.update(self._cors(self.remote, given))
        return status, headers, body

    def _internal_error(self, given: CIMultiDictProxy[str]) -> tuple[int, dict[str, str], bytes]:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        detail = "the gateway failed; its log says why"
        return status, *self._reject(status, "internal_error", detail, given, self.remote)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an exception, but not for a body that is malformed in its rest: its request was rejected and answered."""
        error = kw.get("exc_info")
        if not isinstance(error, web.RequestPayloadError):
            super().log_exception(*args, **kw)
        if isinstance(error, BaseException):
            release_frames(error)

    def _reject_other_protocol(self, data: bytes) -> bool:
        """Answer and close a connection that begins in another protocol than HTTP/1; return False if it does not."""
        for beginning, status, detail in _OTHER_PROTOCOLS:
            if data.startswith(beginning):
                code = "bad_request" if status == HTTPStatus.BAD_REQUEST else "unsupported_version"
                self._reject_head(status, code, detail)
                return True
        return False

    # heads

    def _begin_request(self, message: object, payload: StreamReader, piece: bytes) -> None:
        if not payload.is_eof():
            self._body_begun_at = self._loop.time()
        super()._begin_request(message, payload, piece)

    def head_begun(self) -> None:
        """Start the timer of a head."""
        self._head_deadline = self._loop.call_later(self._head_timeout_seconds, self._reject_slow_head)

    def head_ended(self) -> None:
        """Stop the timer of a head."""
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def head_cut_off(self) -> None:
        """Answer a request whose client sends no more."""
        if self._boundaries.head_bytes > self._max_header_bytes:
            self.head_too_long()
            return
        self._reject_head(
            HTTPStatus.BAD_REQUEST, "bad_request", "the request ended before its head was complete"
        )

    def head_too_long(self) -> None:
        """Answer a request whose head is too long, and name its longest header, never with the value."""
        name, length = find_longest_field(bytes(self._head))
        self._reject_head(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers_too_large",
            f"the head of the request has more than {self._max_header_bytes} bytes, {length} of them in {name}",
        )

    def _reject_slow_head(self) -> None:
        self._head_deadline = None
        if self._boundaries.head_bytes > self._max_header_bytes:
            self.head_too_long()
            return
        self._reject_head(
            HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "the head of the request did not arrive in time"
        )

    def _reject_head(self, status: HTTPStatus, code: str, detail: str) -> None:
        """Answer a request whose head is not complete, and close the connection."""
        if self.transport is not None:
            status, headers, body = self._reject_parsed(status, code, detail)
            self.transport.write(encode_response(status, headers, body, close=True))
            self._linger()
            self.close()


def _feed_tail(transport: asyncio.Transport, protocol: asyncio.Protocol, tail: bytes) -> None:
    if not transport.is_closing():
        transport.resume_reading()
        protocol.data_received(tail)


def read_headers(head: bytes) -> CIMultiDictProxy[str]:
    """Return the headers of a head that need be neither complete nor valid."""
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    pairs = [
        (name.decode("latin-1"), value.strip().decode("latin-1")) for name, colon, value in lines if colon
    ]
    return CIMultiDictProxy(CIMultiDict(pairs))


def find_longest_field(head: bytes) -> tuple[str, int]:
    """Return the name of the longest header, or ``the request line``, and the bytes of its line."""
    first, *lines = head.split(b"\r\n")
    longest = max(lines, key=len, default=b"")
    if len(first) >= len(longest):
        return "the request line", len(first)
    name = longest.partition(b":")[0]
    return (name.decode() if _NAME.fullmatch(name) else "a header without a valid name"), len(longest)
