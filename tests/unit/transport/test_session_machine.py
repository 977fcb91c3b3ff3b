"""Any order of sends, polls, probes, packets and ends: nothing is lost, doubled, reordered or kept without a bound."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.transport import packets
from gateway.transport.packets import Packet, message
from gateway.transport.session import Phase
from tests.unit.transport.recording import (
    RecordingObserver,
    RecordingPoll,
    RecordingWriter,
    polling_session,
    websocket_session,
)

LIMIT = 100
LONGEST = 2 * LIMIT
MESSAGE_HEAD = b"4"


class ReadingWriter(RecordingWriter):
    """A WebSocket whose client reads when the test lets it; unread bytes wait."""

    def write(self, frame: bytes, /) -> None:
        super().write(frame)
        self.waiting += len(frame)


class SessionMachine(RuleBasedStateMachine):
    """The transports always have a prefix of what the session accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.observer = RecordingObserver()
        self.session = polling_session(self.observer, send_buffer_bytes=LIMIT)
        self.writer: ReadingWriter | None = None
        self.candidate: ReadingWriter | None = None
        self.probed = False
        self.poll: RecordingPoll | None = None
        self.accepted: list[str] = []
        self.polled: list[str] = []
        self.number = 0
        self.written_when_closed: int | None = None

    @initialize(websocket=st.booleans())
    def open(self, websocket: bool) -> None:
        if websocket:
            self.writer = ReadingWriter()
            self.session = websocket_session(self.observer, self.writer)

    # what the model knows

    @property
    def received(self) -> list[str]:
        """What the client received or will receive from a kernel buffer: over polls, then over the WebSocket."""
        texts = []
        for frame in self.writer.frames if self.writer is not None else []:
            body = frame[2:] if frame[1] < 126 else frame[4:]
            if body.startswith(MESSAGE_HEAD):
                texts.append(body[1:].decode())
        return self.polled + texts

    @property
    def waiting(self) -> list[str]:
        return self.accepted[len(self.received) :]

    # rules

    @rule(length=st.integers(0, LONGEST), volatile=st.booleans())
    def send(self, length: int, volatile: bool) -> None:
        self.number += 1
        text = f"{self.number}:" + "x" * length
        was_open = self.session.phase is Phase.OPEN
        skipped = len(self.observer.skipped)
        self.session.send(message(text), volatile=volatile)
        if was_open and not self.session.is_closed and len(self.observer.skipped) == skipped:
            self.accepted.append(text)

    @rule()
    def ping(self) -> None:
        self.session.ping()

    @precondition(lambda self: self.writer is None and not self.session.is_closed)
    @rule()
    def park(self) -> None:
        poll = RecordingPoll()
        if self.session.park(poll):
            assert self.poll is None
            self.poll = poll
        else:
            assert self.poll is not None
            assert self.poll.woken == 1

    @precondition(lambda self: self.poll is not None and self.poll.woken)
    @rule()
    def collect(self) -> None:
        self.poll = None
        forgotten = self.session.is_closed
        payload = self.session.collect()
        if payload is None:
            # Nothing may be lost with the error: what waited was sent before.
            assert forgotten or (self.session.reconnects and self.waiting == [])
            return
        received = list(packets.decode_payload(payload))
        if Packet(packets.CLOSE, "") in received:
            assert len(received) == 1
            assert self.waiting == []
        self.polled += [str(packet.data) for packet in received if packet.type == packets.MESSAGE]

    @precondition(lambda self: self.poll is not None)
    @rule()
    def cancel_the_poll(self) -> None:
        self.poll = None
        self.session.poll_lost()

    @precondition(lambda self: self.writer is None and self.candidate is None)
    @rule()
    def start_an_upgrade(self) -> None:
        writer = ReadingWriter()
        if self.session.start_upgrade(writer):
            self.candidate, self.probed = writer, False

    @precondition(lambda self: self.candidate is not None and not self.probed)
    @rule()
    def probe(self) -> None:
        assert self.candidate is not None
        self.session.probe(self.candidate)
        self.probed = True

    @precondition(lambda self: self.candidate is not None and self.probed)
    @rule()
    def upgrade(self) -> None:
        assert self.candidate is not None
        writer, self.candidate = self.candidate, None
        if not self.session.is_closed:
            writer.frames.clear()
            self.writer = writer
            assert self.session.upgrade(writer)
        else:
            assert not self.session.upgrade(writer)

    @precondition(lambda self: self.candidate is not None)
    @rule()
    def fail_to_upgrade(self) -> None:
        assert self.candidate is not None
        writer, self.candidate = self.candidate, None
        self.session.writer_closed(writer)

    @rule()
    def release_the_poll(self) -> None:
        self.session.release_poll()

    @precondition(lambda self: self.writer is not None)
    @rule()
    def read_the_websocket(self) -> None:
        assert self.writer is not None
        self.writer.waiting = 0

    @precondition(lambda self: self.writer is not None)
    @rule()
    def lose_the_websocket(self) -> None:
        assert self.writer is not None
        self.session.writer_closed(self.writer)

    @rule(kind=st.sampled_from("33333344441256"))
    def receive(self, kind: str) -> None:
        was_open = self.session.phase is Phase.OPEN
        received = self.session.receive(Packet(kind, "data"))
        assert received == ("data" if kind == packets.MESSAGE and was_open else None)

    @rule(code=st.sampled_from([1000, 1012, 4401, None]), reconnects=st.booleans())
    def end(self, code: int | None, reconnects: bool) -> None:
        self.session.end(code, "ended", reconnects=reconnects)

    @rule()
    def abort(self) -> None:
        self.session.abort("aborted")

    # invariants

    @invariant()
    def received_is_a_prefix_of_accepted(self) -> None:
        assert self.received == self.accepted[: len(self.received)]

    @invariant()
    def nothing_waits_on_a_websocket(self) -> None:
        if self.writer is not None and not self.session.is_closed:
            assert self.waiting == []

    @invariant()
    def poll_is_woken_when_something_waits(self) -> None:
        if self.poll is not None and (self.waiting or self.session.phase is not Phase.OPEN):
            assert self.poll.woken == 1

    @invariant()
    def waiting_bytes_are_bounded(self) -> None:
        if not self.session.is_closed:
            sizes = [len(text) + 1 for text in self.waiting]
            assert sum(sizes) <= LIMIT or len(sizes) == 1
        if self.writer is not None:
            # A full send buffer at the upgrade or one packet that is larger, and then the limit again.
            assert self.writer.waiting <= LIMIT + LONGEST

    @invariant()
    def end_is_reported_once(self) -> None:
        assert len(self.observer.closed) == (1 if self.session.is_closed else 0)

    @invariant()
    def nothing_is_written_after_the_end(self) -> None:
        if not self.session.is_closed:
            return
        written = len(self.writer.frames) if self.writer is not None else 0
        if self.written_when_closed is None:
            self.written_when_closed = written
        assert written == self.written_when_closed

    def teardown(self) -> None:
        """Check that a client that keeps reading receives everything, and then the end if there is one."""
        if self.writer is not None or self.session.is_closed:
            return
        for _ in range(3):
            if self.poll is None:
                self.park()
            if self.poll is None or not self.poll.woken:
                break
            self.collect()
        assert self.received == self.accepted
        assert self.session.phase is not Phase.CLOSING


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
