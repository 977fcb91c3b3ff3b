"""One WebSocket connection, from its handshake until it is closed; it has no task while it waits.

Frames are read (``frames``) and packets are handled one after the other. While one is being handled, or other
connections have their turn, reading is paused and the rest waits in the socket. Ready frames are written to the socket
directly (``websocket_writer``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from gateway.domain.bounded_body import ArrivingBodies, ArrivingBody, BodyDropped
from gateway.interfaces import Clock, Schedule, Timer
from gateway.transport import deflate, frames, packets
from gateway.transport.frames import FrameError, FrameReader, ReceivedFrame
from gateway.transport.http import start_eager_task
from gateway.transport.packets import MalformedPacket, Packet
from gateway.transport.receive_limits import POLICY_VIOLATION, TOO_LARGE, ReceiveLimits, exceeds_rate
from gateway.transport.session import Deliver, EngineSession
from gateway.transport.websocket_writer import WebSocketWriter

FRAMES_PER_READ: Final = 64
"""Frames that one connection handles before the event loop turns."""
_SMALL_READ_BYTES: Final = 512
"""A read with fewer bytes counts as a frame also if it completes none: a frame may come byte by byte."""
COUNTED_BYTES: Final = 1024
"""From this size on, a message that has not arrived whole counts as an arriving body."""
PONG_BYTES: Final = 16 * 1024
"""While more bytes wait for a client, its pings are not answered (RFC 6455 §5.5.3 lets pongs be left out)."""
_RELEASE_SECONDS: Final = 0.1
"""How often a poll is answered during an upgrade, as on the reference server."""


class ConnectionOwner(Protocol):
    """What a connection needs of the transport that opened it."""

    arriving: ArrivingBodies
    clock: Clock
    deliver: Deliver
    limits: ReceiveLimits

    def connection_opened(self, connection: WebSocketConnection, /) -> None: ...

    def connection_closed(self, connection: WebSocketConnection, /) -> None: ...


class UpgradeProbe:
    """The timers of a WebSocket that upgrades a session from polling (§Upgrade), until the upgrade succeeds or fails.

    The upgrade has a deadline. Once the probe is answered, polls of the client are answered again and again: one may
    have been on its way at that time.
    """

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
        """Note that the probe is answered, and answer polls from now on."""
        self.probed = True
        self._schedule_release()

    def end(self) -> None:
        """Cancel the timers."""
        self._deadline.cancel()
        if self._release_timer is not None:
            self._release_timer.cancel()

    def _schedule_release(self) -> None:
        self._release_timer = self._schedule.after(_RELEASE_SECONDS, self._release)

    def _release(self) -> None:
        self._session.release_poll()
        self._schedule_release()


class WebSocketConnection(asyncio.Protocol):
    """One WebSocket connection; an asyncio protocol."""

    __slots__ = (
        "_arriving",
        "_owner",
        "_is_finished",
        "_is_paused",
        "_reader",
        "_session",
        "_task",
        "_uncounted_bytes",
        "_probe",
        "_read_handle",
        "writer",
    )

    def __init__(self, owner: ConnectionOwner, writer: WebSocketWriter, *, deflated: bool) -> None:
        self.writer = writer
        self._owner = owner
        self._reader = FrameReader(deflated=deflated)
        self._arriving: ArrivingBody | None = None
        """A message that has not arrived whole."""
        self._session: EngineSession | None = None
        self._probe: UpgradeProbe | None = None
        """Set while the session is still on polling."""
        self._task: asyncio.Task[None] | None = None
        """Handles the last message."""
        self._read_handle: asyncio.Handle | None = None
        """Reads the frames that are left, in the next turn of the loop."""
        self._is_paused = False
        self._is_finished = False
        """Nothing more is read."""
        self._uncounted_bytes = 0
        """Bytes that arrived since ``_exceeds_rate`` last counted them."""
        owner.connection_opened(self)

    def attach(self, session: EngineSession) -> None:
        """Read packets for this session from now on."""
        self._session = self.writer.owner = session

    def start_upgrade(self, session: EngineSession, probe: UpgradeProbe) -> None:
        """Start to upgrade this session from polling; finish the connection if the session cannot be upgraded."""
        self.attach(session)
        self._probe = probe
        if not session.start_upgrade(self.writer):
            self._finish()

    def abort(self) -> asyncio.Task[None] | None:
        """Abort the connection without a close frame. Return the task that was cancelled with it, if there was one."""
        self._end()
        self.writer.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task

    # from the event loop

    def data_received(self, data: bytes) -> None:
        if self._is_finished or self._session is None:
            return
        self._uncounted_bytes += len(data)
        self._reader.feed(data)
        if self._task is None and self._read_handle is None:
            self._read()
        else:
            self._pause()

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._end()
        self.writer.connection_lost()
        self._owner.connection_closed(self)

    def pause_writing(self) -> None:
        self.writer.is_congested = True

    def resume_writing(self) -> None:
        self.writer.is_congested = False
        if self._session is not None:
            self._session.notify_if_drained()

    # reading

    def _read(self) -> None:
        """Handle the frames that have arrived, until one has to be waited for, and count them."""
        self._read_handle = None
        frames_read = 0
        received = self._next()
        while received is not None:
            frames_read += 1
            self._handle_frame(received)
            if self._task is not None or self._is_finished or frames_read == FRAMES_PER_READ:
                break
            received = self._next()
        if not self._is_finished and (self._arriving is not None or self._reader.bytes_held >= COUNTED_BYTES):
            self._count_held()
        if self._is_finished:
            return
        if self._exceeds_rate(frames_read):
            self.writer.close(POLICY_VIOLATION)
            self._finish()
        elif received is None:
            self._resume()
        elif self._task is None:
            self._pause()
            self._read_handle = asyncio.get_running_loop().call_soon(self._read)

    def _count_held(self) -> None:
        """Count the bytes of a message that has not arrived whole, together with those of all connections."""
        held = self._reader.bytes_held
        if held < COUNTED_BYTES:
            self._release_held()
            return
        if self._arriving is None:
            self._arriving = self._owner.arriving.begin(self._drop)
        try:
            self._owner.arriving.hold(self._arriving, held)
        except BodyDropped:
            self._drop()

    def _drop(self) -> None:
        """Abort the connection, whose message takes room that others need."""
        if self._session is not None and self._probe is None:
            self._session.abort("payload_rejected")
        self._end()
        self.writer.abort()

    def _release_held(self) -> None:
        if self._arriving is not None:
            self._owner.arriving.release(self._arriving)
            self._arriving = None

    def _next(self) -> ReceivedFrame | None:
        if self._session is None or self._is_finished:
            return None
        try:
            return self._reader.next(self._owner.limits.bytes_of(joined=self._session.joined))
        except FrameError as error:
            self._protocol_error(error.close_code)
            return None

    def _exceeds_rate(self, frames_read: int) -> bool:
        """Count frames and the bytes that arrived; end the session and return True if that is more than allowed."""
        session, size = self._session, self._uncounted_bytes
        self._uncounted_bytes = 0
        if not frames_read and 0 < size < _SMALL_READ_BYTES:
            frames_read = 1
        if session is None or not (frames_read or size):
            return False
        now = self._owner.clock.monotonic()
        return exceeds_rate(session, self._owner.limits, now, frames_read, size)

    def _handle_frame(self, received: ReceivedFrame) -> None:
        if received.opcode == frames.PING:
            if self.writer.bytes_waiting() < PONG_BYTES:
                self.writer.write(packets.pong_frame(received.data))
        elif received.opcode == frames.CLOSE:
            self._handle_close(received.data)
        elif received.opcode in frames.MESSAGES:
            self._handle_message(received)

    def _handle_message(self, received: ReceivedFrame) -> None:
        session = self._session
        if session is None or session.is_closed:
            return  # Messages after the end of the session are dropped without being decoded.
        try:
            packet = self._decode(received, session)
            if self._probe is not None:
                self._upgrade_step(session, self._probe, packet)
                return
            message = session.receive(packet)
        except FrameError as error:
            self._protocol_error(error.close_code)
        except MalformedPacket as error:
            self._malformed_packet(session, error)
        else:
            if message is not None:
                self._start_delivery(session, message)

    def _decode(self, received: ReceivedFrame, session: EngineSession) -> Packet:
        """Decode the packet of a message.

        Raises: MalformedPacket; FrameError if the message is not UTF-8 (RFC 6455 §8.1) or cannot be inflated.
        """
        opcode, data, compressed = received
        try:
            if compressed:
                data = deflate.inflate(data, limit_bytes=self._owner.limits.bytes_of(joined=session.joined))
            if opcode == frames.BINARY:
                return Packet(packets.MESSAGE, data)
            return packets.decode_text(data.decode())
        except UnicodeDecodeError:
            raise FrameError(frames.INVALID_TEXT) from None
        except deflate.InflateError as error:
            raise FrameError(frames.TOO_BIG if error.too_large else frames.INVALID_TEXT) from error

    # handling

    def _start_delivery(self, session: EngineSession, message: str | bytes) -> None:
        handling = self._owner.deliver(session, message)
        if handling is None:
            return
        task = start_eager_task(self._finish_delivery(handling), name="message")
        if not task.done():
            self._task = task

    async def _finish_delivery(self, handling: Coroutine[Any, Any, None]) -> None:
        try:
            await handling
        finally:
            if self._task is not None:
                self._task = None
                self._read()

    # upgrade

    def _upgrade_step(self, session: EngineSession, probe: UpgradeProbe, packet: Packet) -> None:
        """Take the next step of an upgrade: probe, answer, upgrade packet. Any other packet ends the upgrade."""
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

    def _handle_close(self, payload: bytes) -> None:
        try:
            code = frames.close_code_of(payload)
        except FrameError as error:
            self._protocol_error(error.close_code)
            return
        self.writer.close(1000 if code is None else code)
        self._finish()

    def _malformed_packet(self, session: EngineSession, error: MalformedPacket) -> None:
        if self._probe is not None:
            self._finish()
        else:
            session.end(error.close_code, error.reason)

    def _protocol_error(self, close_code: int) -> None:
        """End session and connection after bytes behind which nothing can be read."""
        session = self._session
        if session is not None and self._probe is None:
            session.end(close_code, TOO_LARGE if close_code == frames.TOO_BIG else "malformed_frame")
        self.writer.close(close_code)
        self._finish()

    def _finish(self) -> None:
        """Read nothing more, and close the connection once everything is sent."""
        self._end()
        self.writer.finish()

    def _end(self) -> None:
        self._is_finished = True
        self._release_held()
        self._end_probe()
        if self._read_handle is not None:
            self._read_handle.cancel()
            self._read_handle = None

    # flow

    def _pause(self) -> None:
        if not self._is_paused and not self._is_finished:
            self._is_paused = True
            self.writer.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self._is_finished:
            self._is_paused = False
            self.writer.resume_reading()
