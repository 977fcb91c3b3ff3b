"""One WebSocket, from its opening to its end; it costs no task while it waits.

Frames are read (``frames``) and packets handled one after the other; while one is being handled, or others want their
turn, the rest waits in the socket. Ready frames go straight to the socket (``wire``).
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from gateway.interfaces import Schedule, Timer
from gateway.transport import deflate, frames, packets
from gateway.transport.eager_task import start_eager_task
from gateway.transport.frames import FrameError, FrameReader, ReceivedFrame
from gateway.transport.packets import MalformedPacket, Packet
from gateway.transport.session import TOO_LARGE, Deliver, EngineSession, MessageLimits
from gateway.transport.websocket_writer import WebSocketWriter

FRAMES_PER_READ: Final = 64
"""Frames that one connection handles before others have their turn."""
PONG_BYTES: Final = 16 * 1024
"""A client that pings and does not read is not answered beyond that (RFC 6455 §5.5.3 lets pongs be left out)."""
_RELEASE_SECONDS: Final = 0.1
"""How often a poll is let go while a client tries the WebSocket, as the reference server does it."""


class ConnectionOwner(Protocol):
    """What a connection needs of the one that opened it."""

    deliver: Deliver
    limits: MessageLimits

    def opened(self, connection: WebSocketConnection, /) -> None: ...

    def gone(self, connection: WebSocketConnection, /) -> None: ...


class UpgradeProbe:
    """A WebSocket on trial: it has some time, and meanwhile polls of its client are let go (one may have been on its
    way when the probe was answered)."""

    __slots__ = ("_deadline", "_release_timer", "_schedule", "_session", "probed")

    def __init__(
        self, schedule: Schedule, session: EngineSession, timeout_seconds: float, writer: WebSocketWriter
    ) -> None:
        self.probed = False
        self._schedule = schedule
        self._session = session
        self._deadline = schedule.after(timeout_seconds, writer.abort)
        self._release_timer: Timer | None = None

    def answer(self) -> None:
        """The probe is answered."""
        self.probed = True
        self._later()

    def end(self) -> None:
        """It is decided."""
        self._deadline.cancel()
        if self._release_timer is not None:
            self._release_timer.cancel()

    def _later(self) -> None:
        self._release_timer = self._schedule.after(_RELEASE_SECONDS, self._release)

    def _release(self) -> None:
        self._session.release_poll()
        self._later()


class WebSocketConnection(asyncio.Protocol):
    """One WebSocket, from its opening to the end of its connection."""

    __slots__ = (
        "_owner",
        "_is_over",
        "_is_paused",
        "_reader",
        "_session",
        "_task",
        "_probe",
        "_frames_left",
        "writer",
    )

    def __init__(self, owner: ConnectionOwner, writer: WebSocketWriter, *, deflated: bool) -> None:
        self.writer = writer
        self._owner = owner
        self._reader = FrameReader(deflated=deflated)
        self._session: EngineSession | None = None
        self._probe: UpgradeProbe | None = None
        """While the session is on polling still."""
        self._task: asyncio.Task[None] | None = None
        """Handles the last message."""
        self._frames_left: asyncio.Handle | None = None
        """What is left to read will be read then."""
        self._is_paused = False
        self._is_over = False
        owner.opened(self)

    def attach(self, session: EngineSession) -> None:
        """It is this session's from now on."""
        self._session = self.writer.owner = session

    def start_upgrade(self, session: EngineSession, probe: UpgradeProbe) -> None:
        """It wants to be this session's."""
        self.attach(session)
        self._probe = probe
        if not session.start_upgrade(self.writer):
            self._finish()

    def abort(self) -> asyncio.Task[None] | None:
        """End it without a word; answers the task that was cancelled with it, if there was one."""
        self._end()
        self.writer.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task

    # from the event loop

    def data_received(self, data: bytes) -> None:
        if self._is_over or self._session is None:
            return
        self._reader.feed(data)
        if self._task is None and self._frames_left is None:
            self._read()
        else:
            self._pause()

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._end()
        self.writer.connection_lost()
        self._owner.gone(self)

    def pause_writing(self) -> None:
        self.writer.is_congested = True

    def resume_writing(self) -> None:
        self.writer.is_congested = False
        if self._session is not None:
            self._session.notify_if_drained()

    # reading

    def _read(self) -> None:
        """Handle what has come, until something must be waited for."""
        self._frames_left = None
        for _ in range(FRAMES_PER_READ):
            received = self._next()
            if received is None:
                self._resume()
                return
            self._handle_frame(received)
            if self._task is not None or self._is_over:
                return
        self._pause()
        self._frames_left = asyncio.get_running_loop().call_soon(self._read)

    def _next(self) -> ReceivedFrame | None:
        if self._session is None or self._is_over:
            return None
        try:
            return self._reader.next(self._owner.limits.of(self._session))
        except FrameError as error:
            self._protocol_error(error.close_code)
            return None

    def _handle_frame(self, received: ReceivedFrame) -> None:
        if received.opcode == frames.PING:
            if self.writer.bytes_waiting() < PONG_BYTES:
                self.writer.write(packets.pong_frame(received.data))
        elif received.opcode == frames.CLOSE:
            self._closed_by_client(received.data)
        elif received.opcode in frames.MESSAGES:
            self._handle_message(received)

    def _handle_message(self, received: ReceivedFrame) -> None:
        session = self._session
        if session is None or session.closed:
            return  # What comes after the end is dropped as it is.
        try:
            packet = self._packet(received, session)
            if self._probe is not None:
                self._upgrade_step(session, self._probe, packet)
                return
            message = session.receive(packet)
        except FrameError as error:
            self._protocol_error(error.close_code)
        except MalformedPacket as error:
            self._malformed(session, error)
        else:
            if message is not None:
                self._handle(session, message)

    def _packet(self, received: ReceivedFrame, session: EngineSession) -> Packet:
        """Raises MalformedPacket, or BrokenFrame for what is no text or cannot be inflated (RFC 6455 §8.1)."""
        opcode, data, compressed = received
        try:
            if compressed:
                data = deflate.inflate(data, limit_bytes=self._owner.limits.of(session))
            if opcode == frames.BINARY:
                return Packet(packets.MESSAGE, data)
            return packets.decode_text(data.decode())
        except UnicodeDecodeError:
            raise FrameError(frames.INVALID_TEXT) from None
        except deflate.CannotInflate as error:
            raise FrameError(frames.TOO_BIG if error.too_large else frames.INVALID_TEXT) from error

    # handling

    def _handle(self, session: EngineSession, message: str | bytes) -> None:
        task = start_eager_task(self._deliver(session, message), name="message")
        if not task.done():
            self._task = task

    async def _deliver(self, session: EngineSession, message: str | bytes) -> None:
        try:
            await self._owner.deliver(session, message)
        finally:
            if self._task is not None:
                self._task = None
                self._read()

    # upgrade

    def _upgrade_step(self, session: EngineSession, probe: UpgradeProbe, packet: Packet) -> None:
        """The three steps: probe, its answer, the upgrade packet. Anything else leaves the session on polling."""
        if not probe.probed and packet == Packet(packets.PING, "probe"):
            probe.answer()
            session.probe(self.writer)
        elif probe.probed and packet == Packet(packets.UPGRADE, ""):
            self._end_probe()
            if not session.upgrade(self.writer):
                self._finish()
        else:
            self._finish()

    def _end_probe(self) -> None:
        if self._probe is not None:
            self._probe.end()
            self._probe = None

    # ending

    def _closed_by_client(self, payload: bytes) -> None:
        try:
            code = frames.close_code_of(payload)
        except FrameError as error:
            self._protocol_error(error.close_code)
            return
        self.writer.close(1000 if code is None else code)
        self._finish()

    def _malformed(self, session: EngineSession, error: MalformedPacket) -> None:
        if self._probe is not None:
            self._finish()
        else:
            session.end(error.close_code, error.reason)

    def _protocol_error(self, close_code: int) -> None:
        """Nothing more can be read."""
        session = self._session
        if session is not None and self._probe is None:
            session.end(close_code, TOO_LARGE if close_code == frames.TOO_BIG else "malformed_frame")
        self.writer.close(close_code)
        self._finish()

    def _finish(self) -> None:
        """Nothing more is read, and the connection ends once everything is sent."""
        self._end()
        self.writer.finish()

    def _end(self) -> None:
        self._is_over = True
        self._end_probe()
        if self._frames_left is not None:
            self._frames_left.cancel()
            self._frames_left = None

    # flow

    def _pause(self) -> None:
        if not self._is_paused and not self._is_over:
            self._is_paused = True
            self.writer.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self._is_over:
            self._is_paused = False
            self.writer.resume_reading()
