"""The WebSocket carrier: its connections are taken over from aiohttp after their request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web

from gateway.ports import Schedule
from gateway.transport import errors
from gateway.transport.connection import WebSocketConnection
from gateway.transport.errors import HandshakeError
from gateway.transport.http import HANDED_OVER, GatewayRequestHandler
from gateway.transport.limits import MessageLimits
from gateway.transport.opening import answer_opening
from gateway.transport.replies import encode_switch
from gateway.transport.session import Deliver, Session
from gateway.transport.trial import Trial
from gateway.transport.wire import SocketWire


class WebSocketCarrier:
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
        self.open: set[WebSocketConnection] = set()
        """Those whose connection is there, also of sessions that have ended."""
        self._schedule = schedule
        self._upgrade_timeout_seconds = upgrade_timeout_seconds
        self._deflates_from_bytes = deflates_from_bytes

    def serve(
        self, request: web.Request, open_session: Callable[[SocketWire, bytes], Session]
    ) -> web.StreamResponse | HandshakeError:
        """A new session on a WebSocket; ``open_session`` writes the answer to the request that it is handed."""
        head = self._answer(request)
        if head is None:
            return errors.BAD_REQUEST
        connection = self._take_over(request, head)
        if connection is not None:
            connection.talk(open_session(connection.wire, encode_switch(head)))
        return HANDED_OVER

    def upgrade(self, request: web.Request, session: Session) -> web.StreamResponse | HandshakeError:
        """A WebSocket that wants to take over from polling (§Upgrade)."""
        head = self._answer(request)
        if head is None:
            return errors.BAD_REQUEST
        connection = self._take_over(request, head)
        if connection is not None:
            connection.wire.write(encode_switch(head))
            connection.try_out(
                session, Trial(self._schedule, session, self._upgrade_timeout_seconds, connection.wire)
            )
        return HANDED_OVER

    async def stop(self) -> None:
        """Cut every connection that is left, and end what is under way on them."""
        tasks = [task for connection in list(self.open) if (task := connection.cut()) is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _answer(self, request: web.Request) -> dict[str, str] | None:
        return answer_opening(request.headers, offers_deflate=self._deflates_from_bytes is not None)

    def _take_over(self, request: web.Request, head: dict[str, str]) -> WebSocketConnection | None:
        """None when the client was gone before it was answered."""
        handler = cast(GatewayRequestHandler, request.protocol)
        if handler.transport is None:
            return None
        deflated = "Sec-WebSocket-Extensions" in head
        wire = SocketWire(
            handler.transport,
            self._schedule,
            deflates_from_bytes=self._deflates_from_bytes if deflated else None,
        )
        connection = WebSocketConnection(self, wire, deflated=deflated)
        handler.hand_over(connection)
        return connection
