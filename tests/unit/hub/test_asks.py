"""Asks: which connections have to acknowledge a message, and what is reported of them."""

from __future__ import annotations

from gateway.domain.acks import ALL, AckReport, AckTerms
from gateway.domain.messages import Message, new_id
from gateway.domain.positions import Position
from gateway.hub import Connection, ConnectionState, Hub
from gateway.hub.asks import MAX_OPEN, MAX_REPORT_BYTES, Asks
from gateway.metrics import MetricFactory
from tests.support.metrics import counted
from tests.unit.hub.transports import RecordingTransport, connection, encode

POSITION = Position("1-0")


class AskingHub:
    """A hub with members of one room."""

    def __init__(self, *, max_ack_bytes: int = 1_000_000) -> None:
        self.hub = Hub(encode, metrics=MetricFactory(), max_ack_bytes=max_ack_bytes)

    def join(
        self, sid: str, *, state: ConnectionState = ConnectionState.LIVE, has_socket: bool = True
    ) -> tuple[Connection, RecordingTransport]:
        made, transport = connection(sid, f"user of {sid}", state=state, has_socket=has_socket)
        self.hub.add(made, {"room", sid})
        return made, transport

    async def ask(self, want: int = ALL, *, seconds: float = 5.0, rooms: tuple[str, ...] = ("room",)) -> str:
        """Deliver a message that asks for acknowledgements; return its id."""
        message = Message(new_id(), "/", rooms, "ask", (), reply_to="origin", ack=AckTerms(want, seconds))
        await self.hub.deliver(message, POSITION)
        return message.id

    async def reported(self) -> dict[str, list[AckReport]]:
        """Return what is to be reported now, by message."""
        return {ask.message_id: reports for ask, reports in (await self.hub.asks.changed()).items()}

    def acknowledge(
        self, made: Connection, transport: RecordingTransport, text: str = "[]", at: int = -1
    ) -> None:
        self.hub.asks.acknowledge(made, ack_id(transport, at), text, 0)


def ack_id(transport: RecordingTransport, at: int = -1) -> int:
    """The id in an event that was sent."""
    return int(transport.events[at].partition("#")[2])


async def test_all_recipients_get_the_same_bytes_without_a_position() -> None:
    harness = AskingHub()
    (_, by_socket), (_, by_transport) = harness.join("a"), harness.join("b", has_socket=False)

    await harness.ask()

    assert by_socket.frames == by_transport.frames
    assert "@" not in by_socket.events[0]
    assert by_transport.volatile == [False]


async def test_connections_that_are_not_live_are_not_asked_and_miss_nothing() -> None:
    harness = AskingHub()
    harness.join("a")
    for state in (ConnectionState.CONNECTING, ConnectionState.REPLAYING):
        made, transport = harness.join(state.value, state=state)
        await harness.ask()
        assert (transport.events, made.last_skipped) == ([], None)

    for [report] in (await harness.reported()).values():
        assert report == AckReport(1, 0, 0, 0, ())


async def test_replica_without_a_recipient_reports_so() -> None:
    harness = AskingHub()

    message_id = await harness.ask(rooms=("elsewhere",))

    assert await harness.reported() == {message_id: [AckReport(0, 0, 0, 0, ())]}
    assert len(harness.hub.asks) == 0


async def test_connection_whose_transport_takes_nothing_is_not_asked() -> None:
    harness = AskingHub()
    harness.join("a")
    made, full = harness.join("b", has_socket=False)
    full.accepts = False

    message_id = await harness.ask()

    assert await harness.reported() == {message_id: [AckReport(1, 0, 0, 0, ())]}
    assert made.open_asks is None


async def test_reports_count_from_the_beginning_and_list_what_is_new() -> None:
    harness = AskingHub()
    members = [harness.join(sid) for sid in "abc"]
    message_id = await harness.ask()
    await harness.reported()

    harness.acknowledge(*members[0], '["first"]')
    harness.hub.remove(members[1][0])
    [first] = (await harness.reported())[message_id]
    harness.acknowledge(*members[2], '["second"]')
    [second] = (await harness.reported())[message_id]

    assert (first[:4], [ack.arguments for ack in first.acks]) == ((3, 1, 1, 0), ['["first"]'])
    assert (second[:4], [ack.arguments for ack in second.acks]) == ((3, 2, 1, 0), ['["second"]'])
    assert (first.acks[0].sid, first.acks[0].user) == ("a", "user of a")
    assert len(harness.hub.asks) == 0


async def test_doubled_late_and_foreign_acknowledgements_change_nothing() -> None:
    harness = AskingHub()
    (made, transport), (other, other_transport) = harness.join("a"), harness.join("b")
    harness.hub.change_rooms(other, {"b"})
    message_id = await harness.ask(seconds=0.0)
    foreign = ack_id(transport)

    harness.hub.asks.acknowledge(other, foreign, "[]", 0)
    harness.hub.asks.acknowledge(made, foreign + 1, "[]", 0)
    assert await harness.reported() == {message_id: [AckReport(1, 0, 0, 0, ())]}
    assert not harness.hub.asks.is_asked(other, foreign)

    harness.hub.asks.expire()
    harness.acknowledge(made, transport)
    harness.hub.remove(made)

    assert (len(harness.hub.asks), made.open_asks, other_transport.events) == (0, None, [])
    another = harness.join("c")
    last = await harness.ask()
    harness.acknowledge(*another)
    harness.acknowledge(*another)
    reports = await harness.reported()
    assert set(reports) == {last}
    assert reports[last][-1].acked == 1


