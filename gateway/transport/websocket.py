"""The WebSocket carrier: aiohttp shakes hands and reads frames; ready frames go straight to the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from aiohttp import WebSocketError, WSCloseCode, WSMsgType, hdrs, web

from gateway.ports import Schedule, Timer
from gateway.transport import deflate, errors, packets
from gateway.transport.errors import HandshakeError
from gateway.transport.http import GatewayRequestHandler
from gateway.transport.intake import Intake
from gateway.transport.limits import TOO_LARGE, MessageLimits
from gateway.transport.packets import MalformedPacket, Packet
from gateway.transport.session import Deliver, Session
from gateway.transport.wire import SocketWire

_NUDGE_SECONDS: Final = 0.1
"""How often a poll is let go while a client tries the WebSocket, as the reference server does it."""
_YIELD_EVERY: Final = 64


class _Unreadable(MalformedPacket):
    """A message that cannot be inflated, or frames that break RFC 6455: then nothing more can be read."""

    reason = "malformed_frame"

    def __init__(self, close_code: int, *, is_last: bool = False) -> None:
        self.close_code = close_code
        self.is_last = is_last
        if close_code == WSCloseCode.MESSAGE_TOO_BIG:
            self.reason = TOO_LARGE


class _Socket(web.WebSocketResponse):
    """aiohttp's side of a WebSocket, which reads; it closes by way of our wire, so that one close frame is sent."""

    wire: SocketWire | None = None
    intake: Intake | None = None
    """Where there is something to look for."""

    def belongs_to(self, session: Session) -> None:
        """It is known whose it is."""
        if self.intake is not None:
            self.intake.sender = session

    async def close(self, *, code: int = 1000, message: bytes = b"", drain: bool = True) -> bool:  # noqa: ARG002
        """aiohttp calls this when the client closed, broke RFC 6455, or the handler is done."""
        if self.wire is not None:
            self.wire.close(self.close_code or code)
        return True


class WebSocketCarrier:
    """Serves WebSockets: new ones, and those that take over from polling."""

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
        self._deliver = deliver
        self._schedule = schedule
        self._limits = limits
        self._upgrade_timeout_seconds = upgrade_timeout_seconds
        self._deflates_from_bytes = deflates_from_bytes

    async def serve(
        self, request: web.Request, open_session: Callable[[SocketWire], Session]
    ) -> web.StreamResponse | HandshakeError:
        """A new session on a WebSocket, from its handshake to its end."""
        socket = await self._accept(request)
        if isinstance(socket, HandshakeError) or socket.wire is None:
            return socket
        wire = socket.wire
        session = open_session(wire)
        socket.belongs_to(session)
        wire.when_lost = lambda: session.wire_lost(wire)
        try:
            await self._read(socket, session)
        finally:
            wire.finish()
        return socket

    async def upgrade(self, request: web.Request, session: Session) -> web.StreamResponse | HandshakeError:
        """A WebSocket that wants to take over from polling (§Upgrade)."""
        socket = await self._accept(request, joined=session.joined)
        if isinstance(socket, HandshakeError) or socket.wire is None:
            return socket
        wire = socket.wire
        socket.belongs_to(session)
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
            if await self._next_packet(socket, session) != Packet(packets.PING, "probe"):
                return False
            session.probe(wire)
            nudge.later()
            answer = await self._next_packet(socket, session)
            return answer == Packet(packets.UPGRADE, "") and session.upgrade(wire)
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
                packet = await self._next_packet(socket, session)
                if packet is None:
                    return
                message = session.receive(packet)
                if message is not None:
                    await self._deliver(session, message)
            except MalformedPacket as error:
                session.end(error.close_code, error.reason)
                if isinstance(error, _Unreadable) and error.is_last:
                    return
            count += 1
            if not count % _YIELD_EVERY:
                # Frames that came in one piece are read without waiting; others want their turn.
                await asyncio.sleep(0)

    async def _next_packet(self, socket: _Socket, session: Session) -> Packet | None:
        """The next packet; None at the end. Raises MalformedPacket."""
        received = await socket.receive()
        data = received.data
        if received.type is WSMsgType.ERROR and isinstance(data, WebSocketError):
            raise _Unreadable(data.code, is_last=True)
        if received.type is not WSMsgType.TEXT and received.type is not WSMsgType.BINARY:
            return None
        if socket.intake is not None and socket.intake.kinds is not None:
            opcode = socket.intake.kinds.popleft()
            # What comes after the end is dropped as it is.
            data = data if session.closed else _inflate(data, opcode, self._limits.of(session))
        return packets.decode_text(data) if isinstance(data, str) else Packet(packets.MESSAGE, data)

    async def _accept(self, request: web.Request, *, joined: bool = False) -> _Socket | HandshakeError:
        """Shake hands; its ``wire`` is None when the client was gone before it was accepted."""
        offered = request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(",")[0].strip()
        socket = _Socket(
            # Frames are written past aiohttp's writer, and compression is negotiated here.
            compress=False,
            # aiohttp refuses what is as long as this.
            max_msg_size=self._limits.joined_bytes + 1,
            # The first one offered, as on the reference server; a browser that gets none gives up.
            protocols=(offered,) if offered else (),
        )
        answer = None if self._deflates_from_bytes is None else _negotiate(request)
        if answer is not None:
            socket.headers[hdrs.SEC_WEBSOCKET_EXTENSIONS] = answer
        connection = cast(GatewayRequestHandler, request.protocol)
        if answer is not None or (not joined and self._limits.tell_apart):
            connection.intake = socket.intake = Intake(
                newcomer_bytes=self._limits.newcomer_bytes, deflated=answer is not None
            )
        try:
            await socket.prepare(request)
        except web.HTTPException:
            return errors.BAD_REQUEST
        except ConnectionError:
            return socket
        if connection.transport is not None:
            from_bytes = None if answer is None else self._deflates_from_bytes
            socket.wire = SocketWire(connection.transport, self._schedule, deflates_from_bytes=from_bytes)
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


def _negotiate(request: web.Request) -> str | None:
    return deflate.answer_offers(",".join(request.headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ())))


def _inflate(data: str | bytes, opcode: int, limit_bytes: int) -> str | bytes:
    """A message as it was before its client compressed it; ``opcode`` 0: it did not. Raises _Unreadable."""
    if not opcode or isinstance(data, str):
        return data
    try:
        inflated = deflate.inflate(data, limit_bytes=limit_bytes)
        return inflated.decode() if opcode == WSMsgType.TEXT else inflated
    except UnicodeDecodeError:
        raise _Unreadable(WSCloseCode.INVALID_TEXT) from None
    except deflate.CannotInflate as error:
        code = WSCloseCode.MESSAGE_TOO_BIG if error.too_large else WSCloseCode.INVALID_TEXT
        raise _Unreadable(code) from error
