"""Every transition of a session, without a loop and without sockets."""

from __future__ import annotations

import pytest

from gateway.transport import packets
from gateway.transport.packets import Frames, Packet, message
from gateway.transport.session import FRAME_BYTES, Phase
from tests.unit.transport.recording import (
    SEND_BUFFER_BYTES,
    RecordingAbove,
    RecordingPoll,
    RecordingWire,
    on_wire,
    polling,
)

CLOSE, NOOP = b"1", b"6"


# sending on a WebSocket


def test_on_a_websocket_a_packet_goes_out_at_once(above: RecordingAbove) -> None:
    writer = RecordingWire()
    hello = message("hello")

    on_wire(above, writer).send(hello)

    assert writer.frames == [hello.frame]


def test_a_websocket_that_would_hold_more_than_the_outbox_is_cut_off(above: RecordingAbove) -> None:
    writer = RecordingWire()
    session = on_wire(above, writer)
    writer.waiting = SEND_BUFFER_BYTES - len(message("12345").frame) + 1

    session.send(message("12345"))

    assert writer.frames == []
    assert (writer.aborted, writer.closed, above.closed) == (True, [], ["slow_consumer"])


def test_a_websocket_may_hold_exactly_the_outbox(above: RecordingAbove) -> None:
    writer = RecordingWire()
    writer.waiting = 3 * FRAME_BYTES - len(message("12345").frame)
    session = on_wire(above, writer, send_buffer_bytes=4 * FRAME_BYTES)

    session.send(message("12345"))

    assert (len(writer.frames), above.closed) == (1, [])


def test_small_messages_count_with_what_the_loop_keeps_for_each(above: RecordingAbove) -> None:
    writer = RecordingWire()
    session = on_wire(above, writer, send_buffer_bytes=10 * FRAME_BYTES)
    writer.waiting = 1

    for _ in range(9):
        session.send(message("x"))
    still_open = list(above.closed)
    session.send(message("x"))

    assert (still_open, above.closed, writer.aborted) == ([], ["slow_consumer"], True)


def test_what_waited_counts_no_longer_once_it_is_sent(above: RecordingAbove) -> None:
    writer = RecordingWire()
    session = on_wire(above, writer, send_buffer_bytes=10 * FRAME_BYTES)

    for _ in range(5):
        writer.waiting = 1
        for _ in range(8):
            session.send(message("x"))
        writer.waiting = 0
        session.send(message("x"))

    assert above.closed == []


def test_a_message_larger_than_the_outbox_passes_when_nothing_waits(above: RecordingAbove) -> None:
    writer = RecordingWire()
    session = on_wire(above, writer)

    session.send(message("x" * 2 * SEND_BUFFER_BYTES))

    assert (len(writer.frames), above.closed) == (1, [])


def test_who_negotiated_compression_gets_large_messages_compressed_and_others_get_them_plain(
    above: RecordingAbove,
) -> None:
    plain, deflating = RecordingWire(), RecordingWire()
    deflating.deflates_from_bytes = 50
    small, large = message("small"), message("large" * 20)

    for writer in (plain, deflating):
        session = on_wire(above, writer)
        session.send(small)
        session.send(large)

    assert plain.frames == [small.frame, large.frame]
    assert deflating.frames == [small.frame, large.compressed]
    assert len(large.compressed) < len(large.frame)


def test_a_volatile_message_is_skipped_while_bytes_wait(above: RecordingAbove) -> None:
    writer = RecordingWire()
    session = on_wire(above, writer)
    session.send(message("now"), volatile=True)
    writer.waiting = 1

    session.send(message("never"), volatile=True)

    assert (writer.frames, above.skipped) == ([message("now").frame], ["bytes_waiting"])


# sending on polling


def test_what_is_sent_before_a_poll_waits_for_it_in_order(above: RecordingAbove) -> None:
    session, poll = polling(above), RecordingPoll()
    session.send(message("one"))
    session.send(Frames(b"\x01\x02"))

    parked = session.park(poll)

    assert (parked, poll.woken) == (True, 1)
    assert session.collect() == b"4one\x1ebAQI="


def test_a_parked_poll_is_woken_once_and_takes_all_that_came_by_then(above: RecordingAbove) -> None:
    session, poll = polling(above), RecordingPoll()
    session.park(poll)

    session.send(message("one"))
    session.send(message("two"))

    assert poll.woken == 1
    assert session.collect() == b"4one\x1e4two"