async def test_ask_is_closed_once_as_many_as_wanted_have_acknowledged() -> None:
    harness = AskingHub()
    members = [harness.join(sid) for sid in "abc"]
    message_id = await harness.ask(2)

    for member in members:
        harness.acknowledge(*member)

    [report] = (await harness.reported())[message_id]
    assert report[:4] == (3, 2, 0, 0)
    assert [made.open_asks for made, _ in members] == [None] * 3


async def test_connection_with_too_many_open_acknowledgements_gets_the_message_and_is_not_awaited() -> None:
    harness = AskingHub()
    made, transport = harness.join("a")
    for _ in range(MAX_OPEN):
        await harness.ask()
    await harness.reported()

    message_id = await harness.ask()

    assert len(transport.events) == MAX_OPEN + 1
    assert await harness.reported() == {message_id: [AckReport(1, 0, 0, 1, ())]}
    harness.acknowledge(made, transport)
    harness.acknowledge(made, transport, at=0)
    [[report]] = (await harness.reported()).values()
    assert report.acked == 1
    await harness.ask()
    assert made.open_asks is not None
    assert len(made.open_asks) == MAX_OPEN


async def test_rejected_acknowledgement_is_not_awaited() -> None:
    harness = AskingHub()
    made, transport = harness.join("a")
    message_id = await harness.ask()

    harness.hub.asks.reject(made, ack_id(transport))
    harness.acknowledge(made, transport)

    assert (await harness.reported())[message_id] == [AckReport(1, 0, 0, 1, ())]


async def test_acknowledgements_beyond_the_limit_are_counted_alone() -> None:
    harness = AskingHub(max_ack_bytes=1_000)
    members = [harness.join(str(number)) for number in range(5)]
    message_id = await harness.ask()

    for number, member in enumerate(members):
        harness.acknowledge(*member, '["' + "x" * (600 if number < 2 else 1) + '"]')

    [report] = (await harness.reported())[message_id]
    assert report[:4] == (5, 5, 0, 0)
    assert [ack.sid for ack in report.acks] == ["0"]


async def test_acknowledgements_beyond_what_waits_to_be_reported_are_counted_alone() -> None:
    metrics = MetricFactory()
    asks = Asks(max_bytes=100_000, metrics=metrics, max_unreported_bytes=1_500)
    members = [connection(sid, "ann")[0] for sid in "abcd"]
    large = "[" + "1" * 600 + "]"
    opened = []
    for member in members[:3]:
        message = Message(new_id(), "/", ("room",), "ask", (), reply_to="origin", ack=AckTerms(ALL, 5.0))
        opened.append(asks.begin(message, AckTerms(ALL, 5.0), [member, members[3]]))
        asks.sent(opened[-1], [])
        asks.acknowledge(member, opened[-1].ack_id, large, 1)
    reported = await asks.changed()
    # What is on its way counts until it was sent.
    asks.acknowledge(members[3], opened[0].ack_id, large, 1)
    [later] = (await asks.changed())[opened[0]]
    asks.acknowledge(members[3], opened[1].ack_id, large, 1)
    [last] = (await asks.changed())[opened[1]]

    assert [[(each.acked, len(each.acks)) for each in reported[ask]] for ask in opened] == [
        [(1, 1)],
        [(1, 1)],
        [(1, 0)],
    ]
    assert (later.acked, later.acks) == (2, ())
    assert (last.acked, len(last.acks)) == (2, 1)
    assert 600 < counted(metrics, "emit_asks_bytes")[""] < 1_000


async def test_reports_that_were_not_sent_are_reported_again_before_newer_ones() -> None:
    harness = AskingHub(max_ack_bytes=3 * MAX_REPORT_BYTES)
    members = [harness.join(str(number)) for number in range(7)]
    message_id = await harness.ask()
    await harness.reported()
    large = '["' + "x" * (MAX_REPORT_BYTES // 2 - 200) + '"]'
    for member in members[:3]:
        harness.acknowledge(*member, large)
    [(ask, reports)] = (await harness.hub.asks.changed()).items()
    assert [report.acked for report in reports] == [2, 3]
    harness.acknowledge(*members[3], large)

    harness.hub.asks.put_back(ask, reports[1:])

    again = (await harness.reported())[message_id]
    assert [(report.acked, [ack.sid for ack in report.acks]) for report in again] == [(4, ["2", "3"])]
    # One that is not listed is counted in the last report, whether that is repeated or not.
    for member in members[4:]:
        harness.acknowledge(*member, large)
    [(ask, reports)] = (await harness.hub.asks.changed()).items()
    harness.hub.asks.put_back(ask, reports)
    assert (await harness.reported())[message_id] == reports
    assert [(report.acked, [ack.sid for ack in report.acks]) for report in reports] == [(7, ["4", "5"])]


async def test_large_acknowledgements_are_reported_one_after_the_other() -> None:
    harness = AskingHub()
    members = [harness.join(str(number)) for number in range(6)]
    message_id = await harness.ask()

    for member in members:
        harness.acknowledge(*member, '["' + "x" * (MAX_REPORT_BYTES // 2 - 200) + '"]')

    reports = (await harness.reported())[message_id]
    assert [report.acked for report in reports] == [2, 4, 6]
    assert [ack.sid for report in reports for ack in report.acks] == list("012345")
