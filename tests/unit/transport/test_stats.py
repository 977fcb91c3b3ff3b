"""The statistics of all sessions."""

from __future__ import annotations

from gateway.transport.packets import message
from gateway.transport.stats import collect_stats
from tests.support.loop_turns import with_turns
from tests.unit.transport.recording import (
    RecordingObserver,
    RecordingWriter,
    polling_session,
    websocket_session,
)


async def test_sessions_are_counted_by_transport_and_waiting_bytes_are_added_up(
    observer: RecordingObserver,
) -> None:
    idle, congested = RecordingWriter(), RecordingWriter()
    congested.waiting, congested.gathered = 50, 20
    sessions = [
        websocket_session(observer, idle),
        websocket_session(observer, congested),
        polling_session(observer),
        polling_session(observer),
    ]
    sessions[2].send(message("hello"))

    stats = await collect_stats(sessions)

    assert stats.by_transport == {"polling": 2, "websocket": 2}
    assert stats.waiting_bytes == 70 + message("hello").record_bytes
    assert (stats.largest_bytes, stats.waiting_sessions) == (70, 2)


async def test_closed_session_is_not_counted(observer: RecordingObserver) -> None:
    session = polling_session(observer)
    session.abort("transport_close")

    assert (await collect_stats([session])).by_transport == {"polling": 0, "websocket": 0}


async def test_loop_turns_while_many_sessions_are_counted(observer: RecordingObserver) -> None:
    sessions = [polling_session(observer) for _ in range(5_000)]
    stats, turns = await with_turns(collect_stats(sessions))

    assert stats.by_transport["polling"] == 5_000
    assert turns >= 8
