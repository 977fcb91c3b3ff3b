"""Frames of messages that follow each other are written to each socket at once, and nothing overtakes them."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.messages import Message, new_id
from gateway.domain.positions import Position
from gateway.domain.traces import Trace
from gateway.hub import Connection, Hub
from gateway.hub.fan_out import GATHER_SECONDS, LARGE_BYTES, MAX_SLICE_SECONDS, STEP
from gateway.metrics import MetricFactory
from gateway.socketio_server.client import Client, SocketIOTransport
from gateway.transport.packets import close_frame, message
from gateway.transport.session import EngineSession
from gateway.transport.websocket_writer import WebSocketWriter
from tests.support.clock import FakeSchedule
from tests.support.loop_turns import with_turns
from tests.support.metrics import counted
from tests.unit.hub.transports import encode, identity
from tests.unit.transport.recording import HANDSHAKE, RecordingObserver

POSITION = Position("1-0")
SEND_BUFFER_BYTES = 100_000


class RecordingSocket:
    """Records each write. A test sets how many bytes it reports as waiting."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.waiting = 0
        self.is_aborted = False

    def write(self, data: bytes, /) -> None:
        assert not self.is_aborted
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def get_extra_info(self, name: str, /) -> Any:
        return self if name == "socket" else None

    def setsockopt(self, level: int, name: int, value: bytes, /) -> None:
        assert (level, name) == (socket.SOL_SOCKET, socket.SO_LINGER)

    def abort(self) -> None:
        self.is_aborted = True


class Peer:
    """A connection with a real session and writer on a socket that records."""

    def __init__(self, hub: Hub, sid: str, *rooms: str) -> None:
        self.socket = RecordingSocket()
        self.observer = RecordingObserver()
        schedule = FakeSchedule()
        writer = WebSocketWriter(cast(asyncio.Transport, self.socket), schedule, gathered=hub.gathered)
        self.session = EngineSession(
            sid,
            handshake=HANDSHAKE,
            observer=self.observer,
            send_buffer_bytes=SEND_BUFFER_BYTES,
            writer=writer,
        )
        client = Client(self.session, schedule.after(10.0, lambda: None), cast("object", self))  # type: ignore[arg-type]  # no connection is closed
        self.connection = Connection(sid, "/", identity(sid), SocketIOTransport(client, "/"), 0.0)
        self.connection.go_live()
        hub.add(self.connection, {sid, *rooms})


class GatheringHarness:
    """A hub, and what was reported of its deliveries."""

    def __init__(self, **options: Any) -> None:
        self.metrics = MetricFactory()
        self.traced: list[tuple[str, int, list[bytes]]] = []
        self.hub = Hub(encode, metrics=self.metrics, deliveries=self, **options)
        self.peer = self.join("a", "x")

    def join(self, sid: str, *rooms: str) -> Peer:
        return Peer(self.hub, sid, *rooms)

    def delivered(self, message: Message, connections: int, seconds: float) -> None:
        assert seconds >= 0
        self.traced.append((message.event, connections, list(self.peer.socket.written)))

    def replayed(self, message: Message, sid: str) -> None:
        raise AssertionError("nothing is replayed")

    async def push(self, event: str, *rooms: str, more: bool, **options: object) -> Message:
        pushed = Message(new_id(), "/", rooms or ("x",), event, (), **options)  # type: ignore[arg-type]
        await self.hub.deliver(pushed, POSITION, more=more)
        return pushed


