"""Recovery and Replayer: what a resumed client gets, in what order, and when recovery fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND, RESUMED_ELSEWHERE
from gateway.domain.errors import BrokerUnavailable, TokenRejected, TooManyConnections
from gateway.domain.identity import Identity
from gateway.domain.messages import DisconnectCommand, Message, SessionTakeover, new_id
from gateway.domain.positions import Position
from gateway.hub import ConnectionState
from gateway.services.recovery import ConnectResult
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.hub.transports import RecordingTransport
from tests.unit.services.harness import (
    RECOVERY_SECONDS,
    SEND_BUFFER_BYTES,
    ConnectedClient,
    Services,
)


async def drop(services: Services, client: ConnectedClient) -> None:
    services.disconnector.disconnect(client.connection)
    await services.disconnector.flush()


async def test_resumed_client_gets_what_it_missed_once_in_order_then_live_messages(
    services: Services,
) -> None:
    alice = services.identity("alice", "org:7")
    before = await services.connect_client(alice)
    seen = await services.push("org:7", "one")
    await services.wait_delivered()
    await drop(services, before)
    await services.push("org:7", "two")
    await services.push("user:alice", "three")

    after = await services.connect_client(alice, pid=before.pid, offset=seen)
    await services.push("org:7", "four")
    await services.wait_delivered()

    assert (before.event_names, after.event_names) == (
        ["connect", "one"],
        ["connect", "two", "three", "authenticated", "four"],
    )
    assert (after.connection.sid, after.pid) == (before.connection.sid, before.pid)
    assert after.offsets == sorted(after.offsets)
    assert services.replayed == [2]


@pytest.mark.parametrize("offset", [None, "0-0", "1-0"])
async def test_offset_that_is_missing_or_before_the_first_position_counts_as_that(
    services: Services, offset: str | None
) -> None:
    alice = services.identity("alice", "org:7")
    await services.push("org:7", "before it came")
    before = await services.connect_client(alice)
    await drop(services, before)
    await services.push("org:7", "missed")

    after = await services.connect_client(alice, pid=before.pid, offset=offset)

    assert after.event_names == ["connect", "missed", "authenticated"]


async def test_quiet_client_whose_offset_is_older_than_the_history_is_resumed(services: Services) -> None:
    alice = services.identity("alice")
    before = await services.connect_client(alice)
    seen = await services.push("user:alice", "long ago")
    await services.wait_delivered()
    services.schedule.advance(100 * RECOVERY_SECONDS)
    await services.push("user:bob", "drops what is old")
    await drop(services, before)
    for number in range(3):
        await services.push("user:alice", str(number))

    after = await services.connect_client(alice, pid=before.pid, offset=seen)

    assert after.event_names == ["connect", "0", "1", "2", "authenticated"]


async def test_messages_for_others_are_not_replayed(services: Services) -> None:
    alice = services.identity("alice", "org:7", "staff")
    before = await services.connect_client(alice)
    await drop(services, before)
    await services.push("org:7", "not for staff", exclude="staff")
    await services.push("org:7", "not for this one", exclude=before.connection.sid)
    await services.push("org:8", "not its room")
    await services.push("org:7", "volatile", volatile=True)
    await services.push(before.connection.sid, "for it alone")

    after = await services.connect_client(alice, pid=before.pid)

    assert after.event_names == ["connect", "for it alone", "authenticated"]


async def test_rooms_are_those_of_the_current_token(services: Services) -> None:
    before = await services.connect_client(services.identity("alice", "role:admin", "org:7"))
    await drop(services, before)
    await services.push("role:admin", "secret")
    await services.push("org:7", "for all of them")

    after = await services.connect_client(services.identity("alice", "org:7"), pid=before.pid)
    await services.push("role:admin", "still secret")
    await services.wait_delivered()

    assert after.event_names == ["connect", "for all of them", "authenticated"]
    assert "role:admin" not in after.connection.rooms


async def test_messages_from_before_a_room_was_joined_are_not_replayed(services: Services) -> None:
    before = await services.connect_client(services.identity("alice"))
    await services.push("org:7", "before it was in there")
    await services.connector.refresh(before.connection, services.identity("alice", "org:7"))
    await drop(services, before)
    await services.push("org:7", "missed")
    await services.push("role:new", "before the token had it")

    after = await services.connect_client(services.identity("alice", "org:7", "role:new"), pid=before.pid)

    assert after.event_names == ["connect", "missed", "authenticated"]


async def test_room_that_was_left_and_joined_again_is_replayed_from_the_second_join(
    services: Services,
) -> None:
    before = await services.connect_client(services.identity("alice", "org:7"))
    await services.connector.refresh(before.connection, services.identity("alice"))
    await services.push("org:7", "while it was out")
    await services.connector.refresh(before.connection, services.identity("alice", "org:7"))
    await drop(services, before)

    after = await services.connect_client(services.identity("alice", "org:7"), pid=before.pid)

    assert after.event_names == ["connect", "authenticated"]


# --- failures ---


async def failed(services: Services, **recovery_request: object) -> str | None:
    client = await services.connect_client(services.identity("alice"), **recovery_request)
    assert client.result.first_page is None
    return client.result.failure


@pytest.mark.parametrize("pid", ["unknown", "", "\ud800", "a b", "a\n", 7, ["x"], {}, "x" * 1000])
async def test_unknown_pid_gets_a_new_connection(services: Services, pid: object) -> None:
    assert await failed(services, pid=pid) == "unknown_session"


async def test_pid_of_another_user_gets_nothing_and_stays_valid_for_its_own(services: Services) -> None:
    victim = await services.connect_client(services.identity("victim"))
    await drop(services, victim)
    await services.push("user:victim", "secret")

    thief = await services.connect_client(services.identity("thief"), pid=victim.pid)

    assert (thief.result.failure, thief.event_names) == ("other_user", ["connect"])
    assert thief.connection.sid != victim.connection.sid
    assert (await services.connect_client(services.identity("victim"), pid=victim.pid)).event_names == [
        "connect",
        "secret",
        "authenticated",
    ]


async def test_session_is_expired_after_the_window_and_unknown_after_twice_that(services: Services) -> None:
    one, two = (
        await services.connect_client(services.identity("alice")),
        await services.connect_client(services.identity("alice")),
    )
    await drop(services, one)
    await drop(services, two)

    services.schedule.advance(RECOVERY_SECONDS)
    assert await failed(services, pid=one.pid) == "session_expired"
    services.schedule.advance(RECOVERY_SECONDS)
    assert await failed(services, pid=two.pid) == "unknown_session"


@pytest.mark.parametrize("offset", ["", "7", 7, "1-", "01-0", ["1-0"], {}, "x" * 10_000])
async def test_malformed_offset_fails_and_does_not_change_the_session(
    services: Services, offset: object
) -> None:
    before = await services.connect_client(services.identity("alice"))
    await drop(services, before)

    assert await failed(services, pid=before.pid, offset=offset) == "malformed_position"
    assert (
        await services.connect_client(services.identity("alice"), pid=before.pid)
    ).result.first_page is not None


async def test_trimmed_history_fails_the_recovery_and_deletes_the_session(services: Services) -> None:
    before = await services.connect_client(services.identity("alice"))
    await drop(services, before)
    for number in range(101):
        await services.push("user:alice", str(number))

    assert await failed(services, pid=before.pid) == "history_trimmed"
    await services.disconnector.flush()
    assert await failed(services, pid=before.pid) == "unknown_session"


async def test_offset_unknown_to_the_stream_is_lost_data(services: Services) -> None:
    before = await services.connect_client(services.identity("alice"))
    await drop(services, before)

    assert await failed(services, pid=before.pid, offset="9999999999999-0") == "data_lost"


async def test_session_is_unknown_in_another_namespace(services: Services) -> None:
    before = await services.connect_client(services.identity("alice"))
    await drop(services, before)

    result, _ = await services.connect(services.identity("alice"), "/events", pid=before.pid)

    assert result.failure == "unknown_session"


async def test_deleted_session_is_not_resumed(services: Services) -> None:
    before = await services.connect_client(services.identity("alice"))
    services.disconnector.disconnect(before.connection, keeps_session=False)
    await services.disconnector.flush()

    assert await failed(services, pid=before.pid) == "unknown_session"


async def test_deleted_session_is_not_resumed_before_the_shared_state_knows(services: Services) -> None:
    before = await services.connect_client(services.identity("alice"))
    services.disconnector.disconnect(before.connection, keeps_session=False)

    assert await failed(services, pid=before.pid) == "unknown_session"


async def test_late_update_of_a_former_connection_does_not_affect_the_resumed_one(
    services: Services,
) -> None:
    alice = services.identity("alice")
    old = await services.connect_client(alice)
    new = await services.connect_client(alice, pid=old.pid)
    services.disconnector.disconnect(old.connection, keeps_session=False)
    await services.disconnector.flush()
    services.hub.change_rooms(old.connection, {"org:7"})
    assert old.connection.rooms != {"org:7"}

    await drop(services, new)
    assert (await services.connect_client(alice, pid=new.pid)).result.first_page is not None


async def test_client_disconnected_while_away_is_rejected_and_its_session_deleted(services: Services) -> None:
    before = await services.connect_client(services.identity("alice"))
    await drop(services, before)
    await services.broker.append(DisconnectCommand(new_id(), "alice", ("/",), services.clock.now()))

    with pytest.raises(TokenRejected):
        await services.connect_client(services.identity("alice"), pid=before.pid)
    await services.disconnector.flush()

    assert await failed(services, pid=before.pid) == "unknown_session"


async def test_client_that_declines_gets_no_positions_and_no_session(services: Services) -> None:
    client = await services.connect_client(services.identity("alice"), is_declined=True)
    await services.push("user:alice", "plain")
    await services.wait_delivered()

    assert (client.connection.session, client.transport.events) == (None, ["connect", "plain"])


async def test_unavailable_broker_fails_the_connect_and_keeps_the_session(services: Services) -> None:
    before = await services.connect_client(services.identity("alice"))
    await drop(services, before)
    services.broker.error = BrokerUnavailable("unavailable")

    with pytest.raises(BrokerUnavailable):
        await services.connect_client(services.identity("alice"), pid=before.pid)

    services.broker.error = None
    await services.disconnector.flush()
    assert (
        await services.connect_client(services.identity("alice"), pid=before.pid)
    ).result.first_page is not None


# --- a position that the application kept ---


async def test_kept_position_replays_what_came_after_it_to_a_new_connection(services: Services) -> None:
    before = await services.connect_client(services.identity("alice"))
    seen = await services.push("user:alice", "seen")
    await services.push("user:alice", "missed")
    services.disconnector.disconnect(before.connection, keeps_session=False)

    after = await services.connect_client(services.identity("alice"), resume=seen)

    assert after.event_names == ["connect", "missed", "authenticated"]
    assert (after.connection.sid == before.connection.sid, after.pid == before.pid) == (False, False)


async def test_client_lost_during_the_replay_from_a_kept_position_resumes_there(
    services: Services,
) -> None:
    seen = await services.push("user:alice", "seen")
    await services.push("user:alice", "missed")
    first = await services.connect_client(services.identity("alice"), resume=seen)
    await drop(services, first)

    again = await services.connect_client(services.identity("alice"), pid=first.pid)

    assert again.event_names == ["connect", "missed", "authenticated"]


async def test_older_disconnect_command_does_not_end_a_replay_from_a_kept_position(
    services: Services,
) -> None:
    seen = await services.push("user:alice", "seen")
    await miss(services, 10)
    await services.broker.append(DisconnectCommand(new_id(), "alice", ("/",), services.clock.now()))
    await miss(services, 10)

    after = await services.connect_client(services.identity("alice"), resume=seen)
    await after.wait_live()

    assert after.transport.disconnects == []
    assert len(after.event_names) == 22


async def test_session_takes_precedence_over_a_kept_position(services: Services) -> None:
    seen = await services.push("user:alice", "before it came")
    before = await services.connect_client(services.identity("alice"))
    await drop(services, before)

    after = await services.connect_client(
        services.identity("alice"), pid=before.pid, resume="0-0" if seen else None
    )

    assert (after.pid, after.event_names) == (before.pid, ["connect", "authenticated"])


async def test_kept_position_that_is_still_the_newest_never_expires(services: Services) -> None:
    seen = await services.push("user:alice", "seen")
    services.schedule.advance(RECOVERY_SECONDS + 1)

    after = await services.connect_client(services.identity("alice"), resume=seen)

    assert (after.event_names, after.result.failure) == (["connect", "authenticated"], None)


@pytest.mark.parametrize(
    ("resume", "code"),
    [("no position", "malformed_position"), ("1-0", "history_trimmed"), ("9999999999999-0", "data_lost")],
)
async def test_kept_position_that_cannot_be_replayed_from_fails(
    services: Services, resume: str, code: str
) -> None:
    assert await failed(services, resume=resume) == code


async def test_kept_position_older_than_the_window_fails(services: Services) -> None:
    seen = await services.push("user:alice", "seen")
    services.schedule.advance(RECOVERY_SECONDS + 1)
    await services.push("user:bob", "newer")

    assert await failed(services, resume=seen) == "history_trimmed"


# --- since when a room was granted ---


def issued_now(services: Services, *rooms: str) -> Identity:
    """Return Alice's identity by a token that is issued now."""
    return replace(services.identity("alice", *rooms), issued_at=services.clock.now())


