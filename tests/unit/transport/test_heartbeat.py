"""Engine.IO 4, §Heartbeat."""

from __future__ import annotations

import pytest

from gateway.transport.heartbeat import Heartbeat
from gateway.transport.packets import Packet, message
from gateway.transport.session import EngineSession
from tests.support.clock import FakeSchedule
from tests.unit.transport.recording import (
    RecordingObserver,
    RecordingPoll,
    RecordingWriter,
    polling_session,
    websocket_session,
)

PING = b"\x81\x012"


def pong(session: EngineSession) -> None:
    session.receive(Packet("3", ""))


@pytest.fixture
def heartbeat(schedule: FakeSchedule) -> Heartbeat:
    return Heartbeat(schedule, interval_seconds=25, timeout_seconds=20)


def test_session_is_pinged_once_every_interval(
    observer: RecordingObserver, schedule: FakeSchedule, heartbeat: Heartbeat
) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer)
    heartbeat.watch(session)

    pings = []
    for _ in range(3):
        schedule.advance(24.9)
        pings.append(len(writer.frames))
        schedule.advance(0.1)
        pings.append(len(writer.frames))
        pong(session)

    assert pings == [0, 1, 1, 2, 2, 3]
    assert writer.frames == [PING] * 3


def test_session_without_a_pong_in_time_is_aborted(
    observer: RecordingObserver, schedule: FakeSchedule, heartbeat: Heartbeat
) -> None:
    writer = RecordingWriter()
    heartbeat.watch(websocket_session(observer, writer))

    schedule.advance(44.9)
    before = list(observer.closed)
    schedule.advance(0.1)

    assert (before, observer.closed, writer.aborted, len(schedule)) == ([], ["ping_timeout"], True, 0)


def test_session_without_a_poll_is_aborted(
    observer: RecordingObserver, schedule: FakeSchedule, heartbeat: Heartbeat
) -> None:
    heartbeat.watch(polling_session(observer))

    schedule.advance(45)

    assert observer.closed == ["ping_timeout"]


def test_short_interval_is_kept_under_a_long_timeout(
    observer: RecordingObserver, schedule: FakeSchedule
) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer)
    Heartbeat(schedule, interval_seconds=5, timeout_seconds=20).watch(session)

    for _ in range(10):
        schedule.advance(5)
        pong(session)

    assert len(writer.frames) == 10


def test_late_pong_is_accepted_under_a_long_timeout_and_a_missing_one_is_not(
    observer: RecordingObserver, schedule: FakeSchedule
) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer)
    Heartbeat(schedule, interval_seconds=5, timeout_seconds=20).watch(session)

    schedule.advance(24)
    pong(session)
    schedule.advance(1)
    after_a_late_pong = (len(writer.frames), list(observer.closed))
    schedule.advance(19.9)
    before = list(observer.closed)
    schedule.advance(0.1)

    assert (after_a_late_pong, before, observer.closed) == ((2, []), [], ["ping_timeout"])


def test_closing_session_that_does_not_read_is_aborted_at_the_next_ping(
    observer: RecordingObserver, schedule: FakeSchedule, heartbeat: Heartbeat
) -> None:
    session = polling_session(observer)
    heartbeat.watch(session)
    session.send(message("last"))
    session.end(1012, "draining")

    schedule.advance(25)

    assert (observer.closed, len(schedule)) == (["draining"], 0)


def test_unwatched_session_has_no_timer(
    observer: RecordingObserver, schedule: FakeSchedule, heartbeat: Heartbeat
) -> None:
    session = polling_session(observer)
    heartbeat.watch(session)

    heartbeat.unwatch(session)
    heartbeat.unwatch(session)

    assert (len(schedule), session.heartbeat_timer) == (0, None)


def test_slow_client_is_not_kept_alive_by_an_old_pong(
    observer: RecordingObserver, schedule: FakeSchedule, heartbeat: Heartbeat
) -> None:
    session = polling_session(observer)
    heartbeat.watch(session)
    schedule.advance(25)
    session.park(RecordingPoll())
    session.collect()
    pong(session)

    schedule.advance(25 + 20)

    assert observer.closed == ["ping_timeout"]
