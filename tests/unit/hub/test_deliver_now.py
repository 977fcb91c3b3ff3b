"""Delivery in the step that appends a message: which messages, to whom, and what is left to the listener."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.messages import Address, Message, keyed_id, new_id
from gateway.domain.positions import Position
from gateway.hub import ConnectionState, Hub
from gateway.hub.fan_out import GATHER_BYTES, LARGE_BYTES
from gateway.hub.registry import MAX_NOW
from gateway.metrics import MetricFactory
from tests.support.metrics import counted
from tests.unit.hub.transports import RecordingTransport, connection, encode

POSITION = Position("7-0")
ROOM = Address("/", "org:7")


class Room:
    """A hub with connections in one room, each with a socket."""

    def __init__(self, connections: int, *, gather_bytes: int = GATHER_BYTES) -> None:
        self.metrics = MetricFactory()
        self.hub = Hub(encode, metrics=self.metrics, gather_bytes=gather_bytes)
        self.transports = [self.join(f"sid-{number}") for number in range(connections)]

    def join(self, sid: str, state: ConnectionState = ConnectionState.LIVE) -> RecordingTransport:
        made, transport = connection(sid, state=state, has_socket=True)
        self.hub.add(made, {"org:7", sid})
        return transport

    def deliver_now(self, message: Message, *, more: bool = False) -> bool:
        return self.hub.deliver_now(message, POSITION, ROOM, more=more)

    @property
    def written(self) -> int:
        return sum(len(transport.frames) for transport in self.transports)


def news(*, id_: str = "", size: int = 0) -> Message:
    return Message(id_ or new_id(), "/", ("org:7",), "news", (f'"{"x" * size}"',))


async def test_few_connections_get_a_message_at_once_and_it_is_counted() -> None:
    room = Room(MAX_NOW)

    assert room.deliver_now(news())

    assert [transport.events for transport in room.transports] == [["news"]] * MAX_NOW
    assert sum(counted(room.metrics, "deliveries_total").values()) == MAX_NOW


async def test_room_with_more_connections_is_left_to_the_listener() -> None:
    room = Room(MAX_NOW + 1)
    assert not room.deliver_now(news())
    assert room.written == 0


@pytest.mark.parametrize(("connections", "is_delivered"), [(1, True), (2, False)])
async def test_large_message_is_delivered_to_one_connection_only(
    connections: int, is_delivered: bool
) -> None:
    room = Room(connections)
    assert room.deliver_now(news(size=LARGE_BYTES)) is is_delivered
    assert room.written == (connections if is_delivered else 0)


async def test_message_without_a_connection_needs_no_listener() -> None:
    assert Room(0).deliver_now(news())


async def test_message_that_may_be_a_repeat_reaches_no_connection_twice() -> None:
    room = Room(2)
    first, repeat = (news(id_=keyed_id("scope", "key", "body")) for _ in range(2))

    assert room.deliver_now(first)
    assert room.deliver_now(repeat)

    assert room.written == 2


async def test_nothing_is_sent_past_frames_that_are_gathered() -> None:
    room = Room(1)
    await room.hub.deliver(news(), POSITION, more=True)
    assert not room.deliver_now(news())
    assert room.written == 0

    await room.hub.flush()
    assert room.deliver_now(news())
    assert room.written == 2


@pytest.mark.parametrize("connections", [1, 2])
async def test_frames_of_messages_that_follow_each_other_are_written_together(connections: int) -> None:
    room = Room(connections)
    messages = [news() for _ in range(4)]
    room.hub.delivery_timer.start(messages[0])
    for each in messages[:3]:
        assert room.deliver_now(each, more=True)
    assert (room.written, len(room.hub.delivery_timer.started)) == (0, 1)

    await room.hub.deliver(messages[3], POSITION)

    assert room.written == connections
    assert [b"".join(transport.frames).count(b"news") for transport in room.transports] == [4] * connections
    assert not room.hub.delivery_timer.started
    assert sum(counted(room.metrics, "deliveries_total").values()) == 4 * connections


async def test_message_before_a_next_one_is_left_to_the_listener_once_the_frames_are_many() -> None:
    room, gathered = Room(1, gather_bytes=1_000), 0
    while room.deliver_now(news(), more=True):
        gathered += 1
        assert gathered < 1_000, "there is no bound"

    assert gathered > 1
    assert room.written == 0


async def test_turn_whose_slice_is_over_leaves_messages_to_the_listener() -> None:
    """Sends through a transport count as work that the turn still has to do."""
    room = Room(MAX_NOW)
    for transport in room.transports:
        transport.bytes_waiting = 1
    delivered = 0
    while room.deliver_now(news()):
        delivered += 1
        assert delivered < 100, "the slice never ends"

    await asyncio.sleep(0)
    assert room.deliver_now(news()), "the next turn has a slice of its own"


async def test_connection_that_is_not_live_skips_the_message_and_knows_it() -> None:
    room = Room(0)
    room.join("sid", ConnectionState.REPLAYING)

    assert room.deliver_now(news())

    (skipped,) = room.hub.connections.values()
    assert skipped.last_skipped == POSITION


async def test_timed_message_is_observed_and_its_callback_is_called() -> None:
    room, called = Room(1), list[str]()
    message = news()
    room.hub.delivery_timer.start(message)
    room.hub.delivery_callbacks[message.id] = lambda: called.append(message.id)

    assert room.deliver_now(message)

    assert called == [message.id]
    assert not room.hub.delivery_callbacks
    assert not room.hub.delivery_timer.started
