"""Every transition of a session, without a loop and without sockets."""

from __future__ import annotations

import pytest

from gateway.transport import packets
from gateway.transport.packets import Frames, Packet, message
from gateway.transport.session import FRAME_BYTES, Phase
from tests.unit.transport.recording import (
    SEND_BUFFER_BYTES,
    RecordingObserver,
    RecordingPoll,
    RecordingWriter,
    polling_session,
    websocket_session,
)

CLOSE, NOOP = b"1", b"6"


# pongs


def test_callback_is_called_by_the_pong_to_a_ping_that_was_sent_after_it(observer: RecordingObserver) -> None:
    session, called = websocket_session(observer, RecordingWriter()), []
    pong = Packet(packets.PONG, "")
    session.ping()
    session.after_pong(lambda: called.append("first"))

    session.receive(pong)
    assert called == []

    session.ping()
    session.after_pong(lambda: called.append("second"))
    session.receive(pong)
    assert called == ["first"]
    session.receive(pong)  # answers no ping
    assert called == ["first"]

    session.ping()
    session.receive(pong)
    assert called == ["first", "second"]


def test_callback_of_a_session_that_is_closed_is_never_called(observer: RecordingObserver) -> None:
    session, called = websocket_session(observer, RecordingWriter()), []
    session.after_pong(lambda: called.append("read"))
    session.ping()

    session.abort("ping_timeout")
    session.receive(Packet(packets.PONG, ""))

    assert called == []


# sending on a WebSocket


def test_packet_is_written_to_a_websocket_at_once(observer: RecordingObserver) -> None:
    writer = RecordingWriter()
    hello = message("hello")

    websocket_session(observer, writer).send(hello)

    assert writer.frames == [hello.frame]


def test_websocket_over_the_send_buffer_limit_is_aborted(observer: RecordingObserver) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer)
    writer.waiting = SEND_BUFFER_BYTES - len(message("12345").frame) + 1

    session.send(message("12345"))

    assert writer.frames == []
    assert (writer.aborted, writer.closed, observer.closed) == (True, [], ["slow_consumer"])


def test_websocket_at_the_send_buffer_limit_stays_open(observer: RecordingObserver) -> None:
    writer = RecordingWriter()
    writer.waiting = 3 * FRAME_BYTES - len(message("12345").frame)
    session = websocket_session(observer, writer, send_buffer_bytes=4 * FRAME_BYTES)

    session.send(message("12345"))

    assert (len(writer.frames), observer.closed) == (1, [])


def test_small_messages_count_with_the_memory_of_the_loop_for_each(observer: RecordingObserver) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer, send_buffer_bytes=10 * FRAME_BYTES)
    writer.waiting = 1

    for _ in range(9):
        session.send(message("x"))
    still_open = list(observer.closed)
    session.send(message("x"))

    assert (still_open, observer.closed, writer.aborted) == ([], ["slow_consumer"], True)


def test_sent_messages_no_longer_count(observer: RecordingObserver) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer, send_buffer_bytes=10 * FRAME_BYTES)

    for _ in range(5):
        writer.waiting = 1
        for _ in range(8):
            session.send(message("x"))
        writer.waiting = 0
        session.send(message("x"))

    assert observer.closed == []


def test_message_larger_than_the_send_buffer_is_written_if_nothing_waits(observer: RecordingObserver) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer)

    session.send(message("x" * 2 * SEND_BUFFER_BYTES))

    assert (len(writer.frames), observer.closed) == (1, [])


def test_large_messages_are_compressed_for_sessions_that_negotiated_compression(
    observer: RecordingObserver,
) -> None:
    plain, deflating = RecordingWriter(), RecordingWriter()
    deflating.deflates_from_bytes = 50
    small, large = message("small"), message("large" * 20)

    for writer in (plain, deflating):
        session = websocket_session(observer, writer)
        session.send(small)
        session.send(large)

    assert plain.frames == [small.frame, large.frame]
    assert deflating.frames == [small.frame, large.compressed]
    assert len(large.compressed) < len(large.frame)


def test_volatile_message_is_skipped_while_bytes_wait(observer: RecordingObserver) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer)
    session.send(message("now"), volatile=True)
    writer.waiting = 1

    session.send(message("never"), volatile=True)

    assert (writer.frames, observer.skipped) == ([message("now").frame], ["bytes_waiting"])


def test_volatile_message_is_sent_behind_gathered_frames(observer: RecordingObserver) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer)
    writer.gathered = 1

    session.send(message("now"), volatile=True)

    assert (writer.frames, observer.skipped) == ([message("now").frame], [])


