"""aiohttp's handler of one HTTP connection, with what aiohttp leaves open.

It answers what HTTP forbids in the words of the caller instead of plain text and a traceback, cuts off heads that
arrive in dribbles, tells a waiting poll that its client went away, and hands connections over that become WebSockets.

The bytes of an HTTP/1.1 answer with its body whole (RFC 9112 §4).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, Protocol, TypedDict, Unpack

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

_STATUS_LINES: Final = {int(status): f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


def encode_response(status: int, headers: Mapping[str, str], body: bytes, *, close: bool) -> bytes:
    """An answer with its length and date; ``close`` says that it is the last one of its connection.

    Raises ValueError for a header that would become two.
    """
    values = "".join(headers.values())
    if "\n" in values or "\r" in values:
        raise ValueError("a header holds a line break")
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    end = "Connection: close\r\n\r\n" if close else "\r\n"
    head = f"{_STATUS_LINES[status]}{fields}Content-Length: {len(body)}\r\nDate: {_date.now()}\r\n{end}"
    return head.encode() + body


def encode_switch(headers: Mapping[str, str]) -> bytes:
    """The answer after which the connection speaks another protocol (RFC 9110 §15.2.2)."""
    lines = [
        _STATUS_LINES[HTTPStatus.SWITCHING_PROTOCOLS],
        *(f"{name}: {value}\r\n" for name, value in headers.items()),
    ]
    return "".join(lines).encode() + b"\r\n"


class _Date:
    """The date as HTTP writes it (RFC 9110 §5.6.7), made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


_date: Final = _Date()


log = structlog.get_logger(__name__)


LINGER_SECONDS: Final = 5.0
"""How long the rest of a refused body is read and dropped, so that its sender gets to see the answer."""


class Reject(Protocol):
    """How a request that never reached a handler is answered."""

    def __call__(
        self, status: int, code: str, detail: str, request_ids: Sequence[str] = (), /
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body; ``code`` is stable, ``request_ids`` are the X-Request-Id headers of the request."""
        ...


class HandlerOptions(TypedDict):
    """What is the same for every connection of a port."""

    loop: asyncio.AbstractEventLoop
    reject: Reject
    head_timeout_seconds: float
    keepalive_timeout: float


class GatewayRequestHandler(web.RequestHandler):
    """One connection of a client."""

    __slots__ = (
        "_had_a_head",
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
            # Heartbeats and time-outs find dead peers much sooner, and asking for it costs with every connection.
            tcp_keepalive=False,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # as aiohttp's own runner passes it
            logger=_QUIET,
        )
        self._reject = options["reject"]
        self._head_timeout_seconds = options["head_timeout_seconds"]
        self._head_deadline: asyncio.TimerHandle | None = None
        self._had_a_head = False
        self.on_close: Callable[[], None] | None = None

    def detach(self, protocol: asyncio.Protocol) -> None:
        """Let another protocol have this connection; for aiohttp, and for the request at hand, it is over.

        The request is answered with ``HANDED_OVER`` then.
        """
        transport, self.transport = self.transport, None
        if transport is None:
            raise RuntimeError("there is no connection to hand over")
        behind, self._message_tail = self._message_tail, b""
        transport.set_protocol(protocol)
        super().connection_lost(None)
        if behind:
            # Nothing may overtake it, and the request has to be answered first.
            if not self._buffer_paused:
                transport.pause_reading()
            self._loop.call_soon(_continue_with, transport, protocol, behind)
        elif self._buffer_paused:
            transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Bytes of the client, cut anywhere."""
        super().data_received(data)
        self._log_broken_body()
        self._start_head_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone; whoever waits for it hears it now."""
        self._stop_head_timer()
        super().connection_lost(exc)
        if self.on_close is not None:
            self.on_close()

    def resume_reading(self, resume_parser: bool = True) -> None:  # aiohttp's signature
        """aiohttp calls this for every piece of a body that is read; nearly always nothing was paused."""
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
        """Answer what no handler could: what the parser refused (4xx), or an exception that a door let through."""
        rejected = isinstance(exc, HttpProcessingError) or status < HTTPStatus.INTERNAL_SERVER_ERROR
        if not rejected and not isinstance(exc, ConnectionError):
            log.error("request.failed", exc_info=exc)
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionError("the answer cannot be sent any more; the connection ends here") from exc
        # What the parser refused comes without any headers, in a plain dictionary.
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
        """What aiohttp finds wrong while it drops the rest of a refused body was answered already."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    def _log_broken_body(self) -> None:
        """Whoever reads a body must hear that the rest of it is no HTTP; aiohttp only queues an answer behind it."""
        request = self._current_request
        if request is None or not self._messages or request.content.is_eof():
            return
        if request.content.exception() is None:
            request.content.set_exception(web.RequestPayloadError("the body is not HTTP as RFC 9112 has it"))

    # heads

    def _start_head_timer(self) -> None:
        """Start the clock when a head arrives in part, stop it when it is whole."""
        waits_for_a_head = self._is_waiting_for_head()
        if waits_for_a_head and self._head_deadline is None:
            self._head_deadline = self._loop.call_later(self._head_timeout_seconds, self._abort)
        elif not waits_for_a_head:
            self._stop_head_timer()

    def _stop_head_timer(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _is_waiting_for_head(self) -> bool:
        if self._messages:
            self._had_a_head = True
            return False
        if self._waiter is None:
            # A request is being handled; or the task of this connection had no turn yet, when the first bytes came.
            return not self._had_a_head
        return not self._waiter.done()

    def _abort(self) -> None:
        self._head_deadline = None
        if self.transport is None:
            return
        status = HTTPStatus.REQUEST_TIMEOUT
        headers, body = self._reject(
            status, "request_timeout", "the head of the request did not arrive in time"
        )
        self.transport.write(encode_response(status, headers, body, close=True))
        self.force_close()


def _continue_with(transport: asyncio.Transport, protocol: asyncio.Protocol, behind: bytes) -> None:
    if not transport.is_closing():
        transport.resume_reading()
        protocol.data_received(behind)


class _Detached(web.StreamResponse):
    """What stands for the answer where the connection is no longer aiohttp's."""

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002  # aiohttp's signature
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """There is nothing to write."""


DETACHED: Final = _Detached()
_QUIET = logging.getLogger("aiohttp.server")
