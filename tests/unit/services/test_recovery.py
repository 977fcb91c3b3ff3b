"""A client comes back to where it was: what it gets, in what order, and why it does not."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND, RESUMED_ELSEWHERE
from gateway.domain.errors import BrokerUnavailable, TokenRejected, TooManyConnections
from gateway.domain.messages import DisconnectCommand, Message, SessionTakeover, new_id
from gateway.domain.positions import Position
from gateway.hub import ConnectionState
from gateway.services.recovery import ConnectResult
from tests.unit.hub.transports import RecordingTransport
from tests.unit.services.harness import PATIENCE_SECONDS, RECOVERY_SECONDS, SEND_BUFFER_BYTES, House, Visitor


async def drop(house: House, visitor: Visitor) -> None:
    house.reporting.disconnect(visitor.connection)
    await house.reporting.flush()


async def test_a_client_that_was_away_gets_what_it_missed_once_in_order_and_then_what_comes(
    house: House,
) -> None:
    alice = house.who("alice", "org:7")
    before = await house.come(alice)
    seen = await house.push("org:7", "one")
    await house.heard()
    await drop(house, before)
    await house.push("org:7", "two")
    await house.push("user:alice", "three")

    after = await house.come(alice, pid=before.pid, offset=seen)
    await house.push("org:7", "four")
    await house.heard()

    assert (before.news, after.news) == (
        ["connect", "one"],
        ["connect", "two", "three", "greeting", "four"],
    )
    assert (after.connection.sid, after.pid) == (before.connection.sid, before.pid)
    assert after.offsets == sorted(after.offsets)
    assert house.recovered == [2]


@pytest.mark.parametrize("offset", [None, "0-0", "1-0"])
async def test_an_offset_that_is_missing_or_before_the_beginning_counts_as_the_beginning(
    house: House, offset: str | None
) -> None:
    alice = house.who("alice", "org:7")
    await house.push("org:7", "before it came")
    before = await house.come(alice)
    await drop(house, before)
    await house.push("org:7", "missed")

    after = await house.come(alice, pid=before.pid, offset=offset)

    assert after.news == ["connect", "missed", "greeting"]


async def test_a_quiet_client_whose_offset_is_older_than_the_history_is_resumed(house: House) -> None:
    alice = house.who("alice")
    before = await house.come(alice)
    seen = await house.push("user:alice", "long ago")
    await house.heard()
    house.schedule.advance(100 * RECOVERY_SECONDS)
    await house.push("user:bob", "lets go of what is old")
    await drop(house, before)
    for number in range(3):
        await house.push("user:alice", str(number))

    after = await house.come(alice, pid=before.pid, offset=seen)

    assert after.news == ["connect", "0", "1", "2", "greeting"]


async def test_what_was_not_for_it_is_not_among_what_it_missed(house: House) -> None:
    alice = house.who("alice", "org:7", "staff")
    before = await house.come(alice)
    await drop(house, before)
    await house.push("org:7", "not for staff", exclude="staff")
    await house.push("org:7", "not for this one", exclude=before.connection.sid)
    await house.push("org:8", "not its room")
    await house.push("org:7", "volatile", volatile=True)
    await house.push(before.connection.sid, "for it alone")

    after = await house.come(alice, pid=before.pid)

    assert after.news == ["connect", "for it alone", "greeting"]


async def test_rooms_are_those_of_the_token_that_is_shown_now(house: House) -> None:
    before = await house.come(house.who("alice", "role:admin", "org:7"))
    await drop(house, before)
    await house.push("role:admin", "secret")
    await house.push("org:7", "for all of them")

    after = await house.come(house.who("alice", "org:7"), pid=before.pid)
    await house.push("role:admin", "still secret")
    await house.heard()

    assert after.news == ["connect", "for all of them", "greeting"]
    assert "role:admin" not in after.connection.rooms


async def test_what_went_to_a_room_before_it_was_entered_is_not_replayed(house: House) -> None:
    before = await house.come(house.who("alice"))
    await house.push("org:7", "before it was in there")
    await house.arriving.refresh(before.connection, house.who("alice", "org:7"))
    await drop(house, before)
    await house.push("org:7", "missed")
    await house.push("role:new", "before the token had it")

    after = await house.come(house.who("alice", "org:7", "role:new"), pid=before.pid)

    assert after.news == ["connect", "missed", "greeting"]


async def test_a_room_that_was_left_meanwhile_and_entered_again_counts_from_then(house: House) -> None:
    before = await house.come(house.who("alice", "org:7"))
    await house.arriving.refresh(before.connection, house.who("alice"))
    await house.push("org:7", "while it was out")
    await house.arriving.refresh(before.connection, house.who("alice", "org:7"))
    await drop(house, before)

    after = await house.come(house.who("alice", "org:7"), pid=before.pid)

    assert after.news == ["connect", "greeting"]


# --- why not ---


async def failed(house: House, **recovery_request: object) -> str | None:
    visitor = await house.come(house.who("alice"), **recovery_request)
    assert visitor.result.first_page is None
    return visitor.result.failure


@pytest.mark.parametrize("pid", ["unknown", "", "\ud800", "a b", "a\n", 7, ["x"], {}, "x" * 1000])
async def test_what_names_no_session_is_answered_with_a_fresh_connection(house: House, pid: object) -> None:
    assert await failed(house, pid=pid) == "unknown_session"


async def test_the_pid_of_another_user_yields_nothing_and_stays_good_for_its_own(house: House) -> None:
    victim = await house.come(house.who("victim"))
    await drop(house, victim)
    await house.push("user:victim", "secret")

    thief = await house.come(house.who("thief"), pid=victim.pid)

    assert (thief.result.failure, thief.news) == ("other_user", ["connect"])
    assert thief.connection.sid != victim.connection.sid
    assert (await house.come(house.who("victim"), pid=victim.pid)).news == ["connect", "secret", "greeting"]


async def test_who_comes_too_late_is_told_so_and_later_still_is_not_known(house: House) -> None:
    one, two = await house.come(house.who("alice")), await house.come(house.who("alice"))
    await drop(house, one)
    await drop(house, two)

    house.schedule.advance(RECOVERY_SECONDS)
    assert await failed(house, pid=one.pid) == "session_expired"
    house.schedule.advance(RECOVERY_SECONDS)
    assert await failed(house, pid=two.pid) == "unknown_session"


@pytest.mark.parametrize("offset", ["", "7", 7, "1-", "01-0", ["1-0"], {}, "x" * 10_000])
async def test_an_offset_that_is_none_is_told_and_leaves_the_session_alone(
    house: House, offset: object
) -> None:
    before = await house.come(house.who("alice"))
    await drop(house, before)

    assert await failed(house, pid=before.pid, offset=offset) == "malformed_position"
    assert (await house.come(house.who("alice"), pid=before.pid)).result.first_page is not None


async def test_who_missed_more_than_is_held_is_told_and_the_session_is_gone(house: House) -> None:
    before = await house.come(house.who("alice"))
    await drop(house, before)
    for number in range(101):
        await house.push("user:alice", str(number))

    assert await failed(house, pid=before.pid) == "history_trimmed"
    await house.reporting.flush()
    assert await failed(house, pid=before.pid) == "unknown_session"


async def test_an_offset_that_this_stream_never_had_is_lost_data(house: House) -> None:
    before = await house.come(house.who("alice"))
    await drop(house, before)

    assert await failed(house, pid=before.pid, offset="9999999999999-0") == "data_lost"


async def test_another_namespace_does_not_know_the_session(house: House) -> None:
    before = await house.come(house.who("alice"))
    await drop(house, before)

    result, _ = await house.arrive(house.who("alice"), "/events", pid=before.pid)

    assert result.failure == "unknown_session"


async def test_who_left_for_good_is_not_resumed(house: House) -> None:
    before = await house.come(house.who("alice"))
    house.reporting.disconnect(before.connection, keeps_session=False)
    await house.reporting.flush()

    assert await failed(house, pid=before.pid) == "unknown_session"


async def test_who_left_for_good_is_not_resumed_before_the_shared_state_knows(house: House) -> None:
    before = await house.come(house.who("alice"))
    house.reporting.disconnect(before.connection, keeps_session=False)

    assert await failed(house, pid=before.pid) == "unknown_session"


async def test_what_is_told_late_of_a_former_connection_is_nothing_to_its_successor_here(
    house: House,
) -> None:
    alice = house.who("alice")
    old = await house.come(alice)
    new = await house.come(alice, pid=old.pid)
    house.reporting.disconnect(old.connection, keeps_session=False)
    await house.reporting.flush()
    house.hub.change_rooms(old.connection, {"org:7"})
    assert old.connection.rooms != {"org:7"}

    await drop(house, new)
    assert (await house.come(alice, pid=new.pid)).result.first_page is not None


async def test_who_was_kicked_while_away_is_refused_and_the_session_is_gone(house: House) -> None:
    before = await house.come(house.who("alice"))
    await drop(house, before)
    await house.broker.append(DisconnectCommand(new_id(), "alice", ("/",), house.clock.now()))

    with pytest.raises(TokenRejected):
        await house.come(house.who("alice"), pid=before.pid)
    await house.reporting.flush()

    assert await failed(house, pid=before.pid) == "unknown_session"


async def test_who_declines_gets_no_positions_and_cannot_come_back(house: House) -> None:
    visitor = await house.come(house.who("alice"), is_declined=True)
    await house.push("user:alice", "plain")
    await house.heard()

    assert (visitor.connection.session, visitor.link.events) == (None, ["connect", "plain"])


async def test_a_broker_that_is_away_lets_nobody_in_and_keeps_the_session(house: House) -> None:
    before = await house.come(house.who("alice"))
    await drop(house, before)
    house.broker.fails = BrokerUnavailable("away")

    with pytest.raises(BrokerUnavailable):
        await house.come(house.who("alice"), pid=before.pid)

    house.broker.fails = None
    await house.reporting.flush()
    assert (await house.come(house.who("alice"), pid=before.pid)).result.first_page is not None


# --- a position that the application kept ---


async def test_a_kept_position_brings_what_came_after_it_to_a_new_connection(house: House) -> None:
    before = await house.come(house.who("alice"))
    seen = await house.push("user:alice", "seen")
    await house.push("user:alice", "missed")
    house.reporting.disconnect(before.connection, keeps_session=False)

    after = await house.come(house.who("alice"), resume=seen)

    assert after.news == ["connect", "missed", "greeting"]
    assert (after.connection.sid == before.connection.sid, after.pid == before.pid) == (False, False)


async def test_who_drops_while_it_reads_on_from_a_kept_position_goes_on_from_there(house: House) -> None:
    seen = await house.push("user:alice", "seen")
    await house.push("user:alice", "missed")
    first = await house.come(house.who("alice"), resume=seen)
    await drop(house, first)

    again = await house.come(house.who("alice"), pid=first.pid)

    assert again.news == ["connect", "missed", "greeting"]


async def test_an_older_kick_does_not_end_who_goes_on_from_a_kept_position(house: House) -> None:
    seen = await house.push("user:alice", "seen")
    await miss(house, 10)
    await house.broker.append(DisconnectCommand(new_id(), "alice", ("/",), house.clock.now()))
    await miss(house, 10)

    after = await house.come(house.who("alice"), resume=seen)
    await after.is_live()

    assert after.link.ended == []
    assert len(after.news) == 22


async def test_a_session_goes_before_a_kept_position(house: House) -> None:
    seen = await house.push("user:alice", "before it came")
    before = await house.come(house.who("alice"))
    await drop(house, before)

    after = await house.come(house.who("alice"), pid=before.pid, resume="0-0" if seen else None)

    assert (after.pid, after.news) == (before.pid, ["connect", "greeting"])


async def test_a_kept_position_that_is_still_the_newest_has_no_age(house: House) -> None:
    seen = await house.push("user:alice", "seen")
    house.schedule.advance(RECOVERY_SECONDS + 1)

    after = await house.come(house.who("alice"), resume=seen)

    assert (after.news, after.result.failure) == (["connect", "greeting"], None)


@pytest.mark.parametrize(
    ("resume", "code"),
    [("no position", "malformed_position"), ("1-0", "history_trimmed"), ("9999999999999-0", "data_lost")],
)
async def test_a_kept_position_that_cannot_be_gone_on_from_is_told(
    house: House, resume: str, code: str
) -> None:
    assert await failed(house, resume=resume) == code


async def test_a_kept_position_that_is_older_than_the_window_is_told(house: House) -> None:
    seen = await house.push("user:alice", "seen")
    house.schedule.advance(RECOVERY_SECONDS + 1)
    await house.push("user:bob", "newer")

    assert await failed(house, resume=seen) == "history_trimmed"


# --- behind ---


async def miss(house: House, count: int) -> None:
    argument = '"' + "x" * (SEND_BUFFER_BYTES // 10) + '"'
    for number in range(count):
        await house.broker.append(Message(new_id(), "/", ("user:alice",), str(number), (argument,)))


async def arrive_after(house: House, *, missed: int) -> tuple[ConnectResult, RecordingTransport]:
    """Alice comes back, who missed so many large messages; she is not welcomed yet."""
    before = await house.come(house.who("alice"))
    await drop(house, before)
    await miss(house, missed)
    return await house.arrive(house.who("alice"), pid=before.pid)


async def test_the_next_page_is_read_once_the_one_before_was_taken(house: House) -> None:
    before = await house.come(house.who("alice"))
    await drop(house, before)
    await miss(house, 20)

    link_reads = await house.come(house.who("alice"), pid=before.pid)
    assert link_reads.news == ["connect", *map(str, range(4))]
    assert link_reads.connection.state is ConnectionState.REPLAYING

    await house.push("user:alice", "live")
    await link_reads.is_live()
    await house.push("user:alice", "later")
    await house.heard()

    assert link_reads.news == ["connect", *map(str, range(20)), "live", "greeting", "later"]


async def test_who_does_not_read_is_sent_no_further_page(house: House) -> None:
    result, link = await arrive_after(house, missed=20)

    house.catching_up.start(result, [], None)
    link.reads.clear()
    await house.push("user:alice", "live")
    await house.heard()

    assert len(link.events) == 4


async def test_who_has_much_to_read_already_is_sent_not_even_the_first_page(house: House) -> None:
    result, link = await arrive_after(house, missed=10)
    link.reads.clear()

    house.catching_up.start(result, [], None)
    await house.heard()
    assert link.events == []
    link.reads.set()
    visitor = Visitor(result, link)
    await visitor.is_live()

    assert visitor.news == [str(number) for number in range(10)]


async def test_two_on_one_transport_read_in_turn_and_both_go_live(house: House) -> None:
    befores = [await house.come(house.who("alice")) for _ in range(2)]
    for before in befores:
        await drop(house, before)
    await miss(house, 20)
    arrivals = [await house.arrive(house.who("alice"), pid=before.pid) for before in befores]
    (_, one), (_, two) = arrivals
    two.replay_lock = one.replay_lock

    for result, _ in arrivals:
        house.catching_up.start(result, [], None)
    visitors = [Visitor(result, link) for result, link in arrivals]
    for visitor in visitors:
        await visitor.is_live()

    assert [visitor.news for visitor in visitors] == [[str(number) for number in range(20)]] * 2


async def test_what_the_listener_brought_and_the_history_lost_is_told_and_not_waited_for(
    house: House,
) -> None:
    result, link = await arrive_after(house, missed=10)
    house.catching_up.start(result, [], None)
    result.connection.last_skipped = Position("9999999999999-0")
    visitor = Visitor(result, link)

    await visitor.is_live()

    assert link.told == [("recovery:failed", {"code": "data_lost"})]


async def test_twenty_drops_in_the_middle_lose_and_double_nothing(house: House) -> None:
    alice = house.who("alice")
    visitor = await house.come(alice)
    await drop(house, visitor)
    await miss(house, 60)
    got: list[str] = []
    offset: Position | None = None

    for _ in range(20):
        visitor = await house.come(alice, pid=visitor.pid, offset=offset)
        read = [event for event in visitor.link.events if "@" in event and "greeting" not in event][:3]
        got += [event.partition("@")[0] for event in read]
        offset = Position(read[-1].partition("@")[2])
        await drop(house, visitor)

    assert got == [str(number) for number in range(60)]


async def test_a_gap_in_the_middle_is_told_and_the_rest_follows(house: House) -> None:
    result, link = await arrive_after(house, missed=10)
    link.reads.clear()
    house.catching_up.start(result, [], None)
    for number in range(200):
        await house.push("user:alice", f"more {number}")

    link.reads.set()
    visitor = Visitor(result, link)
    await visitor.is_live()

    assert link.told == [("recovery:failed", {"code": "history_trimmed"})]
    assert visitor.news[-1] == "more 199"


async def test_a_kick_in_the_middle_ends_it(house: House) -> None:
    result, link = await arrive_after(house, missed=10)
    link.reads.clear()
    house.catching_up.start(result, [], None)

    await house.broker.append(DisconnectCommand(new_id(), "alice", ("/",), house.clock.now()))
    await house.heard()

    assert link.ended == [DISCONNECTED_BY_BACKEND]


# --- live again ---


async def test_a_listener_that_is_behind_brings_nothing_twice(house: House) -> None:
    alice = house.who("alice")
    before = await house.come(alice)
    await drop(house, before)
    stays = await house.come(alice)
    house.hears.clear()
    await house.push("user:alice", "missed")
    after = await house.come(alice, pid=before.pid)
    await house.push("user:alice", "live")

    house.hears.set()
    await house.heard()

    assert after.news == ["connect", "missed", "greeting", "live"]
    assert stays.news == ["connect", "missed", "live"]


async def test_positions_never_go_back_on_a_connection_not_even_with_volatile_messages(house: House) -> None:
    alice = house.who("alice")
    before = await house.come(alice)
    await drop(house, before)
    await house.come(alice)
    house.hears.clear()
    await house.push("user:alice", "keeps the listener busy")
    await house.push("user:alice", "volatile", volatile=True)
    await house.push("user:alice", "missed")
    after = await house.come(alice, pid=before.pid)

    house.hears.set()
    await house.push("user:alice", "volatile again", volatile=True)
    await house.heard()

    assert after.offsets == sorted(after.offsets)
    assert after.news == [
        "connect",
        "keeps the listener busy",
        "missed",
        "greeting",
        "volatile",
        "volatile again",
    ]


async def test_what_is_pushed_between_subscription_and_welcome_is_not_lost(house: House) -> None:
    result, link = await house.arrive(house.who("alice"))
    await house.push("user:alice", "in between")
    await house.heard()

    house.catching_up.start(result, [], None)
    visitor = Visitor(result, link)
    await visitor.is_live()
    await house.push("user:alice", "live")
    await house.heard()

    assert visitor.news == ["in between", "live"]


# --- where the old connection still looks alive ---


async def test_one_that_is_still_here_is_dropped_without_a_word_and_takes_nothing_with_it(
    house: House,
) -> None:
    alice = house.who("alice", "org:7")
    old = await house.come(alice)
    await house.push("org:7", "lost on its way")
    await house.heard()

    new = await house.come(alice, pid=old.pid)
    house.reporting.disconnect(old.connection)
    await house.reporting.flush()
    await house.push("org:7", "live")
    await house.heard()

    assert old.link.ended == [RESUMED_ELSEWHERE]
    assert new.news == ["connect", "lost on its way", "greeting", "live"]
    assert [each.sid for each in await house.online("alice")] == [new.connection.sid]
    await drop(house, new)
    assert (await house.come(alice, pid=new.pid)).result.first_page is not None


async def test_word_of_a_move_ends_the_one_that_lost_its_session_and_no_other(house: House) -> None:
    stays = await house.come(house.who("alice"))
    sid, owner = stays.connection.sid, "replica-2.x"

    assert stays.connection.session is not None
    await house.hub.deliver(SessionTakeover(new_id(), "/", sid, owner), Position("9999999999999-0"))
    assert stays.link.ended == []
    await house.hub.deliver(
        SessionTakeover(new_id(), "/", sid, stays.connection.session.owner), Position("1-0")
    )
    assert stays.link.ended == [RESUMED_ELSEWHERE]


async def test_word_of_a_move_refuses_nobody_for_good_who_is_just_coming_in(house: House) -> None:
    before = await house.come(house.who("alice"))
    await drop(house, before)
    house.presence.gate.clear()
    house.presence.entered.clear()
    coming = asyncio.create_task(house.come(house.who("alice"), pid=before.pid, owner="replica-1.me"))
    await asyncio.wait_for(house.presence.entered.wait(), PATIENCE_SECONDS)

    sid = before.connection.sid
    await house.hub.deliver(
        SessionTakeover(new_id(), "/", sid, "replica-1.somebody else"), Position("9999999999999-0")
    )
    await house.hub.deliver(SessionTakeover(new_id(), "/", sid, "replica-1.me"), Position("9999999999999-1"))
    house.presence.gate.set()

    with pytest.raises(BrokerUnavailable):
        await coming


async def test_one_that_goes_on_is_not_refused_because_its_user_has_many_connections_here() -> None:
    """As when another replica goes, where the user had as many."""
    house = House(max_connections=1)
    alice = house.who("alice")
    of_the_other = await house.come(alice)
    await drop(house, of_the_other)
    await house.come(alice)

    went_on = await house.come(alice, pid=of_the_other.pid)

    assert went_on.connection.sid == of_the_other.connection.sid
    with pytest.raises(TooManyConnections):
        await house.come(alice)
    await house.close()


async def test_an_attempt_that_is_still_arriving_makes_room_for_the_next() -> None:
    house = House(max_connections=1)
    alice = house.who("alice")
    before = await house.come(alice)
    await drop(house, before)
    house.presence.gate.clear()
    house.presence.entered.clear()
    cut = asyncio.create_task(house.come(alice, pid=before.pid))
    await asyncio.wait_for(house.presence.entered.wait(), PATIENCE_SECONDS)

    next_one = asyncio.create_task(house.come(alice, pid=before.pid))
    await asyncio.sleep(0)
    house.presence.gate.set()
    await asyncio.gather(cut, return_exceptions=True)

    assert (await next_one).result.first_page is not None
    await house.close()
