"""Receipts: which messages with a ttl a client has received."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.domain.messages import Message, new_id
from gateway.domain.offline_queue import MAX_KEPT, copy_id
from gateway.domain.positions import Position
from gateway.hub import Connection, ConnectionState, Hub, Receipts
from gateway.metrics import MetricFactory
from tests.unit.hub.transports import RecordingTransport, connection, encode


class ReceivedIds:
    """A hub whose receipts are kept."""

    def __init__(self) -> None:
        self.ids: list[tuple[str, str]] = []
        self.hub = Hub(encode, metrics=MetricFactory(), receipts=Receipts(self._received))

    def _received(self, by: Connection, ids: Sequence[str]) -> None:
        self.ids += [(by.sid, id_) for id_ in ids]

    def add(
        self, sid: str, state: ConnectionState = ConnectionState.LIVE, *, has_socket: bool = True
    ) -> RecordingTransport:
        made, transport = connection(sid, state=state, has_socket=has_socket)
        self.hub.add(made, {"user:alice", sid})
        return transport

    async def send(self, *, ttl: int = 60, id_: str | None = None, room: str = "user:alice") -> str:
        message = Message(id_ or new_id(), "/", (room,), "kept", (), ttl_seconds=ttl)
        await self.hub.deliver(message, Position("1-1"))
        return message.id


async def test_message_is_received_once_a_ping_behind_it_is_answered() -> None:
    received = ReceivedIds()
    transport = received.add("s1")
    first = await received.send()
    transport.ping()
    second = await received.send()

    transport.pong()
    assert received.ids == [("s1", first)]
    transport.ping()
    transport.pong()
    assert received.ids == [("s1", first), ("s1", second)]


async def test_pong_to_an_earlier_ping_proves_nothing() -> None:
    received = ReceivedIds()
    transport = received.add("s1")
    transport.ping()
    await received.send()
    transport.pong()
    assert received.ids == []


async def test_connection_without_a_socket_receives_like_others() -> None:
    received = ReceivedIds()
    transport = received.add("s1", has_socket=False)
    sent = [await received.send() for _ in range(3)]
    transport.ping()
    transport.pong()
    assert received.ids == [("s1", id_) for id_ in sent]


async def test_connection_that_is_not_live_has_received_nothing() -> None:
    received = ReceivedIds()
    transports = [
        received.add("s1", ConnectionState.CONNECTING),
        received.add("s2", ConnectionState.REPLAYING),
    ]
    await received.send()
    for transport in transports:
        transport.ping()
        transport.pong()
    assert received.ids == []


async def test_receipt_of_a_copy_is_that_of_the_kept_message() -> None:
    received = ReceivedIds()
    transport = received.add("~s1")
    await received.send(id_=copy_id("first.digest", Position("5-0"), "~s1"), room="~s1")
    transport.ping()
    transport.pong()
    assert received.ids == [("~s1", "first.digest")]


async def test_messages_without_a_ttl_are_not_noted() -> None:
    received = ReceivedIds()
    transport = received.add("s1")
    await received.send(ttl=0)
    assert received.hub.connections["s1"].unread is None
    transport.ping()
    transport.pong()
    assert received.ids == []


async def test_connection_remembers_as_many_messages_as_can_be_kept() -> None:
    received = ReceivedIds()
    transport = received.add("s1")
    sent = [await received.send() for _ in range(MAX_KEPT + 5)]
    transport.ping()
    transport.pong()
    assert [id_ for _, id_ in received.ids] == sent[5:]
    assert received.hub.connections["s1"].unread is None