class Clock:
    """Stands still, or is a second later at each reading, which ends every slice."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("gateway.hub.fan_out.time.monotonic", clock)
    return clock


@pytest.fixture
def harness() -> GatheringHarness:
    return GatheringHarness()


def frames(*events: str) -> bytes:
    return b"".join([message(event).frame for event in events])


async def test_message_without_another_behind_it_is_written_at_once(harness: GatheringHarness) -> None:
    await harness.push("one", more=False)
    await harness.push("two", more=False)

    assert harness.peer.socket.written == [frames("one"), frames("two")]


async def test_messages_that_follow_each_other_are_one_write(harness: GatheringHarness) -> None:
    other = harness.join("b", "y")
    for event, room in (("one", "x"), ("two", "y"), ("three", "x")):
        await harness.push(event, room, more=True)
    before = list(harness.peer.socket.written)
    await harness.push("last", "x", more=False)

    assert (before, harness.peer.socket.written) == ([], [frames("one", "three", "last")])
    assert other.socket.written == [frames("two")]
    assert counted(harness.metrics, "deliveries_total") == {"message": 4}


async def test_last_message_without_recipients_lets_the_others_be_written(harness: GatheringHarness) -> None:
    await harness.push("one", more=True)
    await harness.push("nobody", "empty", more=False)

    assert harness.peer.socket.written == [frames("one")]


async def test_packet_of_the_session_is_written_behind_gathered_frames(harness: GatheringHarness) -> None:
    await harness.push("one", more=True)
    harness.peer.session.send(message("ack"))
    await harness.push("two", more=True)
    harness.peer.session.batch(message("connect"), message("authenticated"))
    await harness.push("three", more=True)
    harness.peer.session.ping()

    assert harness.peer.socket.written == [
        frames("one", "ack"),
        frames("two", "connect", "authenticated"),
        frames("three") + b"\x81\x012",
    ]


async def test_callback_of_a_delivery_sends_behind_its_message(harness: GatheringHarness) -> None:
    pushed = Message(new_id(), "/", ("x",), "own", ())

    def acknowledge() -> None:
        harness.peer.session.send(message("ack"))

    harness.hub.delivery_callbacks[pushed.id] = acknowledge

    await harness.hub.deliver(pushed, POSITION, more=True)
    await harness.push("next", more=False)

    assert harness.peer.socket.written == [frames("own", "ack"), frames("next")]


async def test_end_of_a_session_sends_gathered_frames_before_its_close_frame(
    harness: GatheringHarness,
) -> None:
    await harness.push("one", more=True)
    harness.peer.session.end(1012, "drained")
    harness.peer.connection.close()
    await harness.push("two", more=False)

    assert harness.peer.socket.written == [frames("one") + close_frame(1012)]


async def test_gathered_frames_of_an_aborted_connection_are_dropped(harness: GatheringHarness) -> None:
    other = harness.join("b", "x")
    await harness.push("one", more=True)
    harness.peer.session.abort("slow_consumer")
    harness.peer.connection.close()
    await harness.push("two", more=False)

    assert (harness.peer.socket.written, other.socket.written) == ([], [frames("one", "two")])
    assert harness.hub.gathered == {}


async def test_gathered_bytes_count_as_waiting(harness: GatheringHarness) -> None:
    await harness.push("one", more=True)
    gathered = harness.peer.session.bytes_waiting
    await harness.push("two", more=False)

    assert (gathered, harness.peer.session.bytes_waiting) == (len(frames("one")), 0)


async def test_socket_with_waiting_bytes_is_left_to_the_session(harness: GatheringHarness) -> None:
    other = harness.join("b", "x")
    harness.peer.socket.waiting = 1

    await harness.push("one", more=True)
    await harness.push("now", more=True, volatile=True)
    await harness.push("two", more=False)

    assert harness.peer.socket.written == [frames("one"), frames("two")]
    assert harness.peer.observer.skipped == ["bytes_waiting"]
    assert other.socket.written == [frames("one", "now", "two")]


async def test_gathered_frames_are_written_once_they_are_as_many_bytes_as_may_wait() -> None:
    harness = GatheringHarness(gather_bytes=2048)
    long = "x" * 700
    for _ in range(4):
        await harness.push(long, more=True)

    assert harness.peer.socket.written == [frames(long, long, long)]


async def test_bytes_of_a_message_count_once_for_all_recipients() -> None:
    harness = GatheringHarness(gather_bytes=2048)
    for number in range(4 * STEP):
        harness.join(f"s{number}", "x")

    await harness.push("x" * 700, more=True)

    assert harness.peer.socket.written == []


async def test_client_that_does_not_read_is_aborted_at_its_limit(harness: GatheringHarness) -> None:
    await harness.push("x" * 1000, more=True)
    await harness.push("x" * 1000, more=False)
    harness.peer.socket.waiting = SEND_BUFFER_BYTES
    await harness.push("one", more=True)

    assert (harness.peer.socket.is_aborted, harness.peer.observer.closed) == (True, ["slow_consumer"])


async def test_large_message_is_written_at_once_unless_others_wait_before_it(
    harness: GatheringHarness,
) -> None:
    large = "x" * LARGE_BYTES
    await harness.push(large, more=True)
    at_once = list(harness.peer.socket.written)
    await harness.push("small", more=True)
    await harness.push(large, more=False)

    assert at_once == [frames(large)]
    assert harness.peer.socket.written[1:] == [frames("small", large)]


async def test_gathered_frames_wait_for_later_messages_beyond_a_slice(
    harness: GatheringHarness, clock: Clock
) -> None:
    await harness.push("one", more=True)
    clock.now += 1.5 * MAX_SLICE_SECONDS
    _, turns = await with_turns(harness.push("two", more=True))
    before = list(harness.peer.socket.written)
    await harness.push("three", more=False)

    assert (turns, before, harness.peer.socket.written) == (1, [], [frames("one", "two", "three")])


async def test_gathered_frames_are_written_before_the_event_loop_turns_once_they_are_old(
    harness: GatheringHarness, clock: Clock
) -> None:
    await harness.push("one", more=True)
    clock.now += 1.5 * GATHER_SECONDS
    seen: list[list[bytes]] = []

    async def look() -> None:
        while True:
            seen.append(list(harness.peer.socket.written))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    await harness.push("two", more=True)
    looking.cancel()

    assert seen
    assert seen[0] == [frames("one", "two")]


async def test_writing_gathered_frames_yields_to_the_event_loop(
    harness: GatheringHarness, clock: Clock
) -> None:
    peers = [harness.join(f"s{number}", "x") for number in range(10 * STEP)]
    await harness.push("one", more=True)
    clock.step = 1.0

    _, turns = await with_turns(harness.push("nobody", "empty", more=False))

    assert turns == pytest.approx(10, abs=2)
    assert all(peer.socket.written == [frames("one")] for peer in peers)


async def test_traced_and_timed_messages_are_reported_once_they_are_written(
    harness: GatheringHarness,
) -> None:
    trace = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1)
    timed = Message(new_id(), "/", ("x",), "timed", ())
    harness.hub.delivery_timer.start(timed)
    await harness.push("traced", more=True, trace=trace)
    await harness.hub.deliver(timed, POSITION, more=True)
    before = (list(harness.traced), timed.id in harness.hub.delivery_timer.started)
    await harness.push("last", more=False)

    assert before == ([], True)
    assert harness.traced == [("traced", 1, [frames("traced", "timed", "last")])]
    assert counted(harness.metrics, "delivery_duration_seconds_count") == {"": 1}


STEPS = st.lists(
    st.sampled_from(["push", "push and wait", "send", "volatile", "waiting", "free"]), max_size=40
)


@given(STEPS)
async def test_frames_keep_the_order_in_which_they_were_sent(steps: list[str]) -> None:
    harness = GatheringHarness()
    socket, expected = harness.peer.socket, []
    for number, step in enumerate(steps):
        event = f"{step}{number}"
        if step == "free":
            socket.waiting = 0
        elif step == "waiting":
            # Bytes wait only after a write.
            socket.waiting = 0 if harness.hub.gathered else 1
        elif step == "send":
            harness.peer.session.send(message(event))
            expected.append(event)
        else:
            if step != "volatile" or not socket.waiting:
                expected.append(event)
            await harness.push(event, more=step != "push and wait", volatile=step == "volatile")
    await harness.push("last", more=False)

    assert b"".join(socket.written) == frames(*expected, "last")