async def seen_before(services: Services) -> Position:
    """Push something that Alice's application keeps the position of, a second before the next push."""
    position = await services.push("user:alice", "seen")
    services.schedule.advance(1.0)
    return position


async def test_kept_position_gives_nothing_of_a_room_from_before_it_was_granted(services: Services) -> None:
    seen = await seen_before(services)
    await services.push("org:secret", "before the grant")
    await services.push("user:alice", "own")
    services.schedule.advance(1.0)

    after = await services.connect_client(issued_now(services, "org:secret"), resume=seen)
    await services.push("org:secret", "after it")
    await services.wait_delivered()

    assert after.result.failure == "grant_unknown"
    assert after.event_names == ["connect", "after it"]


async def test_kept_position_gives_what_came_after_the_token_was_issued(services: Services) -> None:
    seen = await seen_before(services)
    alice = issued_now(services, "org:7")
    services.schedule.advance(1.0)
    await services.push("org:7", "missed")

    after = await services.connect_client(alice, resume=seen)

    assert (after.event_names, after.result.failure) == (["connect", "missed", "authenticated"], None)


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "lost"])
async def test_page_that_is_loaded_again_with_a_new_token_gets_what_the_former_one_may_have(
    services: Services, is_open: bool
) -> None:
    before = await services.connect_client(issued_now(services, "org:7"))
    seen = await seen_before(services)
    await services.push("org:7", "missed")
    if not is_open:
        await drop(services, before)
    services.schedule.advance(1.0)

    after = await services.connect_client(issued_now(services, "org:7"), resume=seen)

    assert (after.event_names, after.result.failure) == (["connect", "missed", "authenticated"], None)


