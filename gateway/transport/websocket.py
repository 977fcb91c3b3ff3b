"""The WebSocket transport: it opens connections on sockets that aiohttp gives up after their request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from aiohttp import web
from multidict import CIMultiDictProxy

from gateway.domain.bounded_body import ArrivingBodies
from gateway.hub import GatheredFrames
from gateway.interfaces import Clock, Schedule
from gateway.transport import errors
from gateway.transport.connection import UpgradeProbe, WebSocketConnection
from gateway.transport.errors import HandshakeError
from gateway.transport.http_response import DETACHED, encode_switch
from gateway.transport.receive_limits import ReceiveLimits, exceeds_rate
from gateway.transport.session import Deliver, EngineSession
from gateway.transport.websocket_handshake import accept_handshake
from gateway.transport.websocket_writer import WebSocketWriter

UPGRADE_FRAMES: Final = 10
"""What an attempt to upgrade counts (``FrameRate``): as much CPU time as so many frames."""


class HttpConnection(Protocol):
    """A connection that a WebSocket can take over."""

    transport: asyncio.Transport | None
    """None if the connection is lost."""

    @property
    def is_half_closed(self) -> bool:
        """Whether the client sends no more."""
        ...

    def detach(self, protocol: asyncio.Protocol) -> None:
        """Give the connection to another protocol."""
        ...


class HandshakeRequest(Protocol):
    """What is read of a request that opens a WebSocket."""

    @property
    def headers(self) -> CIMultiDictProxy[str]: ...

    @property
    def query(self) -> Mapping[str, str]: ...

    @property
    def remote(self) -> str | None: ...

    @property
    def protocol(self) -> Any:
        """Its ``HttpConnection``."""
        ...


class WebSocketTransport:
    """Opens WebSockets for new sessions and for upgrades, and keeps them until they are closed."""

    def __init__(
        self,
        deliver: Deliver,
        schedule: Schedule,
        *,
        clock: Clock,
        limits: ReceiveLimits,
        arriving: ArrivingBodies,
        upgrade_timeout_seconds: float,
        deflates_from_bytes: int | None,
        gathered: GatheredFrames,
    ) -> None:
        """``arriving`` bounds all messages that have not arrived whole, together with bodies.

        ``deflates_from_bytes``: messages of at least this size are compressed if the client offers it; None: off.
        """
        self.arriving = arriving
        self.clock = clock
        self.deliver = deliver
        self.limits = limits
        self.all_closed = asyncio.Event()
        """Set while no connection is open."""
        self.all_closed.set()
        self._open: set[WebSocketConnection] = set()
        self._schedule = schedule
        self._upgrade_timeout_seconds = upgrade_timeout_seconds
        self._deflates_from_bytes = deflates_from_bytes
        self._gathered = gathered

    def answer(self, request: HandshakeRequest) -> dict[str, str] | None:
        """Return the headers of the answer 101, or None if the request is not an opening handshake."""
        connection: HttpConnection = request.protocol
        if connection.is_half_closed:
            return None
        return accept_handshake(request.headers, offers_deflate=self._deflates_from_bytes is not None)

    def serve(
        self, request: HandshakeRequest, open_session: Callable[[WebSocketWriter, bytes], EngineSession]
    ) -> web.StreamResponse | HandshakeError:
        """Open a WebSocket for a new session, as ``open`` does, if the request is an opening handshake."""
        answer = self.answer(request)
        return errors.BAD_REQUEST if answer is None else self.open(request, answer, open_session)

    def open(
        self,
        request: HandshakeRequest,
        answer: dict[str, str],
        open_session: Callable[[WebSocketWriter, bytes], EngineSession],
    ) -> web.StreamResponse:
        """Open a WebSocket for a new session. ``open_session`` writes the head that is its second argument."""
        return self._open_connection(
            request, answer, lambda connection, head: connection.attach(open_session(connection.writer, head))
        )

    def upgrade(self, request: web.Request, session: EngineSession) -> web.StreamResponse | HandshakeError:
        """Open a WebSocket that upgrades a session from polling (§Upgrade)."""
        if exceeds_rate(session, self.limits, self.clock.monotonic(), UPGRADE_FRAMES, 0):
            return errors.TOO_MANY_PACKETS

        def begin(connection: WebSocketConnection, head: bytes) -> None:
            connection.writer.write(head)
            probe = UpgradeProbe(self._schedule, session, self._upgrade_timeout_seconds, connection.writer)
            connection.start_upgrade(session, probe)

        answer = self.answer(request)
        return errors.BAD_REQUEST if answer is None else self._open_connection(request, answer, begin)

    async def stop(self, timeout_seconds: float) -> None:
        """Wait until all connections are closed, at most ``timeout_seconds``; then abort the rest and their tasks."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self.all_closed.wait()
        tasks = [task for connection in list(self._open) if (task := connection.abort()) is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def count(self) -> int:
        """The number of open connections."""
        return len(self._open)

    def connection_opened(self, connection: WebSocketConnection) -> None:
        """Keep the connection until ``connection_closed``, also after its session has ended."""
        self._open.add(connection)
        self.all_closed.clear()

    def connection_closed(self, connection: WebSocketConnection) -> None:
        """Forget the connection."""
        self._open.discard(connection)
        if not self._open:
            self.all_closed.set()

    def _open_connection(
        self,
        request: HandshakeRequest,
        answer: dict[str, str],
        begin: Callable[[WebSocketConnection, bytes], None],
    ) -> web.StreamResponse:
        """Open a WebSocket; abort it if ``begin``, which writes the answer and attaches a session, raises."""
        handler: HttpConnection = request.protocol
        if handler.transport is None:
            return DETACHED  # The client closed the connection before it was answered.
        head = encode_switch(answer)
        deflated = "Sec-WebSocket-Extensions" in answer
        writer = WebSocketWriter(
            handler.transport,
            self._schedule,
            gathered=self._gathered,
            deflates_from_bytes=self._deflates_from_bytes if deflated else None,
            takes_binary=not request.query.get("b64"),
        )
        connection = WebSocketConnection(self, writer, deflated=deflated)
        handler.detach(connection)
        try:
            begin(connection, head)
        except BaseException:
            connection.abort()
            raise
        return DETACHED
