"""The WebSocket carrier: aiohttp shakes hands and reads frames; ready frames go straight to the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from aiohttp import WSMsgType, hdrs, web

from gateway.ports import Schedule, Timer
from gateway.transport import errors, packets
from gateway.transport.errors import HandshakeError
from gateway.transport.http import GatewayRequestHandler
from gateway.transport.packets import MalformedPacket, Packet
from gateway.transport.session import Deliver, Session
from gateway.transport.wire import SocketWire

_NUDGE_SECONDS: Final = 0.1
"""How often a poll is let go while a client tries the WebSocket, as the reference server does it."""
_YIELD_EVERY: Final = 64


class _Socket(web.WebSocketResponse):
    """aiohttp's side of a WebSocket, which reads; it closes by way of our wire, so that one close frame is sent."""

    wire: SocketWire | None = None

    async def close(self, *, code: int = 1000, message: bytes = b"", drain: bool = True) -> bool:  # noqa: ARG002
        """aiohttp calls this when the client closed, broke RFC 6455, or the handler is done."""
        if self.wire is not None:
            self.wire.close(self.close_code or code)
        return True


class WebSocketCarrier:
    """Serves WebSockets: new ones, and those that take over from polling."""

    def __init__(
        self, deliver: Deliver, schedule: Schedule, *, max_frame_bytes: int, upgrade_timeout_seconds: float
    ) -> None:
        self._deliver = deliver
        self._schedule = schedule
        self._max_frame_bytes = max_frame_bytes
        self._upgrade_timeout_seconds = upgrade_timeout_seconds

    async def serve(
        self, request: web.Request, open_session: Callable[[SocketWire], Session]
    ) -> web.StreamResponse | HandshakeError:
        """A new session on a WebSocket, from its handshake to its end."""
        socket = await self._accept(request)
        if isinstance(socket, HandshakeError) or socket.wire is None:
            return socket
        wire = socket.wire
        session = open_session(wire)
        wire.when_lost = lambda: session.wire_lost(wire)
        try:
            await self._read(socket, session)
        finally:
            wire.finish()
        return socket

    async def upgrade(self, request: web.Request, session: Session) -> web.StreamResponse | HandshakeError:
        """A WebSocket that wants to take over from polling (§Upgrade)."""
        socket = await self._accept(request)
        if isinstance(socket, HandshakeError) or socket.wire is None:
            return socket
        wire = socket.wire
        wire.when_lost = lambda: session.wire_lost(wire)
        try:
            if session.start_upgrade(wire) and await self._switch(socket, session, wire):
                await self._read(socket, session)
        finally:
            wire.finish()
        return socket

    async def _switch(self, socket: _Socket, session: Session, wire: SocketWire) -> bool:
        """The three steps: probe, its answer, the upgrade packet. Anything else leaves the session on polling."""
        deadline = self._schedule.after(self._upgrade_timeout_seconds, wire.abort)
        nudge = _Nudge(self._schedule, session)
        try:
            if await _next_packet(socket) != Packet(packets.PING, "probe"):
                return False
            session.probe(wire)
            nudge.later()
            return await _next_packet(socket) == Packet(packets.UPGRADE, "") and session.upgrade(wire)
        except MalformedPacket:
            return False
        finally:
            deadline.cancel()
            nudge.stop()

    async def _read(self, socket: _Socket, session: Session) -> None:
        """Take in packets one after the other until the client closes; a closed session hears nothing any more."""
        count = 0
        while True:
            try:
                packet = await _next_packet(socket)
                if packet is None:
                    return
                message = session.receive(packet)
                if message is not None:
                    await self._deliver(session, message)
            except MalformedPacket:
                session.fail("malformed_packet")
            count += 1
            if not count % _YIELD_EVERY:
                # Frames that came in one piece are read without waiting; others want their turn.
                await asyncio.sleep(0)

    async def _accept(self, request: web.Request) -> _Socket | HandshakeError:
        """Shake hands; its ``wire`` is None when the client was gone before it was accepted."""
        offered = request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(",")[0].strip()
        socket = _Socket(
            # Frames are written past aiohttp's writer, so it must not compress.
            compress=False,
            # aiohttp refuses what is as long as this.
            max_msg_size=self._max_frame_bytes + 1,
            # The first one offered, as on the reference server; a browser that gets none gives up.
            protocols=(offered,) if offered else (),
        )
        try:
            await socket.prepare(request)
        except web.HTTPException:
            return errors.BAD_REQUEST
        except ConnectionError:
            return socket
        connection = cast(GatewayRequestHandler, request.protocol)
        if connection.transport is not None:
            socket.wire = SocketWire(connection.transport, self._schedule)
            connection.when_lost = socket.wire.lost
        return socket


class _Nudge:
    """Lets polls of a client go that tries a WebSocket: one may have been on its way when the probe was answered."""

    __slots__ = ("_schedule", "_session", "_timer")

    def __init__(self, schedule: Schedule, session: Session) -> None:
        self._schedule = schedule
        self._session = session
        self._timer: Timer | None = None

    def later(self) -> None:
        self._timer = self._schedule.after(_NUDGE_SECONDS, self._release)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _release(self) -> None:
        self._session.release_poll()
        self.later()


async def _next_packet(socket: _Socket) -> Packet | None:
    """The next packet; None at the end. Raises MalformedPacket."""
    received = await socket.receive()
    if received.type is WSMsgType.TEXT:
        return packets.decode_text(received.data)
    if received.type is WSMsgType.BINARY:
        return Packet(packets.MESSAGE, received.data)
    return None