def test_a_collected_message_is_not_sent_again(above: RecordingAbove) -> None:
    session, poll = polling(above), RecordingPoll()
    session.send(message("one"))
    session.park(RecordingPoll())
    session.collect()

    session.park(poll)

    assert poll.woken == 0


def test_who_does_not_poll_is_forgotten_once_the_outbox_is_full(above: RecordingAbove) -> None:
    session = polling(above)
    for _ in range(SEND_BUFFER_BYTES // 10):
        session.send(message("123456789"))
    assert above.closed == []

    session.send(message(""))

    assert (above.closed, session.phase) == (["slow_consumer"], Phase.CLOSED)


def test_a_message_larger_than_the_outbox_waits_alone(above: RecordingAbove) -> None:
    session = polling(above)

    session.send(message("x" * 2 * SEND_BUFFER_BYTES))
    assert above.closed == []
    session.send(message("y"))

    assert above.closed == ["slow_consumer"]


def test_collecting_makes_room_again(above: RecordingAbove) -> None:
    session = polling(above)
    for _ in range(5):
        session.send(message("x" * (SEND_BUFFER_BYTES - 1)))
        session.park(RecordingPoll())
        session.collect()

    assert above.closed == []


def test_a_volatile_message_is_skipped_without_a_parked_poll(above: RecordingAbove) -> None:
    session, poll = polling(above), RecordingPoll()

    session.send(message("never"), volatile=True)
    session.park(poll)
    session.send(message("now"), volatile=True)

    assert (session.collect(), above.skipped) == (b"4now", ["no_poll"])


def test_a_volatile_message_is_skipped_while_the_client_upgrades(above: RecordingAbove) -> None:
    session = polling(above)
    session.park(RecordingPoll())
    session.start_upgrade(RecordingWire())

    session.send(message("never"), volatile=True)

    assert above.skipped == ["upgrading"]


# receiving


@pytest.mark.parametrize("data", ["hello", b"\x01", ""])
def test_a_message_is_handed_to_the_layer_above(above: RecordingAbove, data: str | bytes) -> None:
    assert polling(above).receive(Packet("4", data)) == data


def test_a_pong_answers_the_ping(above: RecordingAbove) -> None:
    writer = RecordingWire()
    session = on_wire(above, writer)

    session.ping()
    asked = session.awaits_pong
    session.receive(Packet("3", ""))

    assert (writer.frames, asked, session.awaits_pong) == ([b"\x81\x012"], True, False)


@pytest.mark.parametrize("kind", ["0", "2", "5", "6"])
def test_a_packet_that_only_servers_send_ends_the_session(above: RecordingAbove, kind: str) -> None:
    writer = RecordingWire()
    session = on_wire(above, writer)

    assert session.receive(Packet(kind, "")) is None

    assert (writer.closed, above.closed) == ([1002], ["protocol_error"])


def test_a_protocol_error_on_polling_is_told_to_the_parked_poll(above: RecordingAbove) -> None:
    session, poll = polling(above), RecordingPoll()
    session.park(poll)

    session.receive(Packet("6", ""))

    assert (poll.woken, session.collect(), above.closed) == (1, CLOSE, ["protocol_error"])


def test_a_protocol_error_without_a_poll_forgets_the_session(above: RecordingAbove) -> None:
    session = polling(above)

    session.fail("malformed_packet")

    assert (session.closed, above.closed) == (True, ["malformed_packet"])


def test_nothing_is_heard_from_a_session_that_ends(above: RecordingAbove) -> None:
    session = polling(above)
    session.end(1012, "draining")

    assert session.receive(Packet("4", "late")) is None
    assert session.receive(Packet("6", "")) is None
    assert above.closed == []


def test_a_client_that_closes_on_polling_gets_its_poll_back_with_a_noop(above: RecordingAbove) -> None:
    session, poll = polling(above), RecordingPoll()
    session.park(poll)

    session.receive(Packet("1", ""))

    assert (poll.woken, session.collect(), above.closed) == (1, NOOP, ["client_close"])


def test_a_client_that_closes_on_a_websocket_has_it_closed(above: RecordingAbove) -> None:
    writer = RecordingWire()

    on_wire(above, writer).receive(Packet("1", ""))

    assert (writer.closed, above.closed) == ([1000], ["client_close"])


# polls


def test_a_second_poll_ends_the_session_and_the_first_is_told(above: RecordingAbove) -> None:
    session, first, second = polling(above), RecordingPoll(), RecordingPoll()
    session.park(first)

    assert session.park(second) is False

    assert (first.woken, second.woken, session.collect()) == (1, 0, CLOSE)
    assert above.closed == ["overlapping_polls"]


def test_a_poll_that_the_client_took_back_loses_the_session(above: RecordingAbove) -> None:
    session = polling(above)
    session.park(RecordingPoll())

    session.poll_lost()

    assert (session.closed, above.closed, session.collect()) == (True, ["transport_error"], None)


def test_after_the_upgrade_a_poll_may_be_taken_back(above: RecordingAbove) -> None:
    session, writer = polling(above), RecordingWire()
    session.park(RecordingPoll())
    session.start_upgrade(writer)
    session.probe(writer)
    session.upgrade(writer)

    session.poll_lost()

    assert above.closed == []


# upgrade


def test_an_upgrade_moves_what_waits_to_the_websocket_in_order(above: RecordingAbove) -> None:
    session, writer = polling(above), RecordingWire()
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
    assert (session.transport, above.upgraded) == ("websocket", 1)


def test_a_parked_poll_is_let_go_with_a_noop_when_the_client_probes(above: RecordingAbove) -> None:
    session, writer, poll = polling(above), RecordingWire(), RecordingPoll()
    session.park(poll)
    session.start_upgrade(writer)

    session.probe(writer)

    assert (poll.woken, session.collect()) == (1, NOOP)


def test_a_poll_that_arrives_after_the_probe_waits_until_it_is_released(above: RecordingAbove) -> None:
    session, writer, poll = polling(above), RecordingWire(), RecordingPoll()
    session.start_upgrade(writer)
    session.probe(writer)

    session.park(poll)
    before = poll.woken
    session.release_poll()
    session.release_poll()

    assert (before, poll.woken, session.collect()) == (0, 1, NOOP)


def test_a_poll_that_was_woken_but_not_answered_leaves_its_messages_to_the_websocket(
    above: RecordingAbove,
) -> None:
    session, writer, poll = polling(above), RecordingWire(), RecordingPoll()
    session.park(poll)
    session.start_upgrade(writer)
    session.probe(writer)
    session.send(message("one"))

    session.upgrade(writer)

    assert (session.collect(), writer.frames[1:]) == (NOOP, [message("one").frame])


def test_messages_go_on_over_polling_until_the_client_switches(above: RecordingAbove) -> None:
    session, writer, poll = polling(above), RecordingWire(), RecordingPoll()
    session.start_upgrade(writer)
    session.probe(writer)
    session.park(poll)

    session.send(message("one"))

    assert (poll.woken, session.collect(), writer.frames) == (1, b"4one", [packets.PROBE_ANSWER.frame])


def test_one_websocket_at_a_time_may_try_and_only_from_polling(above: RecordingAbove) -> None:
    session, first, second = polling(above), RecordingWire(), RecordingWire()
    assert session.start_upgrade(first)
    assert not session.start_upgrade(second)
    session.probe(second)
    assert not session.upgrade(second)
    session.upgrade(first)

    assert not session.start_upgrade(second)
    assert second.frames == []


def test_an_upgrade_that_fails_leaves_the_session_on_polling_free_to_try_again(above: RecordingAbove) -> None:
    session, writer, poll = polling(above), RecordingWire(), RecordingPoll()
    session.start_upgrade(writer)
    session.probe(writer)
    session.send(message("one"))

    session.writer_closed(writer)
    session.park(poll)

    assert (session.collect(), above.closed) == (b"4one", [])
    assert session.start_upgrade(RecordingWire())


def test_a_websocket_that_was_refused_harms_nobody_when_it_goes(above: RecordingAbove) -> None:
    session, writer, stranger = polling(above), RecordingWire(), RecordingWire()
    session.start_upgrade(writer)
    session.writer_closed(stranger)

    session.upgrade(writer)
    session.writer_closed(stranger)

    assert above.closed == []


def test_a_session_that_closes_while_it_upgrades_closes_the_websocket_too(above: RecordingAbove) -> None:
    session, writer = polling(above), RecordingWire()
    session.start_upgrade(writer)
    session.probe(writer)

    session.lost("ping_timeout")

    assert writer.closed == [1000]
    assert not session.upgrade(writer)
    assert (above.closed, above.upgraded) == (["ping_timeout"], 0)


def test_a_session_that_ends_while_it_upgrades_says_so_on_the_websocket(above: RecordingAbove) -> None:
    session, writer = polling(above), RecordingWire()
    session.start_upgrade(writer)
    session.probe(writer)
    session.send(message("last"))
    session.end(1012, "draining")

    session.upgrade(writer)

    assert writer.frames[1:] == [message("last").frame]
    assert (writer.closed, above.closed, above.upgraded) == ([1012], ["draining"], 0)


# ending


def test_ending_a_websocket_sends_a_close_frame_and_is_over(above: RecordingAbove) -> None:
    writer = RecordingWire()
    session = on_wire(above, writer)

    session.end(4401, "token_expired")

    assert (writer.closed, above.closed, session.closed) == ([4401], ["token_expired"], True)


def test_ending_on_polling_lets_the_client_have_what_waits_and_then_a_close_packet_alone(
    above: RecordingAbove,
) -> None:
    session = polling(above)
    session.send(message("last"))
    session.end(1012, "draining")
    told = list(above.closed)

    session.park(RecordingPoll())
    first = session.collect()
    session.park(RecordingPoll())
    second = session.collect()

    assert (told, first, second, above.closed) == ([], b"4last", CLOSE, ["draining"])


def test_a_parked_poll_is_told_of_the_end_at_once(above: RecordingAbove) -> None:
    session, poll = polling(above), RecordingPoll()
    session.park(poll)

    session.end(1012, "draining")

    assert (poll.woken, session.collect()) == (1, CLOSE)


def test_only_the_first_end_counts(above: RecordingAbove) -> None:
    writer = RecordingWire()
    session = on_wire(above, writer)

    session.end(1012, "draining")
    session.end(4401, "token_expired")
    session.lost("transport_close")

    assert (writer.closed, above.closed) == ([1012], ["draining"])


def test_aborting_sends_nothing_and_forgets_what_waits(above: RecordingAbove) -> None:
    session, poll = polling(above), RecordingPoll()
    session.send(message("one"))
    session.park(poll)

    session.abort("slow_consumer")

    assert (session.collect(), above.closed) == (None, ["slow_consumer"])


def test_a_session_that_ends_takes_nothing_more_to_send(above: RecordingAbove) -> None:
    session = polling(above)
    session.end(1012, "draining")

    session.send(message("late"))
    session.ping()
    session.park(RecordingPoll())

    assert session.collect() == CLOSE


# drained


class Told:
    """Counts how often it was told."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def test_where_nothing_waits_it_is_drained_at_once(above: RecordingAbove) -> None:
    told = Told()

    on_wire(above, RecordingWire()).when_drained(told)
    polling(above).when_drained(told)

    assert told.times == 2


def test_a_websocket_is_drained_once_the_loop_says_so(above: RecordingAbove) -> None:
    writer, told = RecordingWire(), Told()
    session = on_wire(above, writer)
    writer.is_congested = True

    session.when_drained(told)
    assert told.times == 0
    writer.is_congested = False
    session.notify_if_drained()
    session.notify_if_drained()

    assert told.times == 1


def test_polling_is_drained_once_all_was_collected(above: RecordingAbove) -> None:
    session, told = polling(above), Told()
    session.send(message("waits"))

    session.when_drained(told)
    assert told.times == 0
    session.collect()

    assert told.times == 1


def test_an_upgrade_drains_into_the_websocket(above: RecordingAbove) -> None:
    session, writer, told = polling(above), RecordingWire(), Told()
    session.send(message("waits"))
    session.when_drained(told)

    assert session.start_upgrade(writer)
    session.probe(writer)
    assert told.times == 0
    session.upgrade(writer)

    assert told.times == 1


@pytest.mark.parametrize("ends", ["lost", "abort"])
def test_whoever_waits_for_a_session_that_ends_waits_no_longer(above: RecordingAbove, ends: str) -> None:
    session, told = polling(above), Told()
    session.send(message("waits"))
    session.when_drained(told)

    getattr(session, ends)("gone")

    assert told.times == 1


# whether it was taken


def test_who_sends_hears_whether_it_was_taken(above: RecordingAbove) -> None:
    writer = RecordingWire()
    session = on_wire(above, writer)

    assert session.send(message("x"))
    assert session.send(message("x"), volatile=True)
    writer.waiting = SEND_BUFFER_BYTES
    assert not session.send(message("x"), volatile=True)
    assert not session.send(message("x"))
    assert not session.send(message("x")), "it is closed"


def test_who_sends_to_a_poller_hears_whether_it_was_taken(above: RecordingAbove) -> None:
    session = polling(above)

    assert not session.send(message("x"), volatile=True)
    assert session.send(message("x"))
    assert session.bytes_waiting == message("x").record_bytes
    assert not session.send(message("x" * SEND_BUFFER_BYTES))
    assert above.closed == ["slow_consumer"]
