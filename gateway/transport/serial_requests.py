"""aiohttp's handler of one HTTP connection, changed to handle one request at a time, each to its end.

Bytes that follow a request wait until it is answered. A request is also answered if its client closes its own side of
the connection after it. The last answer reaches a client that still sends.

No request is handled while its client has not read the answer before it (``answers``).
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from aiohttp import StreamReader, hdrs, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

from gateway.domain.errors import release_frames
from gateway.transport.answers import AnsweringHandler
from gateway.transport.request_boundaries import RequestBoundaries

LINGER_SECONDS: Final = 5.0
"""How long bytes are read and dropped after the last answer, so that their sender can read it (RFC 9112 §9.6)."""
UNREAD_SECONDS: Final = 1.0
"""How much later an idle connection is closed that has bytes to read."""
BODY_BUFFER_BYTES: Final = 64 * 1024
"""Reading stops while more than twice these bytes of a body wait for the reader of the body."""
HELD_BYTES: Final = 64 * 1024
"""Reading stops while more bytes than these wait for the answer to a request before them."""


class SerialRequestHandler(AnsweringHandler):
    """One HTTP connection of a client, with one request at a time."""

    __slots__ = (
        "_boundaries",
        "_head",
        "_held",
        "_held_at",
        "_is_answered",
        "_is_feeding",
        "_is_half_closed",
        "_is_handling",
        "_is_held_back",
        "_holds_bytes",
        "_is_in_head",
        "_linger_timer",
        "_lingering",
        "_max_header_bytes",
        "_payload",
        "on_close",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        max_header_bytes: int,
        **options: Any,
    ) -> None:
        """``max_header_bytes`` is the limit of a head; ``options`` are those of aiohttp's handler."""
        super().__init__(
            server,
            lingering_time=LINGER_SECONDS,
            read_bufsize=BODY_BUFFER_BYTES,
            # The limit of the whole head is reached first.
            max_line_size=max_header_bytes,
            max_field_size=max_header_bytes,
            **options,
        )
        self._max_header_bytes = max_header_bytes
        self._holds_bytes = False
        """Whether bytes of the connection count as those of unfinished requests."""
        self._head = bytearray()
        """A head that is not complete, or too long, or malformed."""
        self._boundaries = RequestBoundaries()
        self._payload: StreamReader = EMPTY_PAYLOAD
        """The body of the last request."""
        self._is_answered = True
        """Whether the last request has its answer."""
        self._held, self._held_at = b"", 0
        """Bytes that have arrived, and how many of them the parser has."""
        self._is_feeding = False
        self._is_handling = False
        """Whether aiohttp's task is handling a request."""
        self._is_in_head = False
        """Whether a part of a head has arrived."""
        self._is_held_back = False
        """Whether reading is paused because of ``_held``."""
        self._is_half_closed = False
        """Whether the client sends no more; it may still read."""
        self._lingering: asyncio.Transport | None = None
        """The transport after the last answer, until the client closes the connection."""
        self._linger_timer: asyncio.TimerHandle | None = None
        self.on_close: Callable[[], None] | None = None
        """Called when the connection is lost, or the client sends no more."""

    @property
    def is_half_closed(self) -> bool:
        """Whether the client has closed its side of the connection and can only read."""
        return self._is_half_closed

    @property
    def is_last_answer(self) -> bool:
        """Whether no request can follow the one that is handled."""
        return self._close or (self._is_half_closed and self._held_at == len(self._held))

    def resume_writing(self) -> None:
        """Handle what has arrived since the client began to read the answer."""
        super().resume_writing()
        if self._held:
            self._feed()

    def data_received(self, data: bytes) -> None:
        """Handle bytes of the client, which may be split anywhere, or parse what the parser holds if there are none."""
        if self._force_close or self._close or self._lingering is not None:
            return
        if not data:
            self._parse(data)
        elif self._held_at == len(self._held):
            self._held, self._held_at = data, 0
        else:
            self._held, self._held_at = self._held[self._held_at :] + data, 0
        self._feed()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's signature: whether the connection stays open
        """Answer the requests that have arrived, then close: the client sends no more, and may still read."""
        self._is_half_closed = True
        if self._lingering is not None:
            return False
        if self._is_answered and self._held_at == len(self._held):
            if self._is_in_head and not self._force_close:
                self.head_cut_off()
            return False
        self._fail_cut_off_body()
        if self.on_close is not None:
            self.on_close()
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the requests of the connection and call ``on_close``."""
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        if self._is_in_head:
            self.head_ended()
        self._held, self._held_at = b"", 0
        self._totals.requests.release(self)
        handler, factory = self._request_handler, self._request_factory
        super().connection_lost(exc)
        if self._messages:
            # aiohttp's task was woken for a request and has not run yet: it would fail without them.
            self._request_handler, self._request_factory = handler, factory
        if self.on_close is not None:
            self.on_close()
        self._release()

    def _release(self) -> None:
        """Drop what refers back to this handler: it would stay until the garbage collector runs, with its last body."""
        self._payload = EMPTY_PAYLOAD
        self._keepalive_handle = self._linger_timer = self._lingering = self.on_close = None

    def resume_reading(self, resume_parser: bool = True) -> None:  # aiohttp's signature
        """Resume reading if it was paused. aiohttp calls this for each piece of a body, when it rarely was."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _feed(self) -> None:
        """Give the parser what has arrived, up to the end of a request that is not answered."""
        if self._is_feeding:
            return
        self._is_feeding = True
        try:
            while self._held_at < len(self._held) and not self._is_blocked():
                end = self._boundaries.cut(self._held, self._held_at)
                piece = self._held[self._held_at : end]
                self._held_at = end
                if self._boundaries.head_bytes > self._max_header_bytes and self._is_between_requests:
                    self._take_long_head(piece)
                else:
                    self._parse(piece)
        finally:
            self._is_feeding = False
        waiting = len(self._held) - self._held_at
        if not waiting:
            self._held, self._held_at = b"", 0
        if self._is_held_back or waiting > HELD_BYTES:
            self._hold_back(waiting > HELD_BYTES)
        if self._boundaries.head_bytes or self._is_in_head:
            self._note_head()
        if waiting or self._is_in_head or self._holds_bytes:
            self._count_bytes(waiting)
        if self._is_half_closed:
            self._fail_cut_off_body()

    def give_up(self, reason: str) -> None:
        """Abort the connection, and drop at once what it holds."""
        self._held, self._held_at = b"", 0
        self._head.clear()
        super().give_up(reason)

    def _count_bytes(self, waiting: int) -> None:
        """Count the bytes that are held: those that wait, and a head, which the parser has as well."""
        held = waiting + 2 * len(self._head)
        self._holds_bytes = held > 0
        if held:
            self._totals.requests.hold(self, held)
        else:
            self._totals.requests.release(self)

    @property
    def _is_between_requests(self) -> bool:
        """Whether the next bytes belong to a head."""
        return self._is_answered and self._payload.is_eof()

    def _take_long_head(self, piece: bytes) -> None:
        """Read a head that is too long to its end, within a limit: the answer depends on headers of it."""
        self._head += piece
        is_complete = self._boundaries.is_at_end or self._boundaries.head_bytes > 2 * self._max_header_bytes
        if is_complete:
            self.head_too_long()

    def head_too_long(self) -> None:
        """A head that is too long is complete, or twice as long as the limit."""

    def head_begun(self) -> None:
        """A part of a head has arrived."""

    def head_ended(self) -> None:
        """A head is complete, or its connection is lost."""

    def head_cut_off(self) -> None:
        """The client sends no more after a part of a head."""

    def _note_head(self) -> None:
        was_in_head = self._is_in_head
        self._is_in_head = self._is_between_requests and self._boundaries.head_bytes > 0
        if self._is_in_head and not was_in_head:
            self.head_begun()
        elif was_in_head and not self._is_in_head:
            self.head_ended()

    def _is_blocked(self) -> bool:
        """Whether the next bytes have to wait: for an answer, or for the reader of a body."""
        if self._force_close or self._close or self.transport is None:
            return True
        return self._paused or self._reading_paused or (not self._is_answered and self._payload.is_eof())

    def _parse(self, piece: bytes) -> None:
        """Let aiohttp parse bytes that end at or before the end of a head or body, and queue the request."""
        is_in_body = not self._payload.is_eof()
        count = len(self._messages)
        super().data_received(piece)
        if len(self._messages) > count:
            _release_parser(self._messages[-1][0])
        if len(self._messages) == count:
            if is_in_body and self._payload.is_eof():
                self._boundaries.end_body()
            elif is_in_body:
                self._boundaries.count_framing(len(piece), self._payload.total_bytes)
                if self._boundaries.framing_bytes > self._max_header_bytes:
                    self._fail_body("the trailers of the body are too long")
                    self.close()
            elif self._is_between_requests:
                self._head += piece
        elif is_in_body:
            # The rest of the body is malformed. Its request is answered, and not this rest as well.
            self._messages.pop()
            self._fail_body("the body is not HTTP as RFC 9112 has it")
            self.close()
        else:
            self._begin_request(*self._messages[-1], piece)

    def _begin_request(self, message: object, payload: StreamReader, piece: bytes) -> None:
        if not isinstance(message, RawRequestMessage):
            self._head += piece
        elif self._head:
            self._head.clear()
        self._is_answered = False
        self._payload = payload
        length = 0
        if not payload.is_eof() and isinstance(message, RawRequestMessage) and not message.chunked:
            length = int(message.headers.get(hdrs.CONTENT_LENGTH, 0))
        self._boundaries.begin_body(length)

    def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Handle a request in aiohttp's task, which calls this in the same step in which it takes the request."""
        self._is_handling = True
        return self._handle_fully(request, super()._handle_request(request, start_time, request_handler))

    async def _handle_fully(
        self, request: web.BaseRequest, handling: Coroutine[Any, Any, tuple[web.StreamResponse, bool]]
    ) -> tuple[web.StreamResponse, bool]:
        is_sent = False
        try:
            response, reset = await handling
            is_sent = not reset
        finally:
            self.shares_body = False
            self._report_answer(is_sent)
        is_last = reset or not response.keep_alive
        # If true, aiohttp's task drops the rest or closes: the next bytes are no request (RFC 9112 §9.6).
        self._is_handling = is_last or not request.content.is_eof()
        if not is_last:
            _drop_unread(request.content)
            self._note_answer()
        elif not reset:
            self._linger()
            # aiohttp's task does not wait for the rest of the body.
            request.content.feed_eof()
            _drop_unread(request.content)
        return response, reset

    def _note_answer(self) -> None:
        """Continue with the next request, or close if the client sends none."""
        self._is_answered = True
        if self._reading_paused and self._payload.is_eof():
            self.resume_reading()  # Its handler left a part of the body unread.
        if self._held:
            self._feed()
        if self._is_half_closed and self._is_answered and self.transport is not None:
            # Its answer is in the buffer of the transport, which sends it before it closes.
            self.eof_received()
            self.force_close()

    def _linger(self) -> None:
        """Close this side after the bytes that were written: a full close with unread bytes would reset the answer."""
        transport, self.transport = self.transport, None
        if transport is None:
            return
        if self._is_half_closed or transport.is_closing() or not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        transport.resume_reading()
        self._lingering = transport
        self._linger_timer = self._loop.call_later(LINGER_SECONDS, transport.close)

    def _process_keepalive(self) -> None:
        """Close an idle connection unless a request has arrived that is not read: timers run before the loop reads."""
        now = self._loop.time()
        if now >= self._next_keepalive_close_time and has_unread_bytes(self.transport):
            self._next_keepalive_close_time = now + UNREAD_SECONDS
        super()._process_keepalive()

    def force_close(self) -> None:
        """Close the connection once the bytes that were written are sent."""
        super().force_close()
        if self._lingering is not None:
            self._lingering.close()

    def _hold_back(self, is_held_back: bool) -> None:
        """Stop reading while many bytes are held, so that the rest waits in the socket; resume when they are fewer."""
        if is_held_back and not self._is_held_back:
            self._pause_transport_reading()
        self._is_held_back = is_held_back
        if not is_held_back and not self._reading_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        if not self._is_held_back:
            super()._resume_transport_reading()

    def _fail_cut_off_body(self) -> None:
        """Let the reader of a body whose rest never arrives fail."""
        if self._held_at == len(self._held) and not self._reading_paused:
            self._fail_body("the body ended before it was complete")

    def _fail_body(self, reason: str) -> None:
        """Raise RequestPayloadError in the reader of the body, unless the body is complete."""
        if not self._payload.is_eof() and self._payload.exception() is None:
            self._payload.set_exception(web.RequestPayloadError(reason))


def has_unread_bytes(transport: asyncio.Transport | None) -> bool:
    """Whether the client has sent bytes that the event loop has not read."""
    if transport is None:
        return False
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _drop_unread(payload: StreamReader) -> None:
    """Drop what was not read of a body that has arrived: aiohttp keeps it until the next request, or the end."""
    if payload.is_eof() and payload.exception() is None:
        payload.read_nowait()


def _release_parser(message: object) -> None:
    """Drop the traceback of the error that aiohttp queues for a malformed request: it holds the queue."""
    error = getattr(message, "exc", None)
    if isinstance(error, BaseException):
        release_frames(error)
