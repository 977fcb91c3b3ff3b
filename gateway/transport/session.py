"""One Engine.IO session as a state machine without I/O: it decides what to send and when to end.

It is told what arrives (packets, polls, a WebSocket) and acts only through the carriers it was given: a ``Wire`` to
write frames to, a ``Poll`` that waits for an answer. Everything is synchronous; who calls it does the waiting.

    OPEN ──end()──▶ ENDING ──flushed, or given up──▶ CLOSED
      └────────────────abort(), lost()───────────────▶ CLOSED

On polling, what cannot be sent yet waits in the outbox; on a WebSocket it waits in the buffer of the wire. Both are
bounded by ``send_buffer_bytes``: who does not read is let go (law 3).

How much one message of a client may be: a WebSocket frame or all its fragments, the body of a post.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from gateway.interfaces import Frames, Socket, Timer
from gateway.transport import packets
from gateway.transport.packets import Packet
from gateway.transport.transports import FrameWriter, ParkedPollProtocol, SendBuffer

CLIENT_CLOSE: Final = "client_close"
FRAME_BYTES: Final = 1024
"""What the event loop keeps for a frame that waits, beside its bytes (measured: 830 with uvloop)."""


class Phase(Enum):
    """How far along a session is."""

    OPEN = "open"
    CLOSING = "ending"
    CLOSED = "closed"


class SessionObserver(Protocol):
    """Who uses the session."""

    def session_closed(self, session: EngineSession, reason: str) -> None:
        """Called once, whichever way it ended."""
        ...

    def session_upgraded(self, session: EngineSession) -> None: ...

    def volatile_skipped(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Handshake:
    """What is kept of the request that opened a session."""

    authorization: str | None
    query_token: str | None
    address: str
    """Address of the client, as far as it is known."""
    declines_recovery: bool = False
    """The query asks not to be given positions."""


class EngineSession:
    """One client on one or, while it upgrades, two carriers."""

    __slots__ = (
        "__weakref__",
        "_observer",
        "_candidate",
        "_close_code",
        "_frames_waiting",
        "_send_buffer",
        "_send_buffer_bytes",
        "_poll",
        "_when_drained",
        "_writer",
        "_woken",
        "awaits_pong",
        "heartbeat_timer",
        "end_reason",
        "handshake",
        "joined",
        "phase",
        "posting",
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
        """Set by the layer above once a namespace was joined; only small messages are taken until then."""
        self.awaits_pong = False
        self.heartbeat_timer: Timer | None = None
        """The next thing that the heartbeat does with it."""
        self._observer = observer
        self._send_buffer_bytes = send_buffer_bytes
        self._send_buffer = SendBuffer(send_buffer_bytes)
        self._writer = writer
        self._candidate: FrameWriter | None = None
        self._poll: ParkedPollProtocol | None = None
        self._woken = False
        self._frames_waiting = 0
        """At most so many frames wait on the wire."""
        self._close_code = 1000
        self._when_drained: list[Callable[[], None]] = []

    @property
    def transport(self) -> str:
        """The carrier in use, as Engine.IO calls it."""
        return "polling" if self._writer is None else "websocket"

    @property
    def closed(self) -> bool:
        return self.phase is Phase.CLOSED

    @property
    def socket(self) -> Socket | None:
        """Where frames go out as they are, if there is such a place: an open WebSocket without compression.

        It stays so until the layer above is told of the end of this session.
        """
        writer = self._writer
        if writer is None or self.phase is not Phase.OPEN or writer.deflates_from_bytes is not None:
            return None
        return writer.socket

    # sending

    def send(self, frames: Frames, *, volatile: bool = False) -> bool:
        """Send one packet, now or as soon as the client reads; a volatile one now or never. Whether it was taken."""
        if self.phase is not Phase.OPEN:
            return False
        if self._writer is not None:
            return self._write(self._writer, frames, volatile)
        return self._queue(frames, volatile)

    def batch(self, *packets: Frames) -> None:
        """Send packets in one write where nothing stands against it: each write wakes the client's side."""
        direct = self.socket
        if direct is not None and not direct.get_write_buffer_size():
            direct.write(b"".join([frames.frame for frames in packets]))
            return
        for frames in packets:
            self.send(frames)

    def when_drained(self, action: Callable[[], None]) -> None:
        """Call it once little waits to be sent, or once the session has ended; at once if that is so."""
        self._when_drained.append(action)
        self.notify_if_drained()

    def notify_if_drained(self) -> None:
        """Something was sent that had waited."""
        if self._when_drained and (self.closed or self.is_drained):
            actions, self._when_drained = self._when_drained, []
            for action in actions:
                action()

    @property
    def bytes_waiting(self) -> int:
        """What is in this process and was not sent yet."""
        return self._send_buffer.bytes if self._writer is None else self._writer.bytes_waiting()

    @property
    def is_drained(self) -> bool:
        """Whether little waits to be sent."""
        return not self._send_buffer if self._writer is None else not self._writer.is_congested

    def _write(self, writer: FrameWriter, frames: Frames, volatile: bool) -> bool:
        frame = frames.frame
        if writer.deflates_from_bytes is not None:
            frame = _deflated(frames, writer.deflates_from_bytes)
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
        """Take in a packet; answers the message for the layer above, if it is one."""
        if packet.type == packets.CLOSE and self.phase is not Phase.CLOSED:
            # While it ends, too: who goes by itself will not poll for the goodbye that waits.
            self._client_closed()
        if self.phase is not Phase.OPEN:
            return None
        if packet.type == packets.MESSAGE:
            return packet.data
        if packet.type == packets.PONG:
            self.awaits_pong = False
        else:
            # The client of Engine.IO 4 never sends open, ping (but to probe), noop, nor upgrade twice.
            self.fail("protocol_error")
        return None

    def ping(self) -> None:
        """Ask for a sign of life (§Heartbeat: the server pings, the client pongs)."""
        self.awaits_pong = True
        self.send(packets.PING_PACKET)

    def _client_closed(self) -> None:
        self._close(CLIENT_CLOSE)
        self._wake()
        if self._writer is not None:
            self._writer.close(1000)

    # polling

    def park(self, poll: ParkedPollProtocol) -> bool:
        """A GET arrived. False: another one is here already, which ends the session (§HTTP long-polling)."""
        if self._poll is not None:
            self.fail("overlapping_polls")
            return False
        self._poll, self._woken = poll, False
        if self._send_buffer or self.phase is not Phase.OPEN:
            self._wake()
        return True

    def collect(self) -> bytes | None:
        """What answers the poll that was woken: all that waits, or that there is nothing, or that the session ends.

        None: the session was forgotten. A close packet comes alone: with messages beside it the client would see
        them twice after a resume.
        """
        self._poll = None
        if self._send_buffer:
            payload = packets.encode_payload(self._send_buffer.take())
            self.notify_if_drained()
            return payload
        if self.phase is Phase.CLOSING:
            self._close(self.end_reason)
            return packets.CLOSE_PACKET.record
        if self.phase is Phase.OPEN or self.end_reason == CLIENT_CLOSE:
            return packets.NOOP_PACKET.record
        return None

    def poll_lost(self) -> None:
        """The client took its GET back: it is gone (§HTTP long-polling, as the reference server decides).

        On a WebSocket already, it may drop what is left of polling as it likes.
        """
        self._poll = None
        if self._writer is None:
            self.lost("transport_error")

    def release_poll(self) -> None:
        """Answer a poll that waits although there is nothing to say, so that the client can switch (§Upgrade)."""
        self._wake()

    def _wake(self) -> None:
        if self._poll is not None and not self._woken:
            self._woken = True
            self._poll.wake()

    # upgrade

    def start_upgrade(self, writer: FrameWriter) -> bool:
        """A WebSocket wants to take over. False: it may not; one at a time, once, and only from polling."""
        if self.phase is not Phase.OPEN or self._writer is not None or self._candidate is not None:
            return False
        self._candidate = writer
        return True

    def probe(self, writer: FrameWriter) -> None:
        """The client tries the WebSocket (§Upgrade): answer there, and let the waiting poll go."""
        if self._candidate is writer:
            writer.write(packets.PROBE_ANSWER.frame)
            self._wake()

    def upgrade(self, writer: FrameWriter) -> bool:
        """The client switched: all that waits goes out here, in order, and from now on everything.

        False: the session closed meanwhile. One that was ending says so here, since nobody polls any more.
        """
        if self._candidate is not writer:
            return False
        self._candidate, self._writer = None, writer
        for frames in self._send_buffer.take():
            writer.write(frames.frame)
        self._wake()
        if self.phase is Phase.CLOSING:
            writer.close(self._close_code)
            self._close(self.end_reason)
        else:
            self._observer.session_upgraded(self)
            self.notify_if_drained()
        return True

    def writer_closed(self, writer: FrameWriter) -> None:
        """The connection of a WebSocket is gone: an upgrade that fails leaves the session on polling."""
        if self._writer is writer:
            self.lost("transport_close")
        elif self._candidate is writer:
            self._candidate = None

    # ending

    def end(self, code: int, reason: str) -> None:
        """Let the client have what waits, then close: a close frame with ``code``, or a close packet alone."""
        if self.phase is not Phase.OPEN:
            return
        self.phase, self.end_reason, self._close_code = Phase.CLOSING, reason, code
        if self._writer is not None:
            self._writer.close(code)
            self._close(reason)
        else:
            self._wake()

    def fail(self, reason: str) -> None:
        """The client broke the protocol: close, and wait for nobody who does not listen right now."""
        if self._writer is None and self._poll is None:
            self.lost(reason)
        else:
            self.end(1002, reason)

    def abort(self, reason: str) -> None:
        """Drop the client without a word; on polling its sid is forgotten."""
        if self._writer is not None:
            self._writer.abort()
        self.lost(reason)

    def lost(self, reason: str) -> None:
        """The carrier is gone."""
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


def _deflated(frames: Frames, from_bytes: int) -> bytes:
    return frames.frame if len(frames.frame) < from_bytes else frames.compressed


Deliver = Callable[[EngineSession, str | bytes], Awaitable[None]]
"""Hands one message of a client to the layer above."""


TOO_LARGE: Final = "message_too_large"
"""Why a session ended whose client sent more."""


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """Bytes of one message, once a namespace was joined and before."""

    joined_bytes: int
    unauthenticated_bytes: int

    def of(self, session: EngineSession) -> int:
        """What that client may send now."""
        return self.joined_bytes if session.joined else self.unauthenticated_bytes