# sending on polling


def test_packets_sent_before_a_poll_wait_for_it_in_order(observer: RecordingObserver) -> None:
    session, poll = polling_session(observer), RecordingPoll()
    session.send(message("one"))
    session.send(Frames(b"\x01\x02"))

    parked = session.park(poll)

    assert (parked, poll.woken) == (True, 1)
    assert session.collect() == b"4one\x1ebAQI="


def test_parked_poll_is_woken_once_and_collects_all_waiting_packets(observer: RecordingObserver) -> None:
    session, poll = polling_session(observer), RecordingPoll()
    session.park(poll)

    session.send(message("one"))
    session.send(message("two"))

    assert poll.woken == 1
    assert session.collect() == b"4one\x1e4two"


def test_collected_message_is_not_sent_again(observer: RecordingObserver) -> None:
    session, poll = polling_session(observer), RecordingPoll()
    session.send(message("one"))
    session.park(RecordingPoll())
    session.collect()

    session.park(poll)

    assert poll.woken == 0


def test_polling_session_is_closed_once_its_send_buffer_is_full(observer: RecordingObserver) -> None:
    session = polling_session(observer)
    for _ in range(SEND_BUFFER_BYTES // 10):
        session.send(message("123456789"))
    assert observer.closed == []

    session.send(message(""))

    assert (observer.closed, session.phase) == (["slow_consumer"], Phase.CLOSED)


def test_message_larger_than_the_send_buffer_waits_alone(observer: RecordingObserver) -> None:
    session = polling_session(observer)

    session.send(message("x" * 2 * SEND_BUFFER_BYTES))
    assert observer.closed == []
    session.send(message("y"))

    assert observer.closed == ["slow_consumer"]


def test_collecting_frees_the_send_buffer(observer: RecordingObserver) -> None:
    session = polling_session(observer)
    for _ in range(5):
        session.send(message("x" * (SEND_BUFFER_BYTES - 1)))
        session.park(RecordingPoll())
        session.collect()

    assert observer.closed == []


def test_volatile_message_is_skipped_without_a_parked_poll(observer: RecordingObserver) -> None:
    session, poll = polling_session(observer), RecordingPoll()

    session.send(message("never"), volatile=True)
    session.park(poll)
    session.send(message("now"), volatile=True)

    assert (session.collect(), observer.skipped) == (b"4now", ["no_poll"])


def test_volatile_message_is_skipped_during_an_upgrade(observer: RecordingObserver) -> None:
    session = polling_session(observer)
    session.park(RecordingPoll())
    session.start_upgrade(RecordingWriter())

    session.send(message("never"), volatile=True)

    assert observer.skipped == ["upgrading"]


# receiving


@pytest.mark.parametrize("data", ["hello", b"\x01", ""])
def test_message_packet_yields_its_data(observer: RecordingObserver, data: str | bytes) -> None:
    assert polling_session(observer).receive(Packet("4", data)) == data


def test_pong_answers_the_ping(observer: RecordingObserver) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer)

    session.ping()
    awaited_pong = session.awaits_pong
    session.receive(Packet("3", ""))

    assert (writer.frames, awaited_pong, session.awaits_pong) == ([b"\x81\x012"], True, False)


@pytest.mark.parametrize("kind", ["0", "2", "5", "6"])
def test_packet_that_only_servers_send_ends_the_session(observer: RecordingObserver, kind: str) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer)

    assert session.receive(Packet(kind, "")) is None

    assert (writer.closed, observer.closed) == ([1002], ["protocol_error"])


def test_protocol_error_on_polling_answers_the_parked_poll(observer: RecordingObserver) -> None:
    session, poll = polling_session(observer), RecordingPoll()
    session.park(poll)

    session.receive(Packet("6", ""))

    assert (poll.woken, session.collect(), observer.closed) == (1, CLOSE, ["protocol_error"])


def test_protocol_error_without_a_poll_closes_the_session(observer: RecordingObserver) -> None:
    session = polling_session(observer)

    session.fail("malformed_packet")

    assert (session.is_closed, observer.closed) == (True, ["malformed_packet"])


def test_closing_session_receives_nothing(observer: RecordingObserver) -> None:
    session = polling_session(observer)
    session.end(1012, "draining")

    assert session.receive(Packet("4", "late")) is None
    assert session.receive(Packet("6", "")) is None
    assert observer.closed == []


def test_client_that_closes_on_polling_gets_a_noop_for_its_poll(observer: RecordingObserver) -> None:
    session, poll = polling_session(observer), RecordingPoll()
    session.park(poll)

    session.receive(Packet("1", ""))

    assert (poll.woken, session.collect(), observer.closed) == (1, NOOP, ["client_close"])


