"""A TCP connection until its first bytes arrive.

Nearly every WebSocket begins on a new connection, with one request that is its opening handshake. If it arrives whole
and is ordinary (``whole_requests``), the WebSocket takes over the connection in the same step. Every other connection
gets aiohttp's handler, whose parser, task and timer cost more than the rest of a connect; the handler gets the same
bytes. Both ways give the same answers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol, cast

import structlog
from multidict import CIMultiDictProxy

from gateway.domain.errors import release_frames
from gateway.transport.http import KEEPALIVE_GRACE_SECONDS, MAX_HEADERS, GatewayRequestHandler, HttpLimits
from gateway.transport.http_response import OVERLOADED
from gateway.transport.serial_requests import UNREAD_SECONDS, has_unread_bytes
from gateway.transport.tcp_connections import OpenConnections, Place
from gateway.transport.websocket import HandshakeRequest
from gateway.transport.whole_requests import parse_handshake

# A name or value with other characters may be percent-encoded.
_QUERY: Final = re.compile(r"[\w.~-]+=[\w.~-]*(?:&[\w.~-]+=[\w.~-]*)*", re.ASCII)

log = structlog.get_logger(__name__)


class OpenWebSocket(Protocol):
    """Opens a WebSocket on the connection of a request."""

    def __call__(self, request: HandshakeRequest, /) -> bool:
        """Return False if it was not opened: nothing was done then."""
        ...


class HandshakePath:
    """The paths of opening handshakes, and what opens their WebSockets."""

    def __init__(self, paths: tuple[str, ...], open_websocket: OpenWebSocket) -> None:
        """``paths``: none, if there are no handshakes."""
        self.beginnings = tuple(f"GET {path}?".encode() for path in paths)
        """How the requests begin."""
        self.open_websocket = open_websocket


NO_HANDSHAKES: Final = HandshakePath((), lambda _: False)


class OpeningHandshake:
    """A whole ordinary request that opens a WebSocket."""

    __slots__ = ("headers", "protocol", "query", "remote")

    def __init__(
        self, headers: CIMultiDictProxy[str], query: Mapping[str, str], connection: NewConnection
    ) -> None:
        self.headers = headers
        self.query = query
        self.protocol = connection
        self.remote = connection.remote


class NewConnection(asyncio.Protocol):
    """A connection of which no byte has arrived."""

    __slots__ = (
        "_connections",
        "_handshakes",
        "_limits",
        "_loop",
        "_make_handler",
        "_new",
        "_opened_at",
        "_timer",
        "transport",
    )

    is_unused: Final = True
    is_half_closed: Final = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        limits: HttpLimits,
        connections: OpenConnections,
        new_connections: set[NewConnection],
        handshakes: HandshakePath,
        make_handler: Callable[[bool], GatewayRequestHandler],
    ) -> None:
        """``make_handler``: makes aiohttp's handler; its argument is whether the connection is a spare one.

        The connection is in ``new_connections`` until it is closed or has another protocol.
        """
        self._loop = loop
        self._limits = limits
        self._connections = connections
        self._new = new_connections
        self._handshakes = handshakes
        self._make_handler = make_handler
        self._opened_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None

    @property
    def remote(self) -> str | None:
        """The address of the peer, if it has one."""
        peer = None if self.transport is None else self.transport.get_extra_info("peername")
        return peer[0] if isinstance(peer, tuple) else None

    @property
    def waits_since(self) -> float | None:
        """Since when the connection is open, by the clock of the event loop."""
        return self._opened_at

    def make_room(self) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection once the bytes that were written are sent."""
        if self.transport is not None:
            self.transport.close()

    def detach(self, protocol: asyncio.Protocol) -> None:
        """Give the connection to a WebSocket.

        Raises: RuntimeError if the connection is lost already.
        """
        transport = self.transport
        if transport is None:
            raise RuntimeError("the connection is lost")
        self._leave()
        self._connections.close(self)
        transport.set_protocol(protocol)

    # from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first bytes, or close the connection if there are too many."""
        self.transport = cast(asyncio.Transport, transport)
        self._new.add(self)
        self._opened_at = self._loop.time()
        place = self._connections.open(self)
        if place is Place.ADMITTED:
            self._close_later(self._limits.keepalive_seconds + KEEPALIVE_GRACE_SECONDS)
        elif place is Place.SPARE:
            self._give_to_handler(is_spare=True)
        else:
            self.transport.write(OVERLOADED)
            self.close()

    def data_received(self, data: bytes) -> None:
        """Open a WebSocket, or let aiohttp's handler handle the bytes."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if not self._begin_websocket(data):
            self._give_to_handler(is_spare=False).data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """Count the connection no longer."""
        self._leave()
        self._connections.close(self)

    def _begin_websocket(self, data: bytes) -> bool:
        """Open a WebSocket if the bytes are the opening handshake of one; return False if they are for aiohttp."""
        if not data.startswith(self._handshakes.beginnings):
            return False
        request = parse_handshake(data, max_head_bytes=self._limits.max_header_bytes, max_headers=MAX_HEADERS)
        query = None if request is None else _read_query(request.target.partition("?")[2])
        if request is None or query is None:
            return False
        try:
            return self._handshakes.open_websocket(OpeningHandshake(request.headers, query, self))
        except Exception as error:  # outermost edge: logged, and aborted or answered
            log.error("request.failed", exc_info=error)
            release_frames(error)
            # A WebSocket that was begun is aborted; a request that has no answer gets one from aiohttp's handler.
            return self.transport is None

    def _give_to_handler(self, *, is_spare: bool) -> GatewayRequestHandler:
        transport = cast(asyncio.Transport, self.transport)
        handler = self._make_handler(is_spare)
        self._leave()
        self._connections.replace(self, handler)
        transport.set_protocol(handler)
        handler.connection_made(transport)
        return handler

    def _leave(self) -> None:
        """Drop what the connection has here: it is closed, or has another protocol."""
        self._new.discard(self)
        self.transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_later(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._close_unused)

    def _close_unused(self) -> None:
        """Close the connection unless bytes have arrived that are not read: timers run before the loop reads."""
        if has_unread_bytes(self.transport):
            self._close_later(UNREAD_SECONDS)
        else:
            self.close()


def _read_query(text: str) -> dict[str, str] | None:
    """Return the parameters of a query whose names are different and whose characters stand for themselves."""
    if not _QUERY.fullmatch(text):
        return None
    pairs = [pair.split("=") for pair in text.split("&")]
    parameters = dict(pairs)
    return parameters if len(parameters) == len(pairs) else None
