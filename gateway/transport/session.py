"""One Engine.IO session as a state machine without I/O: it decides what to send and when to end.

It is told what arrives (packets, polls, a WebSocket) and acts only through the carriers it was given: a ``Wire`` to
write frames to, a ``Poll`` that waits for an answer. Everything is synchronous; who calls it does the waiting.

    OPEN ──end()──▶ ENDING ──flushed, or given up──▶ CLOSED
      └────────────────abort(), lost()───────────────▶ CLOSED

On polling, what cannot be sent yet waits in the outbox; on a WebSocket it waits in the buffer of the wire. Both are
bounded by ``outbox_bytes``: who does not read is let go (law 3).

How much one message of a client may be: a WebSocket frame or all its fragments, the body of a post.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from gateway.ports import Frames, Socket, Timer
from gateway.transport import packets
from gateway.transport.carriers import Outbox, Poll, Wire
from gateway.transport.handshake import Handshake
from gateway.transport.packets import Packet

CLIENT_CLOSE: Final = "client_close"
FRAME_BYTES: Final = 1024
"""What the event loop keeps for a frame that waits, beside its bytes (measured: 830 with uvloop)."""


class Phase(Enum):
    """How far along a session is."""

    OPEN = "open"
    ENDING = "ending"
    CLOSED = "closed"


class Above(Protocol):
    """Who uses the session."""

    def session_closed(self, session: Session, reason: str) -> None:
        """Called once, whichever way it ended."""
        ...

    def session_upgraded(self, session: Session) -> None: ...

    def volatile_skipped(self, reason: str) -> None: ...


class Session:
    """One client on one or, while it upgrades, two carriers."""

    __slots__ = (
        "__weakref__",
        "_above",
        "_candidate",
        "_close_code",
        "_frames_waiting",
        "_outbox",
        "_outbox_bytes",
        "_poll",
        "_when_drained",
        "_wire",
        "_woken",
        "awaits_pong",
        "beat",
        "end_reason",
        "handshake",
        "joined",
        "phase",
        "posting",
        "sid",
    )

    def __init__(
        self, sid: str, *, handshake: Handshake, above: Above, outbox_bytes: int, wire: Wire | None = None
    ) -> None:
        self.sid = sid
        self.handshake = handshake
        self.phase = Phase.OPEN
        self.end_reason = ""
        self.posting = False
        self.joined = False
        """Set by the layer above once a namespace was joined; only small messages are taken until then."""
        self.awaits_pong = False
        self.beat: Timer | None = None
        """The next thing that the heartbeat does with it."""
        self._above = above
        self._outbox_bytes = outbox_bytes
        self._outbox = Outbox(outbox_bytes)
        self._wire = wire
        self._candidate: Wire | None = None
        self._poll: Poll | None = None
        self._woken = False
        self._frames_waiting = 0
        """At most so many frames wait on the wire."""
        self._close_code = 1000
        self._when_drained: list[Callable[[], None]] = []

    @property
    def transport(self) -> str:
        """The carrier in use, as Engine.IO calls it."""
        return "polling" if self._wire is None else "websocket"

    @property
    def closed(self) -> bool:
        return self.phase is Phase.CLOSED

    @property
    def direct(self) -> Socket | None:
        """Where frames go out as they are, if there is such a place: an open WebSocket without compression.

        It stays so until the layer above is told of the end of this session.
        """
        wire = self._wire
        if wire is None or self.phase is not Phase.OPEN or wire.deflates_from_bytes is not None:
            return None
        return wire.socket

    # sending

    def send(self, frames: Frames, *, volatile: bool = False) -> bool:
        """Send one packet, now or as soon as the client reads; a volatile one now or never. Whether it was taken."""
        if self.phase is not Phase.OPEN:
            return False
        if self._wire is not None:
            return self._write(self._wire, frames, volatile)
        return self._queue(frames, volatile)

    def send_together(self, *packets: Frames) -> None:
        """Send packets in one write where nothing stands against it: each write wakes the client's side."""
        direct = self.direct
        if direct is not None and not direct.get_write_buffer_size():
            direct.write(b"".join([frames.frame for frames in packets]))
            return
        for frames in packets:
            self.send(frames)

    def when_drained(self, action: Callable[[], None]) -> None:
        """Call it once little waits to be sent, or once the session has ended; at once if that is so."""
        self._when_drained.append(action)
        self.look_whether_drained()

    def look_whether_drained(self) -> None:
        """Something was sent that had waited."""
        if self._when_drained and (self.closed or self.is_drained):
            actions, self._when_drained = self._when_drained, []
            for action in actions:
                action()

    @property
    def bytes_waiting(self) -> int:
        """What is in this process and was not sent yet."""
        return self._outbox.bytes if self._wire is None else self._wire.bytes_waiting()

    @property
    def is_drained(self) -> bool:
        """Whether little waits to be sent."""
        return not self._outbox if self._wire is None else not self._wire.is_congested

    def _write(self, wire: Wire, frames: Frames, volatile: bool) -> bool:
        frame = frames.frame
        if wire.deflates_from_bytes is not None:
            frame = _deflated(frames, wire.deflates_from_bytes)
        waiting = wire.bytes_waiting()
        if waiting and volatile:
            self._above.volatile_skipped("bytes_waiting")
            return False
        self._frames_waiting = self._frames_waiting + 1 if waiting else 0
        if waiting and waiting + len(frame) + self._frames_waiting * FRAME_BYTES > self._outbox_bytes:
            self.abort("slow_consumer")
            return False
        wire.write(frame)
        return True

    def _queue(self, frames: Frames, volatile: bool) -> bool:
        if volatile and (self._candidate is not None or self._poll is None):
            self._above.volatile_skipped("no_poll" if self._candidate is None else "upgrading")
            return False
        if not self._outbox.put(frames):
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
        if self._wire is not None:
            self._wire.close(1000)

    # polling

    def park(self, poll: Poll) -> bool:
        """A GET arrived. False: another one is here already, which ends the session (§HTTP long-polling)."""
        if self._poll is not None:
            self.fail("overlapping_polls")
            return False
        self._poll, self._woken = poll, False
        if self._outbox or self.phase is not Phase.OPEN:
            self._wake()
        return True

    def collect(self) -> bytes | None:
        """What answers the poll that was woken: all that waits, or that there is nothing, or that the session ends.

        None: the session was forgotten. A close packet comes alone: with messages beside it the client would see
        them twice after a resume.
        """
        self._poll = None
        if self._outbox:
            payload = packets.encode_payload(self._outbox.take())
            self.look_whether_drained()
            return payload
        if self.phase is Phase.ENDING:
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
        if self._wire is None:
            self.lost("transport_error")

    def release_poll(self) -> None:
        """Answer a poll that waits although there is nothing to say, so that the client can switch (§Upgrade)."""
        self._wake()

    def _wake(self) -> None:
        if self._poll is not None and not self._woken:
            self._woken = True
            self._poll.wake()

    # upgrade

    def start_upgrade(self, wire: Wire) -> bool:
        """A WebSocket wants to take over. False: it may not; one at a time, once, and only from polling."""
        if self.phase is not Phase.OPEN or self._wire is not None or self._candidate is not None:
            return False
        self._candidate = wire
        return True

    def probe(self, wire: Wire) -> None:
        """The client tries the WebSocket (§Upgrade): answer there, and let the waiting poll go."""
        if self._candidate is wire:
            wire.write(packets.PROBE_ANSWER.frame)
            self._wake()

    def upgrade(self, wire: Wire) -> bool:
        """The client switched: all that waits goes out here, in order, and from now on everything.

        False: the session closed meanwhile. One that was ending says so here, since nobody polls any more.
        """
        if self._candidate is not wire:
            return False
        self._candidate, self._wire = None, wire
        for frames in self._outbox.take():
            wire.write(frames.frame)
        self._wake()
        if self.phase is Phase.ENDING:
            wire.close(self._close_code)
            self._close(self.end_reason)
        else:
            self._above.session_upgraded(self)
            self.look_whether_drained()
        return True

    def wire_lost(self, wire: Wire) -> None:
        """The connection of a WebSocket is gone: an upgrade that fails leaves the session on polling."""
        if self._wire is wire:
            self.lost("transport_close")
        elif self._candidate is wire:
            self._candidate = None

    # ending

    def end(self, code: int, reason: str) -> None:
        """Let the client have what waits, then close: a close frame with ``code``, or a close packet alone."""
        if self.phase is not Phase.OPEN:
            return
        self.phase, self.end_reason, self._close_code = Phase.ENDING, reason, code
        if self._wire is not None:
            self._wire.close(code)
            self._close(reason)
        else:
            self._wake()

    def fail(self, reason: str) -> None:
        """The client broke the protocol: close, and wait for nobody who does not listen right now."""
        if self._wire is None and self._poll is None:
            self.lost(reason)
        else:
            self.end(1002, reason)

    def abort(self, reason: str) -> None:
        """Drop the client without a word; on polling its sid is forgotten."""
        if self._wire is not None:
            self._wire.abort()
        self.lost(reason)

    def lost(self, reason: str) -> None:
        """The carrier is gone."""
        self._close(reason)
        self._outbox.take()
        self._wake()

    def _close(self, reason: str) -> None:
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        self.end_reason = reason
        if self._candidate is not None:
            self._candidate.close(1000)
            self._candidate = None
        self._above.session_closed(self, reason)
        self.look_whether_drained()


def _deflated(frames: Frames, from_bytes: int) -> bytes:
    return frames.frame if len(frames.frame) < from_bytes else frames.compressed


Deliver = Callable[[Session, str | bytes], Awaitable[None]]
"""Hands one message of a client to the layer above."""


TOO_LARGE: Final = "message_too_large"
"""Why a session ended whose client sent more."""


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """Bytes of one message, once a namespace was joined and before."""

    joined_bytes: int
    newcomer_bytes: int

    def of(self, session: Session) -> int:
        """What that client may send now."""
        return self.joined_bytes if session.joined else self.newcomer_bytes
