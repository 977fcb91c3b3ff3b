"""The WebSocket carrier: its connections are taken over from aiohttp after their request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from aiohttp import web

from gateway.interfaces import Schedule
from gateway.transport import errors
from gateway.transport.connection import UpgradeProbe, WebSocketConnection
from gateway.transport.errors import HandshakeError
from gateway.transport.http import DETACHED, GatewayRequestHandler, encode_switch
from gateway.transport.session import Deliver, EngineSession, MessageLimits
from gateway.transport.websocket_handshake import accept_handshake
from gateway.transport.websocket_writer import WebSocketWriter


class WebSocketTransport:
    """Opens WebSockets: new sessions, and those that take over from polling."""

    def __init__(
        self,
        deliver: Deliver,
        schedule: Schedule,
        *,
        limits: MessageLimits,
        upgrade_timeout_seconds: float,
        deflates_from_bytes: int | None,
    ) -> None:
        """``deflates_from_bytes``: messages of that size go out compressed to those who offer it; None: to nobody."""
        self.deliver = deliver
        self.limits = limits
        self.all_gone = asyncio.Event()
        """Set while no connection is there."""
        self.all_gone.set()
        self._open: set[WebSocketConnection] = set()
        self._schedule = schedule
        self._upgrade_timeout_seconds = upgrade_timeout_seconds
        self._deflates_from_bytes = deflates_from_bytes

    def serve(
        self, request: web.Request, open_session: Callable[[WebSocketWriter, bytes], EngineSession]
    ) -> web.StreamResponse | HandshakeError:
        """A new session on a WebSocket; ``open_session`` writes the answer to the request that it is handed."""
        return self._accept(
            request, lambda connection, head: connection.attach(open_session(connection.writer, head))
        )

    def upgrade(self, request: web.Request, session: EngineSession) -> web.StreamResponse | HandshakeError:
        """A WebSocket that wants to take over from polling (§Upgrade)."""

        def begin(connection: WebSocketConnection, head: bytes) -> None:
            connection.writer.write(head)
            probe = UpgradeProbe(self._schedule, session, self._upgrade_timeout_seconds, connection.writer)
            connection.start_upgrade(session, probe)

        return self._accept(request, begin)

    async def stop(self, timeout_seconds: float) -> None:
        """Let those finish that are closing, for so long; cut what is left then, and end what is under way there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self.all_gone.wait()
        tasks = [task for connection in list(self._open) if (task := connection.abort()) is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def opened(self, connection: WebSocketConnection) -> None:
        """It is there, until ``gone``; also when its session has ended."""
        self._open.add(connection)
        self.all_gone.clear()

    def gone(self, connection: WebSocketConnection) -> None:
        """Its connection is not there any more."""
        self._open.discard(connection)
        if not self._open:
            self.all_gone.set()

    def _accept(
        self, request: web.Request, begin: Callable[[WebSocketConnection, bytes], None]
    ) -> web.StreamResponse | HandshakeError:
        """``begin`` writes the answer and says whose connection it is; one that it fails for is cut."""
        answer = accept_handshake(request.headers, offers_deflate=self._deflates_from_bytes is not None)
        if answer is None:
            return errors.BAD_REQUEST
        handler = cast(GatewayRequestHandler, request.protocol)
        if handler.transport is None:
            return DETACHED  # The client was gone before it was answered.
        head = encode_switch(answer)
        deflated = "Sec-WebSocket-Extensions" in answer
        writer = WebSocketWriter(
            handler.transport,
            self._schedule,
            deflates_from_bytes=self._deflates_from_bytes if deflated else None,
        )
        connection = WebSocketConnection(self, writer, deflated=deflated)
        handler.detach(connection)
        try:
            begin(connection, head)
        except BaseException:
            connection.abort()
            raise
        return DETACHED