def test_client_that_closes_on_a_websocket_has_it_closed(observer: RecordingObserver) -> None:
    writer = RecordingWriter()

    websocket_session(observer, writer).receive(Packet("1", ""))

    assert (writer.closed, observer.closed) == ([1000], ["client_close"])


# polls


def test_second_poll_ends_the_session_and_the_first_is_answered(observer: RecordingObserver) -> None:
    session, first, second = polling_session(observer), RecordingPoll(), RecordingPoll()
    session.park(first)

    assert session.park(second) is False

    assert (first.woken, second.woken, session.collect()) == (1, 0, CLOSE)
    assert observer.closed == ["overlapping_polls"]


def test_cancelled_poll_closes_the_session(observer: RecordingObserver) -> None:
    session = polling_session(observer)
    session.park(RecordingPoll())

    session.poll_lost()

    assert (session.is_closed, observer.closed, session.collect()) == (True, ["transport_error"], None)


def test_poll_may_be_cancelled_after_the_upgrade(observer: RecordingObserver) -> None:
    session, writer = polling_session(observer), RecordingWriter()
    session.park(RecordingPoll())
    session.start_upgrade(writer)
    session.probe(writer)
    session.upgrade(writer)

    session.poll_lost()

    assert observer.closed == []


# upgrade


def test_upgrade_moves_waiting_packets_to_the_websocket_in_order(observer: RecordingObserver) -> None:
    session, writer = polling_session(observer), RecordingWriter()
    assert session.start_upgrade(writer)
    session.probe(writer)
    session.send(message("one"))
    session.send(message("two"))

    assert session.upgrade(writer)
    session.send(message("three"))

    assert writer.frames == [
        packets.PROBE_ANSWER.frame,
        *[message(text).frame for text in ("one", "two", "three")],
    ]
    assert (session.transport, observer.upgraded) == ("websocket", 1)


def test_parked_poll_is_answered_with_a_noop_when_the_client_probes(observer: RecordingObserver) -> None:
    session, writer, poll = polling_session(observer), RecordingWriter(), RecordingPoll()
    session.park(poll)
    session.start_upgrade(writer)

    session.probe(writer)

    assert (poll.woken, session.collect()) == (1, NOOP)


def test_poll_that_arrives_after_the_probe_waits_until_it_is_released(observer: RecordingObserver) -> None:
    session, writer, poll = polling_session(observer), RecordingWriter(), RecordingPoll()
    session.start_upgrade(writer)
    session.probe(writer)

    session.park(poll)
    before = poll.woken
    session.release_poll()
    session.release_poll()

    assert (before, poll.woken, session.collect()) == (0, 1, NOOP)


def test_woken_poll_that_was_not_answered_leaves_its_messages_to_the_websocket(
    observer: RecordingObserver,
) -> None:
    session, writer, poll = polling_session(observer), RecordingWriter(), RecordingPoll()
    session.park(poll)
    session.start_upgrade(writer)
    session.probe(writer)
    session.send(message("one"))

    session.upgrade(writer)

    assert (session.collect(), writer.frames[1:]) == (NOOP, [message("one").frame])


def test_messages_are_sent_over_polling_until_the_client_upgrades(observer: RecordingObserver) -> None:
    session, writer, poll = polling_session(observer), RecordingWriter(), RecordingPoll()
    session.start_upgrade(writer)
    session.probe(writer)
    session.park(poll)

    session.send(message("one"))

    assert (poll.woken, session.collect(), writer.frames) == (1, b"4one", [packets.PROBE_ANSWER.frame])


def test_upgrade_has_one_candidate_at_a_time_and_only_from_polling(observer: RecordingObserver) -> None:
    session, first, second = polling_session(observer), RecordingWriter(), RecordingWriter()
    assert session.start_upgrade(first)
    assert not session.start_upgrade(second)
    session.probe(second)
    assert not session.upgrade(second)
    session.upgrade(first)

    assert not session.start_upgrade(second)
    assert second.frames == []


def test_failed_upgrade_leaves_the_session_on_polling_and_may_be_repeated(
    observer: RecordingObserver,
) -> None:
    session, writer, poll = polling_session(observer), RecordingWriter(), RecordingPoll()
    session.start_upgrade(writer)
    session.probe(writer)
    session.send(message("one"))

    session.writer_closed(writer)
    session.park(poll)

    assert (session.collect(), observer.closed) == (b"4one", [])
    assert session.start_upgrade(RecordingWriter())


