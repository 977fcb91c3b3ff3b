"""One Engine.IO session as a state machine without I/O: it decides what to send and when to end.

Packets, polls and WebSockets that arrive are passed to it. It acts only through what it was given: a ``FrameWriter``
for frames, a ``Poll`` that waits for an answer. Everything is synchronous; the callers do the waiting.

    OPEN ──end()──▶ CLOSING ──sent, or given up──▶ CLOSED
      └────────────────abort(), lost()──────────────▶ CLOSED

Packets that cannot be sent yet wait in the send buffer on polling, and in the buffer of the socket on a WebSocket. Both
are bounded by ``send_buffer_bytes``: a client that does not read is disconnected (docs/explanation/architecture.md,
invariant 3).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, Final, Protocol

from gateway.interfaces import Frames, Socket, Timer
from gateway.transport import packets
from gateway.transport.admission import Handshake
from gateway.transport.packets import Packet
from gateway.transport.transports import FrameCount, FrameWriter, Poll, PongCallbacks, SendBuffer

CLIENT_CLOSE: Final = "client_close"
FRAME_BYTES: Final = 1024
"""Memory of the event loop for each frame that waits, beside its bytes (measured: 830 with uvloop)."""


class Phase(Enum):
    """The state of a session."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class SessionObserver(Protocol):
    """What a session reports to the layer above."""

    def session_closed(self, session: EngineSession, reason: str) -> None:
        """The session is closed; called once."""
        ...

    def session_upgraded(self, session: EngineSession) -> None:
        """The session is on a WebSocket from now on."""
        ...

    def volatile_skipped(self, reason: str) -> None:
        """A volatile message was not sent."""
        ...