async def test_room_granted_to_another_connection_of_the_user_is_visible_from_there(
    services: Services,
) -> None:
    seen = await seen_before(services)
    await services.connect_client(issued_now(services, "org:7"))
    services.schedule.advance(1.0)
    await services.push("org:7", "after the grant")
    services.schedule.advance(1.0)

    after = await services.connect_client(issued_now(services, "org:7"), resume=seen)
    again = await services.connect_client(issued_now(services, "org:7"), pid=after.pid, offset=seen)

    for each in (after, again):
        assert each.event_names == ["connect", "after the grant", "authenticated"]


async def test_kept_position_is_complete_if_nothing_went_to_a_room_before_its_grant(
    services: Services,
) -> None:
    seen = await seen_before(services)
    await services.push("org:other", "not for her")
    await services.push("org:7", "not for her either", exclude="user:alice")
    await services.push("user:alice", "own")
    services.schedule.advance(1.0)

    after = await services.connect_client(issued_now(services, "org:7"), resume=seen)

    assert (after.event_names, after.result.failure) == (["connect", "own", "authenticated"], None)


async def test_message_that_reaches_a_connection_by_another_room_too_is_not_hidden(
    services: Services,
) -> None:
    seen = await seen_before(services)
    both = Message(new_id(), "/", ("org:7", "user:alice"), "both", ())
    await services.broker.append(both)
    services.schedule.advance(1.0)

    after = await services.connect_client(issued_now(services, "org:7"), resume=seen)

    assert (after.event_names, after.result.failure) == (["connect", "both", "authenticated"], None)