def test_rejected_candidate_changes_nothing_when_it_closes(observer: RecordingObserver) -> None:
    session, writer, rejected = polling_session(observer), RecordingWriter(), RecordingWriter()
    session.start_upgrade(writer)
    session.writer_closed(rejected)

    session.upgrade(writer)
    session.writer_closed(rejected)

    assert observer.closed == []


def test_session_that_closes_during_an_upgrade_closes_the_websocket(
    observer: RecordingObserver,
) -> None:
    session, writer = polling_session(observer), RecordingWriter()
    session.start_upgrade(writer)
    session.probe(writer)

    session.lost("ping_timeout")

    assert writer.closed == [1000]
    assert not session.upgrade(writer)
    assert (observer.closed, observer.upgraded) == (["ping_timeout"], 0)


def test_session_that_ends_during_an_upgrade_closes_the_websocket_with_its_code(
    observer: RecordingObserver,
) -> None:
    session, writer = polling_session(observer), RecordingWriter()
    session.start_upgrade(writer)
    session.probe(writer)
    session.send(message("last"))
    session.end(1012, "draining")

    session.upgrade(writer)

    assert writer.frames[1:] == [message("last").frame]
    assert (writer.closed, observer.closed, observer.upgraded) == ([1012], ["draining"], 0)


# ending


def test_ended_websocket_session_sends_a_close_frame_and_is_closed(observer: RecordingObserver) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer)

    session.end(4401, "token_expired")

    assert (writer.closed, observer.closed, session.is_closed) == ([4401], ["token_expired"], True)


def test_ended_polling_session_sends_waiting_packets_and_then_a_close_packet_alone(
    observer: RecordingObserver,
) -> None:
    session = polling_session(observer)
    session.send(message("last"))
    session.end(1012, "draining")
    callback = list(observer.closed)

    session.park(RecordingPoll())
    first = session.collect()
    session.park(RecordingPoll())
    second = session.collect()

    assert (callback, first, second, observer.closed) == ([], b"4last", CLOSE, ["draining"])


def test_polling_session_whose_client_is_to_reconnect_sends_waiting_packets_and_then_an_error(
    observer: RecordingObserver,
) -> None:
    session = polling_session(observer)
    session.send(message("last"))
    session.end(None, "draining", reconnects=True)

    session.park(RecordingPoll())
    first = session.collect()
    before = list(observer.closed)
    session.park(RecordingPoll())
    second = session.collect()

    assert (first, before, second, observer.closed) == (b"4last", [], None, ["draining"])


def test_parked_poll_is_answered_when_the_session_ends(observer: RecordingObserver) -> None:
    session, poll = polling_session(observer), RecordingPoll()
    session.park(poll)

    session.end(1012, "draining")

    assert (poll.woken, session.collect()) == (1, CLOSE)


def test_first_end_of_a_session_counts(observer: RecordingObserver) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer)

    session.end(1012, "draining")
    session.end(4401, "token_expired")
    session.lost("transport_close")

    assert (writer.closed, observer.closed) == ([1012], ["draining"])


def test_aborted_session_sends_nothing_and_drops_waiting_packets(observer: RecordingObserver) -> None:
    session, poll = polling_session(observer), RecordingPoll()
    session.send(message("one"))
    session.park(poll)

    session.abort("slow_consumer")

    assert (session.collect(), observer.closed) == (None, ["slow_consumer"])


def test_closing_session_accepts_nothing_to_send(observer: RecordingObserver) -> None:
    session = polling_session(observer)
    session.end(1012, "draining")

    session.send(message("late"))
    session.ping()
    session.park(RecordingPoll())

    assert session.collect() == CLOSE


# drained