class EngineSession:
    """One client on one transport or, during an upgrade, on two."""

    __slots__ = (
        "__weakref__",
        "_observer",
        "_candidate",
        "_close_code",
        "_frames_waiting",
        "_send_buffer",
        "_send_buffer_bytes",
        "_poll",
        "_drain_callbacks",
        "_pong_callbacks",
        "_writer",
        "_woken",
        "awaits_pong",
        "heartbeat_timer",
        "end_reason",
        "handshake",
        "joined",
        "phase",
        "pings_sent",
        "posting",
        "received",
        "reconnects",
        "sid",
    )

    def __init__(
        self,
        sid: str,
        *,
        handshake: Handshake,
        observer: SessionObserver,
        send_buffer_bytes: int,
        writer: FrameWriter | None = None,
    ) -> None:
        self.sid = sid
        self.handshake = handshake
        self.phase = Phase.OPEN
        self.end_reason = ""
        self.posting = False
        self.joined = False
        """Set by the layer above once a namespace is joined; less is accepted until then (``ReceiveLimits``)."""
        self.received = FrameCount()
        self.awaits_pong = False
        self.pings_sent = 0
        self._pong_callbacks: PongCallbacks | None = None
        self.heartbeat_timer: Timer | None = None
        """The next step of the heartbeat."""
        self._observer = observer
        self._send_buffer_bytes = send_buffer_bytes
        self._send_buffer = SendBuffer(send_buffer_bytes)
        self._writer = writer
        self._candidate: FrameWriter | None = None
        self._poll: Poll | None = None
        self._woken = False
        self._frames_waiting = 0
        """An upper bound of the frames that wait in the buffer of the socket."""
        self._close_code: int | None = 1000
        self.reconnects = False
        self._drain_callbacks: list[Callable[[], None]] = []

    @property
    def transport(self) -> str:
        """Name of the current transport: ``polling`` or ``websocket``."""
        return "polling" if self._writer is None else "websocket"

    @property
    def is_closed(self) -> bool:
        return self.phase is Phase.CLOSED

    @property
    def socket(self) -> Socket | None:
        """The socket that frames may be written to directly: that of an open WebSocket that takes plain frames.

        It stays valid until ``SessionObserver.session_closed`` is called.
        """
        writer = self._writer
        if writer is None or self.phase is not Phase.OPEN or not writer.takes_plain_frames:
            return None
        return writer.socket

    # sending

    def send(self, frames: Frames, *, volatile: bool = False) -> bool:
        """Send a packet, now or when the client reads; a volatile one now or never. Return whether it was accepted."""
        if self.phase is not Phase.OPEN:
            return False
        if self._writer is not None:
            return self._write(self._writer, frames, volatile)
        return self._queue(frames, volatile)

    def batch(self, *packets: Frames) -> None:
        """Send packets, in one write if the socket is free: each write wakes up the client."""
        writer = self._writer
        if writer is not None and self.socket is not None and not writer.bytes_waiting():
            writer.write(b"".join([frames.frame for frames in packets]))
            return
        for frames in packets:
            self.send(frames)

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, as soon as the session is drained or closed; now if it already is."""
        self._drain_callbacks.append(callback)
        self.notify_if_drained()

    def notify_if_drained(self) -> None:
        """Call the callbacks of ``when_drained`` if the session is drained or closed."""
        if self._drain_callbacks and (self.is_closed or self.is_drained):
            callbacks, self._drain_callbacks = self._drain_callbacks, []
            for callback in callbacks:
                callback()

    @property
    def bytes_waiting(self) -> int:
        """Bytes that wait in this process to be sent."""
        writer = self._writer
        if writer is not None:
            return writer.bytes_waiting() + writer.bytes_gathered()
        return self._send_buffer.bytes + self._send_buffer.bytes_unread

    @property
    def is_drained(self) -> bool:
        """Whether few bytes wait: none on polling, on a WebSocket as many as the event loop accepts."""
        return self._send_buffer.is_drained if self._writer is None else not self._writer.is_congested

    def _write(self, writer: FrameWriter, frames: Frames, volatile: bool) -> bool:
        frame = writer.frame_of(frames)
        waiting = writer.bytes_waiting()
        if waiting and volatile:
            self._observer.volatile_skipped("bytes_waiting")
            return False
        self._frames_waiting = self._frames_waiting + 1 if waiting else 0
        if waiting and waiting + len(frame) + self._frames_waiting * FRAME_BYTES > self._send_buffer_bytes:
            self.abort("slow_consumer")
            return False
        writer.write(frame)
        return True

    def _queue(self, frames: Frames, volatile: bool) -> bool:
        if volatile and (self._candidate is not None or self._poll is None):
            self._observer.volatile_skipped("no_poll" if self._candidate is None else "upgrading")
            return False
        if not self._send_buffer.put(frames):
            self.abort("slow_consumer")
            return False
        self._wake()
        return True

    # receiving

    def receive(self, packet: Packet) -> str | bytes | None:
        """Handle a packet of the client; return its data if it is a message for the layer above."""
        if packet.type == packets.CLOSE and self.phase is not Phase.CLOSED:
            # Also while closing: a client that closes by itself does not poll for the close packet.
            self._client_closed()
        if self.phase is not Phase.OPEN:
            return None
        if packet.type == packets.MESSAGE:
            return packet.data
        if packet.type == packets.PONG:
            awaited, self.awaits_pong = self.awaits_pong, False
            if awaited and self._pong_callbacks is not None:
                self._pong_callbacks.call(self.pings_sent)
        else:
            # A client of Engine.IO 4 never sends open, noop, ping except as a probe, or upgrade twice.
            self.fail("protocol_error")
        return None

    def ping(self) -> None:
        """Send a ping that the client has to answer with a pong (§Heartbeat)."""
        self.awaits_pong = True
        self.pings_sent += 1
        self.send(packets.PING_PACKET)

    def after_pong(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, when a pong answers a ping that is sent from now on; never if none does."""
        self._pong_callbacks = self._pong_callbacks or PongCallbacks()
        self._pong_callbacks.add(self.pings_sent, callback)

    def _client_closed(self) -> None:
        self._close(CLIENT_CLOSE)
        self._wake()
        if self._writer is not None:
            self._writer.close(1000)

    # polling

    def park(self, poll: Poll) -> bool:
        """Let a GET wait for packets. Return False if another one waits: that ends the session (§HTTP long-polling).

        One whose answer is not read yet counts: a client polls again only once it has the whole answer.
        """
        if self._poll is not None or self._send_buffer.bytes_unread:
            self.fail("overlapping_polls")
            return False
        self._poll, self._woken = poll, False
        if self._send_buffer or self.phase is not Phase.OPEN:
            self._wake()
        return True

    def collect(self) -> bytes | None:
        """Return the payload for the poll that was woken: all packets that wait, a noop, or a close packet alone.

        Return None if the poll gets an error. Messages beside a close packet would reach a client that resumes twice.
        """
        poll, self._poll = self._poll, None
        if self._send_buffer:
            return packets.encode_payload(self._send_buffer.take(poll))
        if self.phase is Phase.CLOSING:
            self._close(self.end_reason)
            return None if self.reconnects else packets.CLOSE_PACKET.record
        if self.phase is Phase.OPEN or self.end_reason == CLIENT_CLOSE:
            return packets.NOOP_PACKET.record
        return None

    def answer_read(self, poll: Poll) -> None:
        """The client has read the answer to a poll, as far as this process can know."""
        if self._send_buffer.forget(poll):
            self.notify_if_drained()

    def answer_lost(self, poll: Poll, reason: str) -> None:
        """The client can no longer read the answer to a poll: close the session, whose packets are lost with it."""
        if self._send_buffer.forget(poll) and self._writer is None:
            self.lost(reason)

    def poll_lost(self) -> None:
        """The client cancelled its GET: close the session, as the reference server does (§HTTP long-polling).

        After an upgrade a client may cancel it at any time.
        """
        self._poll = None
        if self._writer is None:
            self.lost("transport_error")

    def release_poll(self) -> None:
        """Answer a waiting poll although no packet waits, so that the client can upgrade (§Upgrade)."""
        self._wake()

    def _wake(self) -> None:
        if self._poll is not None and not self._woken:
            self._woken = True
            self._poll.wake()

    # upgrade

    def start_upgrade(self, writer: FrameWriter) -> bool:
        """Let a WebSocket be the candidate of an upgrade; return False if it may not.

        A session upgrades only once, from polling, and has one candidate at a time.
        """
        if self.phase is not Phase.OPEN or self._writer is not None or self._candidate is not None:
            return False
        self._candidate = writer
        return True

    def probe(self, writer: FrameWriter) -> None:
        """Answer the probe of the client on the WebSocket, and its waiting poll with a noop (§Upgrade)."""
        if self._candidate is writer:
            writer.write(packets.PROBE_ANSWER.frame)
            self._wake()

    def upgrade(self, writer: FrameWriter) -> bool:
        """Move the session to the WebSocket: send the packets that wait there, in order, and all later ones.

        Return False if the session was closed meanwhile. A session that is closing closes the WebSocket, since its
        client polls no more.
        """
        if self._candidate is not writer:
            return False
        self._candidate, self._writer = None, writer
        for frames in self._send_buffer.take():
            writer.write(writer.frame_of(frames, may_compress=False))
        self._wake()
        if self.phase is Phase.CLOSING:
            writer.close(self._close_code)
            self._close(self.end_reason)
        else:
            self._observer.session_upgraded(self)
            self.notify_if_drained()
        return True

    def writer_closed(self, writer: FrameWriter) -> None:
        """The WebSocket is closed: close the session too, or leave it on polling if the upgrade was not complete."""
        if self._writer is writer:
            self.lost("transport_close")
        elif self._candidate is writer:
            self._candidate = None

    # ending

    def end(self, code: int | None, reason: str, *, reconnects: bool = False) -> None:
        """Send what waits, then close: a WebSocket with a close frame with ``code``, or without one if that is None.

        A poll is answered with a close packet alone, or with an error if the client of any library is to reconnect.
        """
        if self.phase is not Phase.OPEN:
            return
        self.phase, self.end_reason = Phase.CLOSING, reason
        self._close_code, self.reconnects = code, reconnects
        if self._writer is not None:
            self._writer.close(code)
            self._close(reason)
        else:
            self._wake()

    def fail(self, reason: str, code: int = 1002) -> None:
        """Close the session of a client that broke a rule, at once if neither a poll nor a WebSocket waits."""
        if self._writer is None and self._poll is None:
            self.lost(reason)
        else:
            self.end(code, reason)

    def abort(self, reason: str) -> None:
        """Close the session without a close packet or frame; on polling its sid becomes unknown."""
        if self._writer is not None:
            self._writer.abort()
        self._send_buffer.abort()
        self.lost(reason)

    def lost(self, reason: str) -> None:
        """Close the session whose transport is lost; drop the packets that wait."""
        self._close(reason)
        self._send_buffer.take()
        self._wake()

    def _close(self, reason: str) -> None:
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        self.end_reason = reason
        if self._candidate is not None:
            self._candidate.close(1000)
            self._candidate = None
        self._observer.session_closed(self, reason)
        self.notify_if_drained()


Handling = Coroutine[Any, Any, None] | None
"""The rest of the handling of a client's message, which has to wait for something; None if it is handled."""
Deliver = Callable[[EngineSession, str | bytes], Handling]
"""Passes one message of a client to the layer above. The next one is passed once this one is handled."""