async def test_token_that_does_not_say_when_it_was_issued_gives_rooms_from_now_on(services: Services) -> None:
    seen = await seen_before(services)
    await services.push("org:7", "before")
    alice = replace(services.identity("alice", "org:7"), issued_at=None)

    after = await services.connect_client(alice, resume=seen)

    assert after.result.failure == "grant_unknown"
    assert after.event_names == ["connect"]


async def test_hidden_message_in_a_later_page_is_reported_when_it_is_reached(services: Services) -> None:
    seen = await seen_before(services)
    await miss(services, 12)  # more than a page
    await services.push("org:7", "before the grant")
    services.schedule.advance(1.0)

    after = await services.connect_client(issued_now(services, "org:7"), resume=seen)
    await after.wait_live()
    await services.push("org:7", "after it")
    await services.wait_delivered()

    assert after.transport.emitted == [("recovery:failed", {"code": "grant_unknown"})]
    assert after.event_names.count("before the grant") == 0
    assert after.event_names[-2:] == ["authenticated", "after it"]


# --- replaying ---


async def miss(services: Services, count: int) -> None:
    argument = '"' + "x" * (SEND_BUFFER_BYTES // 10) + '"'
    for number in range(count):
        await services.broker.append(Message(new_id(), "/", ("user:alice",), str(number), (argument,)))


async def connect_after(services: Services, *, missed: int) -> tuple[ConnectResult, RecordingTransport]:
    """Resume a connection that missed so many large messages; it is not accepted yet."""
    before = await services.connect_client(services.identity("alice"))
    await drop(services, before)
    await miss(services, missed)
    return await services.connect(services.identity("alice"), pid=before.pid)


async def test_next_page_is_read_once_the_one_before_was_taken(services: Services) -> None:
    before = await services.connect_client(services.identity("alice"))
    await drop(services, before)
    await miss(services, 20)

    client = await services.connect_client(services.identity("alice"), pid=before.pid)
    assert client.event_names == ["connect", *map(str, range(4))]
    assert client.connection.state is ConnectionState.REPLAYING

    await services.push("user:alice", "live")
    await client.wait_live()
    await services.push("user:alice", "later")
    await services.wait_delivered()

    assert client.event_names == ["connect", *map(str, range(20)), "live", "authenticated", "later"]


async def test_client_that_does_not_read_gets_no_further_page(services: Services) -> None:
    result, transport = await connect_after(services, missed=20)

    services.replayer.start(result, [], None)
    transport.drained.clear()
    await services.push("user:alice", "live")
    await services.wait_delivered()

    assert len(transport.events) == 4


async def test_client_with_a_full_send_buffer_gets_no_first_page(services: Services) -> None:
    result, transport = await connect_after(services, missed=10)
    transport.drained.clear()

    services.replayer.start(result, [], None)
    await services.wait_delivered()
    assert transport.events == []
    transport.drained.set()
    client = ConnectedClient(result, transport)
    await client.wait_live()

    assert client.event_names == [str(number) for number in range(10)]


async def test_two_connections_on_one_transport_replay_in_turn_and_both_go_live(services: Services) -> None:
    former = [await services.connect_client(services.identity("alice")) for _ in range(2)]
    for before in former:
        await drop(services, before)
    await miss(services, 20)
    connected = [await services.connect(services.identity("alice"), pid=before.pid) for before in former]
    (_, one), (_, two) = connected
    two.replay_lock = one.replay_lock

    for result, _ in connected:
        services.replayer.start(result, [], None)
    clients = [ConnectedClient(result, transport) for result, transport in connected]
    for client in clients:
        await client.wait_live()

    assert [client.event_names for client in clients] == [[str(number) for number in range(20)]] * 2


async def test_skipped_message_that_the_history_lost_is_reported_and_not_waited_for(
    services: Services,
) -> None:
    result, transport = await connect_after(services, missed=10)
    services.replayer.start(result, [], None)
    result.connection.last_skipped = Position("9999999999999-0")
    client = ConnectedClient(result, transport)

    await client.wait_live()

    assert transport.emitted == [("recovery:failed", {"code": "data_lost"})]


async def test_twenty_drops_during_a_replay_lose_and_double_nothing(services: Services) -> None:
    alice = services.identity("alice")
    client = await services.connect_client(alice)
    await drop(services, client)
    await miss(services, 60)
    got: list[str] = []
    offset: Position | None = None

    for _ in range(20):
        client = await services.connect_client(alice, pid=client.pid, offset=offset)
        read = [event for event in client.transport.events if "@" in event and "authenticated" not in event][
            :3
        ]
        got += [event.partition("@")[0] for event in read]
        offset = Position(read[-1].partition("@")[2])
        await drop(services, client)

    assert got == [str(number) for number in range(60)]


async def test_gap_during_a_replay_is_reported_and_the_rest_follows(services: Services) -> None:
    result, transport = await connect_after(services, missed=10)
    transport.drained.clear()
    services.replayer.start(result, [], None)
    for number in range(200):
        await services.push("user:alice", f"more {number}")

    transport.drained.set()
    client = ConnectedClient(result, transport)
    await client.wait_live()

    assert transport.emitted == [("recovery:failed", {"code": "history_trimmed"})]
    assert client.event_names[-1] == "more 199"


async def test_disconnect_command_during_a_replay_ends_the_connection(services: Services) -> None:
    result, transport = await connect_after(services, missed=10)
    transport.drained.clear()
    services.replayer.start(result, [], None)

    await services.broker.append(DisconnectCommand(new_id(), "alice", ("/",), services.clock.now()))
    await services.wait_delivered()

    assert transport.disconnects == [DISCONNECTED_BY_BACKEND]


# --- live again ---


async def test_late_live_delivery_repeats_nothing(services: Services) -> None:
    alice = services.identity("alice")
    before = await services.connect_client(alice)
    await drop(services, before)
    other = await services.connect_client(alice)
    services.delivery_gate.clear()
    await services.push("user:alice", "missed")
    after = await services.connect_client(alice, pid=before.pid)
    await services.push("user:alice", "live")

    services.delivery_gate.set()
    await services.wait_delivered()

    assert after.event_names == ["connect", "missed", "authenticated", "live"]
    assert other.event_names == ["connect", "missed", "live"]


async def test_positions_on_a_connection_never_go_back_even_with_volatile_messages(
    services: Services,
) -> None:
    alice = services.identity("alice")
    before = await services.connect_client(alice)
    await drop(services, before)
    await services.connect_client(alice)
    services.delivery_gate.clear()
    await services.push("user:alice", "keeps the listener busy")
    await services.push("user:alice", "volatile", volatile=True)
    await services.push("user:alice", "missed")
    after = await services.connect_client(alice, pid=before.pid)

    services.delivery_gate.set()
    await services.push("user:alice", "volatile again", volatile=True)
    await services.wait_delivered()

    assert after.offsets == sorted(after.offsets)
    assert after.event_names == [
        "connect",
        "keeps the listener busy",
        "missed",
        "authenticated",
        "volatile",
        "volatile again",
    ]


async def test_message_pushed_between_subscription_and_acceptance_is_not_lost(services: Services) -> None:
    result, transport = await services.connect(services.identity("alice"))
    await services.push("user:alice", "in between")
    await services.wait_delivered()

    services.replayer.start(result, [], None)
    client = ConnectedClient(result, transport)
    await client.wait_live()
    await services.push("user:alice", "live")
    await services.wait_delivered()

    assert client.event_names == ["in between", "live"]


# --- the former connection still exists ---


async def test_former_connection_on_this_replica_is_aborted_and_loses_nothing(
    services: Services,
) -> None:
    alice = services.identity("alice", "org:7")
    old = await services.connect_client(alice)
    await services.push("org:7", "lost on its way")
    await services.wait_delivered()

    new = await services.connect_client(alice, pid=old.pid)
    services.disconnector.disconnect(old.connection)
    await services.disconnector.flush()
    await services.push("org:7", "live")
    await services.wait_delivered()

    assert old.transport.disconnects == [RESUMED_ELSEWHERE]
    assert new.event_names == ["connect", "lost on its way", "authenticated", "live"]
    assert [each.sid for each in await services.online("alice")] == [new.connection.sid]
    await drop(services, new)
    assert (await services.connect_client(alice, pid=new.pid)).result.first_page is not None


async def test_session_takeover_ends_the_former_owner_and_no_other_connection(services: Services) -> None:
    other = await services.connect_client(services.identity("alice"))
    sid, owner = other.connection.sid, "replica-2.x"

    assert other.connection.session is not None
    await services.hub.deliver(SessionTakeover(new_id(), "/", sid, owner), Position("9999999999999-0"))
    assert other.transport.disconnects == []
    await services.hub.deliver(
        SessionTakeover(new_id(), "/", sid, other.connection.session.owner), Position("1-0")
    )
    assert other.transport.disconnects == [RESUMED_ELSEWHERE]


async def test_session_takeover_during_a_connect_is_a_temporary_failure(services: Services) -> None:
    before = await services.connect_client(services.identity("alice"))
    await drop(services, before)
    services.presence.gate.clear()
    services.presence.entered.clear()
    connecting = asyncio.create_task(
        services.connect_client(services.identity("alice"), pid=before.pid, owner="replica-1.me")
    )
    await asyncio.wait_for(services.presence.entered.wait(), TIMEOUT_SECONDS)

    sid = before.connection.sid
    await services.hub.deliver(
        SessionTakeover(new_id(), "/", sid, "replica-1.other"), Position("9999999999999-0")
    )
    await services.hub.deliver(
        SessionTakeover(new_id(), "/", sid, "replica-1.me"), Position("9999999999999-1")
    )
    services.presence.gate.set()

    with pytest.raises(BrokerUnavailable):
        await connecting


async def test_resumed_connection_counts_and_is_rejected_at_the_limit_of_its_user_but_not_lost() -> None:
    services = Services(max_connections=1)
    alice = services.identity("alice")
    former = await services.connect_client(alice)
    await drop(services, former)
    await services.push("user:alice", "missed")
    other = await services.connect_client(alice)

    with pytest.raises(TooManyConnections):
        await services.connect_client(alice, pid=former.pid)

    await drop(services, other)
    resumed = await services.connect_client(alice, pid=former.pid)
    assert resumed.connection.sid == former.connection.sid
    assert resumed.event_names == ["connect", "missed", "authenticated"]
    await services.close()


async def test_resumed_connection_takes_the_place_of_its_former_one_at_the_limit() -> None:
    services = Services(max_connections=1)
    alice = services.identity("alice")
    former = await services.connect_client(alice)

    resumed = await services.connect_client(alice, pid=former.pid)

    assert resumed.connection.sid == former.connection.sid
    assert len(await services.online("alice")) == 1
    await services.close()


async def test_attempt_that_is_still_connecting_is_replaced_by_the_next() -> None:
    services = Services(max_connections=1)
    alice = services.identity("alice")
    before = await services.connect_client(alice)
    await drop(services, before)
    services.presence.gate.clear()
    services.presence.entered.clear()
    cut = asyncio.create_task(services.connect_client(alice, pid=before.pid))
    await asyncio.wait_for(services.presence.entered.wait(), TIMEOUT_SECONDS)

    next_one = asyncio.create_task(services.connect_client(alice, pid=before.pid))
    await asyncio.sleep(0)
    services.presence.gate.set()
    await asyncio.gather(cut, return_exceptions=True)

    assert (await next_one).result.first_page is not None
    await services.close()
