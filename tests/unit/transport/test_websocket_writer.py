"""The WebSocket that frames are written to."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest

from gateway.hub import GatheredFrames
from gateway.transport.packets import close_frame
from gateway.transport.websocket_writer import CLOSE_SECONDS, ENDED_SECONDS, WebSocketWriter
from tests.support.clock import FakeSchedule


class RecordingTransport:
    """Records writes. Like uvloop's transport it raises if it is written to after the connection is lost."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.calls: list[str] = []
        self.is_lost = False

    def write(self, data: bytes) -> None:
        if self.is_lost:
            raise RuntimeError("the handler is closed")
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written))

    def is_closing(self) -> bool:
        return "close" in self.calls

    def write_eof(self) -> None:
        self.calls.append("write_eof")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def get_extra_info(self, name: str) -> RecordingTransport:
        assert name == "socket"
        return self

    def setsockopt(self, _level: int, option: int, _value: bytes) -> None:
        assert option == socket.SO_LINGER
        self.calls.append("reset")


class WriterHarness:
    """A writer, its transport, and how often its owner was notified of the end."""

    def __init__(self, schedule: FakeSchedule) -> None:
        self.transport = RecordingTransport()
        self.times_closed = 0
        self.gathered: GatheredFrames = {}
        self.writer = WebSocketWriter(
            cast(asyncio.Transport, self.transport), schedule, gathered=self.gathered
        )
        self.writer.owner = self

    def writer_closed(self, _: WebSocketWriter) -> None:
        self.times_closed += 1


@pytest.fixture
def harness(schedule: FakeSchedule) -> WriterHarness:
    return WriterHarness(schedule)


def test_frame_is_written_to_the_transport_directly(harness: WriterHarness) -> None:
    harness.writer.write(b"frame")

    assert (harness.transport.written, harness.writer.bytes_waiting()) == ([b"frame"], 5)


def test_close_frame_is_sent_once_and_its_answer_awaited(
    harness: WriterHarness, schedule: FakeSchedule
) -> None:
    harness.writer.close(1012)
    harness.writer.close(1000)
    schedule.advance(CLOSE_SECONDS - 0.1)
    before = list(harness.transport.calls)
    schedule.advance(0.1)

    assert harness.transport.written == [close_frame(1012)]
    assert (before, harness.transport.calls) == ([], ["reset", "abort"])


def test_stream_that_ends_without_a_close_frame_is_half_closed_behind_what_waits(
    harness: WriterHarness, schedule: FakeSchedule
) -> None:
    harness.writer.write(b"first")
    harness.gathered[cast(asyncio.Transport, harness.transport)] = [b"gathered"]

    harness.writer.close(None)
    harness.writer.close(1000)
    harness.writer.write(b"late")
    before = list(harness.transport.calls)
    schedule.advance(CLOSE_SECONDS)

    assert harness.transport.written == [b"first", b"gathered"]
    assert (before, harness.transport.calls) == (["write_eof"], ["write_eof", "reset", "abort"])


def test_client_that_has_everything_and_does_not_close_its_side_is_cut_off_soon(
    harness: WriterHarness, schedule: FakeSchedule
) -> None:
    harness.writer.close(None)
    schedule.advance(ENDED_SECONDS - 0.1)
    before = list(harness.transport.calls)
    schedule.advance(0.1)

    assert (before, harness.transport.calls) == (["write_eof"], ["write_eof", "abort"])


@pytest.mark.parametrize("code", [1005, 1006, 1015])
def test_code_that_is_never_sent_is_replaced(harness: WriterHarness, code: int) -> None:
    harness.writer.close(code)

    assert harness.transport.written == [close_frame(1011)]


def test_lost_connection_accepts_every_call_and_does_nothing(
    harness: WriterHarness, schedule: FakeSchedule
) -> None:
    harness.writer.write(b"frame")
    harness.transport.is_lost = True
    harness.writer.connection_lost()

    harness.writer.write(b"late")
    harness.writer.close(1000)
    harness.writer.finish()
    harness.writer.connection_lost()

    assert (harness.transport.written, harness.transport.calls, harness.times_closed) == ([b"frame"], [], 1)
    assert (harness.writer.bytes_waiting(), len(schedule)) == (0, 0)


def test_connection_that_is_lost_after_the_close_frame_leaves_no_timer(
    harness: WriterHarness, schedule: FakeSchedule
) -> None:
    harness.writer.close(1000)
    harness.writer.connection_lost()

    assert len(schedule) == 0


def test_finish_sends_a_close_frame_and_notifies_the_owner_at_once(
    harness: WriterHarness, schedule: FakeSchedule
) -> None:
    harness.writer.finish()
    harness.writer.write(b"late")

    assert (harness.transport.written, harness.transport.calls, harness.times_closed) == (
        [close_frame(1000)],
        ["close"],
        1,
    )
    harness.writer.connection_lost()
    assert (len(schedule), harness.times_closed) == (0, 1)


def test_client_that_does_not_read_the_close_frame_is_aborted(
    harness: WriterHarness, schedule: FakeSchedule
) -> None:
    harness.writer.finish()

    schedule.advance(CLOSE_SECONDS)

    assert harness.transport.calls == ["close", "abort"]


# frames that the hub has gathered


def test_gathered_frames_are_sent_before_a_later_one_in_one_write(harness: WriterHarness) -> None:
    harness.gathered[harness.writer.socket] = [b"one ", b"two "]
    before = harness.writer.bytes_gathered()

    harness.writer.write(b"three")
    harness.writer.write(b"four")

    assert (before, harness.writer.bytes_gathered(), harness.gathered) == (8, 0, {})
    assert harness.transport.written == [b"one two three", b"four"]


def test_frames_of_other_sockets_stay_gathered(harness: WriterHarness) -> None:
    other = RecordingTransport()
    harness.gathered[other] = [b"other"]

    harness.writer.write(b"frame")

    assert (harness.transport.written, harness.gathered) == ([b"frame"], {other: [b"other"]})


@pytest.mark.parametrize("end", ["close", "finish"])
def test_gathered_frames_are_sent_before_the_close_frame(harness: WriterHarness, end: str) -> None:
    harness.gathered[harness.writer.socket] = [b"news"]

    if end == "close":
        harness.writer.close(1000)
    else:
        harness.writer.finish()

    assert (harness.transport.written, harness.gathered) == ([b"news" + close_frame(1000)], {})


@pytest.mark.parametrize("end", ["abort", "connection_lost"])
def test_gathered_frames_are_dropped_with_the_connection(harness: WriterHarness, end: str) -> None:
    harness.gathered[harness.writer.socket] = [b"news"]

    getattr(harness.writer, end)()

    assert (harness.transport.written, harness.gathered) == ([], {})
