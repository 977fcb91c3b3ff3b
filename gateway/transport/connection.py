"""One WebSocket, from its opening to its end; it costs no task while it waits.

Frames are read (``frames``) and packets handled one after the other; while one is being handled, or others want their
turn, the rest waits in the socket. Ready frames go straight to the socket (``wire``).
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from gateway.transport import deflate, frames, packets
from gateway.transport.frames import BrokenFrame, FrameReader, Received
from gateway.transport.packets import MalformedPacket, Packet
from gateway.transport.session import TOO_LARGE, Deliver, MessageLimits, Session
from gateway.transport.tasks import start_soon
from gateway.transport.trial import Trial
from gateway.transport.wire import SocketWire

FRAMES_A_TURN: Final = 64
"""Frames that one connection handles before others have their turn."""
PONG_BYTES: Final = 16 * 1024
"""A client that pings and does not read is not answered beyond that (RFC 6455 §5.5.3 lets pongs be left out)."""


class Carrier(Protocol):
    """What a connection needs of the one that opened it."""

    deliver: Deliver
    limits: MessageLimits

    def opened(self, connection: WebSocketConnection, /) -> None: ...

    def gone(self, connection: WebSocketConnection, /) -> None: ...


class WebSocketConnection(asyncio.Protocol):
    """One WebSocket, from its opening to the end of its connection."""

    __slots__ = (
        "_carrier",
        "_is_over",
        "_is_paused",
        "_reader",
        "_session",
        "_task",
        "_trial",
        "_turn",
        "wire",
    )

    def __init__(self, carrier: Carrier, wire: SocketWire, *, deflated: bool) -> None:
        self.wire = wire
        self._carrier = carrier
        self._reader = FrameReader(deflated=deflated)
        self._session: Session | None = None
        self._trial: Trial | None = None
        """While the session is on polling still."""
        self._task: asyncio.Task[None] | None = None
        """Handles the last message."""
        self._turn: asyncio.Handle | None = None
        """What is left to read will be read then."""
        self._is_paused = False
        self._is_over = False
        carrier.opened(self)

    def talk(self, session: Session) -> None:
        """It is this session's from now on."""
        self._session = self.wire.owner = session

    def try_out(self, session: Session, trial: Trial) -> None:
        """It wants to be this session's."""
        self.talk(session)
        self._trial = trial
        if not session.start_upgrade(self.wire):
            self._finish()

    def cut(self) -> asyncio.Task[None] | None:
        """End it without a word; answers the task that was cancelled with it, if there was one."""
        self._end()
        self.wire.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task

    # from the event loop

    def data_received(self, data: bytes) -> None:
        if self._is_over or self._session is None:
            return
        self._reader.feed(data)
        if self._task is None and self._turn is None:
            self._read()
        else:
            self._pause()

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._end()
        self.wire.lost()
        self._carrier.gone(self)

    def pause_writing(self) -> None:
        self.wire.is_congested = True

    def resume_writing(self) -> None:
        self.wire.is_congested = False
        if self._session is not None:
            self._session.look_whether_drained()

    # reading

    def _read(self) -> None:
        """Handle what has come, until something must be waited for."""
        self._turn = None
        for _ in range(FRAMES_A_TURN):
            received = self._next()
            if received is None:
                self._resume()
                return
            self._take(received)
            if self._task is not None or self._is_over:
                return
        self._pause()
        self._turn = asyncio.get_running_loop().call_soon(self._read)

    def _next(self) -> Received | None:
        if self._session is None or self._is_over:
            return None
        try:
            return self._reader.next(self._carrier.limits.of(self._session))
        except BrokenFrame as error:
            self._broken(error.close_code)
            return None

    def _take(self, received: Received) -> None:
        if received.opcode == frames.PING:
            if self.wire.bytes_waiting() < PONG_BYTES:
                self.wire.write(packets.pong_frame(received.data))
        elif received.opcode == frames.CLOSE:
            self._closed_by_client(received.data)
        elif received.opcode in frames.MESSAGES:
            self._take_message(received)

    def _take_message(self, received: Received) -> None:
        session = self._session
        if session is None or session.closed:
            return  # What comes after the end is dropped as it is.
        try:
            packet = self._packet(received, session)
            if self._trial is not None:
                self._step(session, self._trial, packet)
                return
            message = session.receive(packet)
        except BrokenFrame as error:
            self._broken(error.close_code)
        except MalformedPacket as error:
            self._malformed(session, error)
        else:
            if message is not None:
                self._handle(session, message)

    def _packet(self, received: Received, session: Session) -> Packet:
        """Raises MalformedPacket, or BrokenFrame for what is no text or cannot be inflated (RFC 6455 §8.1)."""
        opcode, data, compressed = received
        try:
            if compressed:
                data = deflate.inflate(data, limit_bytes=self._carrier.limits.of(session))
            if opcode == frames.BINARY:
                return Packet(packets.MESSAGE, data)
            return packets.decode_text(data.decode())
        except UnicodeDecodeError:
            raise BrokenFrame(frames.INVALID_TEXT) from None
        except deflate.CannotInflate as error:
            raise BrokenFrame(frames.TOO_BIG if error.too_large else frames.INVALID_TEXT) from error

    # handling

    def _handle(self, session: Session, message: str | bytes) -> None:
        task = start_soon(self._deliver(session, message), name="message")
        if not task.done():
            self._task = task

    async def _deliver(self, session: Session, message: str | bytes) -> None:
        try:
            await self._carrier.deliver(session, message)
        finally:
            if self._task is not None:
                self._task = None
                self._read()

    # upgrade

    def _step(self, session: Session, trial: Trial, packet: Packet) -> None:
        """The three steps: probe, its answer, the upgrade packet. Anything else leaves the session on polling."""
        if not trial.probed and packet == Packet(packets.PING, "probe"):
            trial.answer()
            session.probe(self.wire)
        elif trial.probed and packet == Packet(packets.UPGRADE, ""):
            self._end_trial()
            if not session.upgrade(self.wire):
                self._finish()
        else:
            self._finish()

    def _end_trial(self) -> None:
        if self._trial is not None:
            self._trial.end()
            self._trial = None

    # ending

    def _closed_by_client(self, payload: bytes) -> None:
        try:
            code = frames.close_code_of(payload)
        except BrokenFrame as error:
            self._broken(error.close_code)
            return
        self.wire.close(1000 if code is None else code)
        self._finish()

    def _malformed(self, session: Session, error: MalformedPacket) -> None:
        if self._trial is not None:
            self._finish()
        else:
            session.end(error.close_code, error.reason)

    def _broken(self, close_code: int) -> None:
        """Nothing more can be read."""
        session = self._session
        if session is not None and self._trial is None:
            session.end(close_code, TOO_LARGE if close_code == frames.TOO_BIG else "malformed_frame")
        self.wire.close(close_code)
        self._finish()

    def _finish(self) -> None:
        """Nothing more is read, and the connection ends once everything is sent."""
        self._end()
        self.wire.finish()

    def _end(self) -> None:
        self._is_over = True
        self._end_trial()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    # flow

    def _pause(self) -> None:
        if not self._is_paused and not self._is_over:
            self._is_paused = True
            self.wire.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self._is_over:
            self._is_paused = False
            self.wire.resume_reading()