class CallCounter:
    """A callback that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


def test_session_without_waiting_bytes_is_drained_at_once(observer: RecordingObserver) -> None:
    callback = CallCounter()

    websocket_session(observer, RecordingWriter()).when_drained(callback)
    polling_session(observer).when_drained(callback)

    assert callback.calls == 2


def test_websocket_is_drained_once_the_loop_reports_it(observer: RecordingObserver) -> None:
    writer, callback = RecordingWriter(), CallCounter()
    session = websocket_session(observer, writer)
    writer.is_congested = True

    session.when_drained(callback)
    assert callback.calls == 0
    writer.is_congested = False
    session.notify_if_drained()
    session.notify_if_drained()

    assert callback.calls == 1


def test_polling_is_drained_once_the_client_has_read_all_packets(observer: RecordingObserver) -> None:
    session, callback, poll = polling_session(observer), CallCounter(), RecordingPoll()
    session.send(message("waits"))

    session.when_drained(callback)
    session.park(poll)
    session.collect()
    assert callback.calls == 0
    session.answer_read(poll)

    assert callback.calls == 1


def test_unread_answer_counts_towards_the_send_buffer(observer: RecordingObserver) -> None:
    session, poll = polling_session(observer), RecordingPoll()
    session.send(message("x" * (SEND_BUFFER_BYTES - 10)))
    session.park(poll)
    session.collect()
    poll.unread = SEND_BUFFER_BYTES - 10

    assert session.bytes_waiting == poll.unread
    assert not session.send(message("y" * 20))

    assert (observer.closed, poll.aborted) == (["slow_consumer"], True)


def test_answer_that_is_read_leaves_its_space_in_the_send_buffer(observer: RecordingObserver) -> None:
    session, poll = polling_session(observer), RecordingPoll()
    session.send(message("x" * (SEND_BUFFER_BYTES - 10)))
    session.park(poll)
    session.collect()
    session.answer_read(poll)

    assert session.send(message("y" * 20))
    assert session.bytes_waiting == 21


def test_poll_before_the_former_answer_is_read_ends_the_session(observer: RecordingObserver) -> None:
    session, poll = polling_session(observer), RecordingPoll()
    session.send(message("one"))
    session.park(poll)
    session.collect()
    poll.unread = 4

    assert not session.park(RecordingPoll())

    assert observer.closed == ["overlapping_polls"]


@pytest.mark.parametrize("reason", ["slow_consumer", "transport_error"])
def test_answer_that_is_lost_ends_the_session(observer: RecordingObserver, reason: str) -> None:
    session, poll = polling_session(observer), RecordingPoll()
    session.send(message("one"))
    session.park(poll)
    session.collect()

    session.answer_lost(poll, reason)

    assert (session.is_closed, observer.closed) == (True, [reason])


def test_loss_of_an_answer_that_was_read_ends_nothing(observer: RecordingObserver) -> None:
    session, poll = polling_session(observer), RecordingPoll()
    session.send(message("one"))
    session.park(poll)
    session.collect()
    session.answer_read(poll)

    session.answer_lost(poll, "transport_error")

    assert observer.closed == []


def test_upgrade_drains_the_send_buffer_into_the_websocket(observer: RecordingObserver) -> None:
    session, writer, callback = polling_session(observer), RecordingWriter(), CallCounter()
    session.send(message("waits"))
    session.when_drained(callback)

    assert session.start_upgrade(writer)
    session.probe(writer)
    assert callback.calls == 0
    session.upgrade(writer)

    assert callback.calls == 1


@pytest.mark.parametrize("ends", ["lost", "abort"])
def test_closed_session_calls_its_drain_callbacks(observer: RecordingObserver, ends: str) -> None:
    session, callback = polling_session(observer), CallCounter()
    session.send(message("waits"))
    session.when_drained(callback)

    getattr(session, ends)("gone")

    assert callback.calls == 1


# whether it was accepted


def test_send_on_a_websocket_returns_whether_the_message_was_accepted(observer: RecordingObserver) -> None:
    writer = RecordingWriter()
    session = websocket_session(observer, writer)

    assert session.send(message("x"))
    assert session.send(message("x"), volatile=True)
    writer.waiting = SEND_BUFFER_BYTES
    assert not session.send(message("x"), volatile=True)
    assert not session.send(message("x"))
    assert not session.send(message("x")), "it is closed"


def test_send_on_polling_returns_whether_the_message_was_accepted(observer: RecordingObserver) -> None:
    session = polling_session(observer)

    assert not session.send(message("x"), volatile=True)
    assert session.send(message("x"))
    assert session.bytes_waiting == message("x").record_bytes
    assert not session.send(message("x" * SEND_BUFFER_BYTES))
    assert observer.closed == ["slow_consumer"]


def test_client_without_binary_frames_gets_base64_in_text_frames_live_and_after_an_upgrade(
    observer: RecordingObserver,
) -> None:
    writer = RecordingWriter()
    writer.takes_binary = False
    session = polling_session(observer, send_buffer_bytes=1000)
    session.send(Frames(b"\x00"))
    session.start_upgrade(writer)
    session.upgrade(writer)
    session.send(Frames(b"\x01"))
    session.batch(message("text"), Frames(b"\x02"))

    assert session.socket is None
    texts = ["bAA==", "bAQ==", "4text", "bAg=="]
    assert writer.frames == [Frames(each).frame for each in texts]
