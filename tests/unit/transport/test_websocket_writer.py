"""The WebSocket that frames are written to."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.transport.packets import close_frame
from gateway.transport.websocket_writer import CLOSE_SECONDS, WebSocketWriter
from tests.support.clock import FakeSchedule


class RecordingTransport:
    """A transport of the loop; like uvloop's it raises when it is written to after its connection is gone."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.acts: list[str] = []
        self.gone = False

    def write(self, data: bytes) -> None:
        if self.gone:
            raise RuntimeError("the handler is closed")
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written))

    def close(self) -> None:
        self.acts.append("close")

    def abort(self) -> None:
        self.acts.append("abort")


class World:
    """A wire, what is under it, and how often its loss was told."""

    def __init__(self, schedule: FakeSchedule) -> None:
        self.under = RecordingTransport()
        self.losses = 0
        self.writer = WebSocketWriter(cast(asyncio.Transport, self.under), schedule)
        self.writer.owner = self

    def writer_closed(self, _: WebSocketWriter) -> None:
        self.losses += 1


@pytest.fixture
def world(schedule: FakeSchedule) -> World:
    return World(schedule)


def test_a_frame_goes_straight_to_the_transport(world: World) -> None:
    world.writer.write(b"frame")

    assert (world.under.written, world.writer.bytes_waiting()) == ([b"frame"], 5)


def test_one_close_frame_is_sent_and_its_answer_waited_for(world: World, schedule: FakeSchedule) -> None:
    world.writer.close(1012)
    world.writer.close(1000)
    schedule.advance(CLOSE_SECONDS - 0.1)
    before = list(world.under.acts)
    schedule.advance(0.1)

    assert world.under.written == [close_frame(1012)]
    assert (before, world.under.acts) == ([], ["abort"])


@pytest.mark.parametrize("code", [1005, 1006, 1015])
def test_a_code_that_is_never_sent_becomes_one_that_is(world: World, code: int) -> None:
    world.writer.close(code)

    assert world.under.written == [close_frame(1011)]


def test_once_the_connection_is_gone_everything_is_taken_and_nothing_done(
    world: World, schedule: FakeSchedule
) -> None:
    world.writer.write(b"frame")
    world.under.gone = True
    world.writer.connection_lost()

    world.writer.write(b"late")
    world.writer.close(1000)
    world.writer.finish()
    world.writer.connection_lost()

    assert (world.under.written, world.under.acts, world.losses) == ([b"frame"], [], 1)
    assert (world.writer.bytes_waiting(), len(schedule)) == (0, 0)


def test_a_connection_that_goes_after_the_close_frame_leaves_no_timer(
    world: World, schedule: FakeSchedule
) -> None:
    world.writer.close(1000)
    world.writer.connection_lost()

    assert len(schedule) == 0


def test_finishing_says_goodbye_and_closes_and_is_told_at_once(world: World, schedule: FakeSchedule) -> None:
    world.writer.finish()
    world.writer.write(b"late")

    assert (world.under.written, world.under.acts, world.losses) == ([close_frame(1000)], ["close"], 1)
    world.writer.connection_lost()
    assert (len(schedule), world.losses) == (0, 1)


def test_a_client_that_does_not_take_the_goodbye_is_cut_off(world: World, schedule: FakeSchedule) -> None:
    world.writer.finish()

    schedule.advance(CLOSE_SECONDS)

    assert world.under.acts == ["close", "abort"]
